// What all attention kernels share: how tokens and heads lie in [BATCH, tokens, HEADS * DEPTH], where q and the output have
// QUERIES tokens, k and v KEYS.
// Contract: number BATCH; QUERIES, KEYS, HEADS, DEPTH, DEPTH4 = ceil(DEPTH / 4), SCALE, CAUSAL (query i sees keys 0 ... i only),
// and ROWS, the tokens of a workgroup. A head is counted over the batch too, 0 <= head < BATCH * HEADS; a head's channels
// are read as DEPTH4 columns of 4. The kernel says which tokens its workgroups share out, OWN, and which all of them go
// through, MET: QUERIES and KEYS, or the other way round.
// Dispatch: BATCH * HEADS * TILES workgroups.
const WIDTH = HEADS * DEPTH;
const TILES = (OWN + ROWS - 1u) / ROWS;

// Channels of a vec4 column that are inside the head.
fn valid(column: u32) -> u32 {
  return min(4u, DEPTH - 4u * column);
}

// Where a head's channels of the first own token start.
fn own_start(head: u32) -> u32 {
  return head / HEADS * OWN * WIDTH + head % HEADS * DEPTH;
}

// Where a head's channels of the first token that is met start.
fn met_start(head: u32) -> u32 {
  return head / HEADS * MET * WIDTH + head % HEADS * DEPTH;
}

// Where an own token's channels start; tokens beyond the last repeat it.
fn own_row(base: u32, token: u32) -> u32 {
  return base + min(token, OWN - 1u) * WIDTH;
}

// Where the channels of a token that is met start; tokens beyond the last repeat it.
fn met_row(base: u32, token: u32) -> u32 {
  return base + min(token, MET - 1u) * WIDTH;
}
