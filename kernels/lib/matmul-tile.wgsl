// Which tile of the product a workgroup computes.
// Contract: numbers BATCH, M, N, and ROWS x COLS, the size of a tile.
struct Tile {
  batch: u32,
  row: u32,
  col: u32,
}

// Tiles row by row, product after product; `batch` reaches BATCH beyond the last one.
fn tile_of(index: u32) -> Tile {
  let across = (numbers.N + COLS - 1u) / COLS;
  let tiles = (numbers.M + ROWS - 1u) / ROWS * across;
  return Tile(index / tiles, index % tiles / across * ROWS, index % across * COLS);
}
