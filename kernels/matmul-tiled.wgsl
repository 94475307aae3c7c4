// C[b,m,n] = sum over k of A[b,m,k] B[b,k,n] through workgroup memory (tiled family: discrete GPUs).
// Includes: lib/matmul-tile.wgsl, lib/matmul-product.wgsl.
// Contract: ROWS, COLS (SIDE times 4 or 8), SIDE, DEPTH (a multiple of 4), STAGES (1 or 2), numbers BATCH, M, N,
// A_BATCH_STRIDE, B_BATCH_STRIDE (0 broadcasts), TRANSPOSE_A (A is stored [b, K, M]), TRANSPOSE_B (B is stored [b, N, K]);
// PRODUCTS, inner_of, read_a4, read_b4 of lib/matmul-one.wgsl or lib/matmul-two.wgsl read, store4 writes. Extents along
// memory are multiples of 4.
// Mapping: a workgroup of SIDE x SIDE invocations owns ROWS x COLS of C, an invocation one or two blocks of 4 rows by one or
// two of 4 columns. Each DEPTH steps of k the workgroup brings a tile of A and one of B into its memory, while the products
// of the tiles before still run: what comes next waits in registers, and with two STAGES in a second pair of tiles, which
// saves a barrier. All loads are vectors along memory, and tiles keep the stored orientation, since a block is transposed
// in registers. Rows of B's tile have a vector of padding, and transposed it lies by every fourth column, so that neither
// reading nor writing meets a bank twice.
// Dispatch: BATCH * ceil(M / ROWS) * ceil(N / COLS) workgroups of SIDE * SIDE, columns fastest.
// Numerics: one chain of f32 fma over k = 0 ... K - 1 an element, of one product and then the other, so the result does not
// depend on the tiling.
const THREADS = SIDE * SIDE;
const TALL = ROWS == 8u * SIDE;
const WIDE = COLS == 8u * SIDE;
// Vectors of a tile along DEPTH, and across it.
const LONG = DEPTH / 4u;
const DOWN = ROWS / 4u;
const ACROSS = COLS / 4u;
const SIZE_A = ROWS * LONG;
const SIZE_B = COLS * LONG;
const FETCH_A = (SIZE_A + THREADS - 1u) / THREADS;
const FETCH_B = (SIZE_B + THREADS - 1u) / THREADS;
// The distance of rows of B's tile: those of k or, where B is stored transposed, those of n.
const PITCH = select(ACROSS, LONG, TRANSPOSE_B) + 1u;
const ROOM_B = select(DEPTH, COLS, TRANSPOSE_B) * PITCH;

var<workgroup> tile_a: array<vec4f, STAGES * SIZE_A>;
var<workgroup> tile_b: array<vec4f, STAGES * ROOM_B>;

// Vector i of A's tile at A[row, k], 0 outside A: 4 columns of row i / LONG or, stored transposed, 4 rows of column i / DOWN.
fn fetch_a(which: u32, base: u32, row: u32, k: u32, i: u32) -> vec4f {
  let m = row + select(i / LONG, i % DOWN * 4u, TRANSPOSE_A);
  let c = k + select(i % LONG * 4u, i / DOWN, TRANSPOSE_A);
  if (i >= SIZE_A || m >= numbers.M || c >= inner_of(which)) { return vec4f(); }
  if (TRANSPOSE_A) { return read_a4(which, base + c * numbers.M + m, 4u); }
  return read_a4(which, base + m * inner_of(which) + c, 4u);
}

// Vector i of B's tile at B[k, col], 0 outside B: 4 columns of row i / ACROSS or, stored transposed, 4 rows of column i / LONG.
fn fetch_b(which: u32, base: u32, k: u32, col: u32, i: u32) -> vec4f {
  let c = k + select(i / ACROSS, i % LONG * 4u, TRANSPOSE_B);
  let n = col + select(i % ACROSS * 4u, i / LONG, TRANSPOSE_B);
  if (i >= SIZE_B || c >= inner_of(which) || n >= numbers.N) { return vec4f(); }
  if (TRANSPOSE_B) { return read_b4(which, base + n * inner_of(which) + c, 4u); }
  return read_b4(which, base + c * numbers.N + n, 4u);
}

// Where vector i of B's tile lies in it.
fn place_b(i: u32) -> u32 {
  if (TRANSPOSE_B) {
    let n = i / LONG;
    return (n % 4u * ACROSS + n / 4u) * PITCH + i % LONG;
  }
  return i / ACROSS * PITCH + i % ACROSS;
}

// Rows 4 group ... 4 group + 3 of A's tile, columns k ... k + 3.
fn block_a(start: u32, group: u32, k: u32) -> mat4x4f {
  if (TRANSPOSE_A) {
    let i = start + k * DOWN + group;
    return transpose(mat4x4f(tile_a[i], tile_a[i + DOWN], tile_a[i + 2u * DOWN], tile_a[i + 3u * DOWN]));
  }
  let i = start + 4u * group * LONG + k / 4u;
  return mat4x4f(tile_a[i], tile_a[i + LONG], tile_a[i + 2u * LONG], tile_a[i + 3u * LONG]);
}

