// What all attention kernels share: how tokens and heads lie in [BATCH, TOKENS, HEADS * DEPTH].
// Contract: BATCH, TOKENS, HEADS, DEPTH, DEPTH4 = ceil(DEPTH / 4), SCALE, and ROWS, the tokens of a workgroup. A head is
// counted over the batch too, 0 <= head < BATCH * HEADS; a head's channels are read as DEPTH4 columns of 4.
// Dispatch: BATCH * HEADS * TILES workgroups.
const WIDTH = HEADS * DEPTH;
const TILES = (TOKENS + ROWS - 1u) / ROWS;

// Channels of a vec4 column that are inside the head.
fn valid(column: u32) -> u32 {
  return min(4u, DEPTH - 4u * column);
}

// Where a head's channels of the first token start.
fn head_start(head: u32) -> u32 {
  return head / HEADS * TOKENS * WIDTH + head % HEADS * DEPTH;
}

// Where a token's channels start; tokens beyond the last repeat it.
fn token_row(base: u32, token: u32) -> u32 {
  return base + min(token, TOKENS - 1u) * WIDTH;
}