// Rows k ... k + 3 of B's tile, columns 4 group ... 4 group + 3.
fn block_b(start: u32, group: u32, k: u32) -> mat4x4f {
  if (TRANSPOSE_B) {
    let i = start + group * PITCH + k / 4u;
    let next = ACROSS * PITCH;
    return transpose(mat4x4f(tile_b[i], tile_b[i + next], tile_b[i + 2u * next], tile_b[i + 3u * next]));
  }
  let i = start + k * PITCH + group;
  return mat4x4f(tile_b[i], tile_b[i + PITCH], tile_b[i + 2u * PITCH], tile_b[i + 3u * PITCH]);
}

// The rows move up through the registers past one store: the epilogue inlined for each row would compile slowly.
fn store_block(batch: u32, m: u32, n: u32, block: mat4x4f) {
  if (m >= numbers.M || n >= numbers.N) { return; }
  var rows = block;
  let count = min(4u, numbers.M - m);
  for (var r = 0u; r < count; r++) {
    store4((batch * numbers.M + m + r) * numbers.N + n, rows[0], min(4u, numbers.N - n));
    rows = mat4x4f(rows[1], rows[2], rows[3], vec4f());
  }
}

// The one, two or four blocks of an invocation.
struct Sums {
  c00: mat4x4f,
  c01: mat4x4f,
  c10: mat4x4f,
  c11: mat4x4f,
}

// Adds a product to the blocks of invocation `id`.
fn accumulate(which: u32, tile: Tile, id: u32, c: ptr<function, Sums>) {
  let base_a = tile.batch * numbers.A_BATCH_STRIDE;
  let base_b = tile.batch * numbers.B_BATCH_STRIDE;
  let group_row = id / SIDE;
  let group_col = id % SIDE;
  var next_a = array<vec4f, FETCH_A>();
  var next_b = array<vec4f, FETCH_B>();
  for (var f = 0u; f < FETCH_A; f++) { next_a[f] = fetch_a(which, base_a, tile.row, 0u, id + f * THREADS); }
  for (var f = 0u; f < FETCH_B; f++) { next_b[f] = fetch_b(which, base_b, 0u, tile.col, id + f * THREADS); }
  for (var k = 0u; k < inner_of(which); k += DEPTH) {
    let stage = k / DEPTH % STAGES;
    let start_a = stage * SIZE_A;
    let start_b = stage * ROOM_B;
    // With two stages nobody reads this one any more: all have passed the last barrier.
    if (STAGES == 1u) { workgroupBarrier(); }
    for (var f = 0u; f < FETCH_A; f++) {
      let i = id + f * THREADS;
      if (i < SIZE_A) { tile_a[start_a + i] = next_a[f]; }
    }
    for (var f = 0u; f < FETCH_B; f++) {
      let i = id + f * THREADS;
      if (i < SIZE_B) { tile_b[start_b + place_b(i)] = next_b[f]; }
    }
    workgroupBarrier();
    for (var f = 0u; f < FETCH_A; f++) { next_a[f] = fetch_a(which, base_a, tile.row, k + DEPTH, id + f * THREADS); }
    for (var f = 0u; f < FETCH_B; f++) { next_b[f] = fetch_b(which, base_b, k + DEPTH, tile.col, id + f * THREADS); }
    for (var j = 0u; j < DEPTH; j += 4u) {
      let a0 = block_a(start_a, group_row, j);
      let b0 = block_b(start_b, group_col, j);
      (*c).c00 = product(a0, b0, (*c).c00);
      var a1 = a0;
      if (TALL) {
        a1 = block_a(start_a, group_row + SIDE, j);
        (*c).c10 = product(a1, b0, (*c).c10);
      }
      if (WIDE) {
        let b1 = block_b(start_b, group_col + SIDE, j);
        (*c).c01 = product(a0, b1, (*c).c01);
        if (TALL) { (*c).c11 = product(a1, b1, (*c).c11); }
      }
    }
  }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) id: u32) {
  let tile = tile_of(workgroup_index(w));
  if (tile.batch >= numbers.BATCH) { return; }
  var c = Sums();
  accumulate(0u, tile, id, &c);
  if (PRODUCTS == 2u) {
    // With two stages the last tiles may still be read.
    if (STAGES == 2u) { workgroupBarrier(); }
    accumulate(1u, tile, id, &c);
  }
  let m = tile.row + id / SIDE * 4u;
  let n = tile.col + id % SIDE * 4u;
  store_block(tile.batch, m, n, c.c00);
  if (TALL) { store_block(tile.batch, m + 4u * SIDE, n, c.c10); }
  if (WIDE) {
    store_block(tile.batch, m, n + 4u * SIDE, c.c01);
    if (TALL) { store_block(tile.batch, m + 4u * SIDE, n + 4u * SIDE, c.c11); }
  }
}
