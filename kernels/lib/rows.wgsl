// Rows: the groups of channels of [ITEMS, POSITIONS, CHANNELS], each over all positions of an item; with one position and
// one group simply the last axis. A row is read as VECTORS vectors of up to 4 neighbouring channels.
// Contract: numbers ROWS = ITEMS * GROUPS, POSITIONS, CHANNELS, SIZE = CHANNELS / GROUPS, LENGTH = POSITIONS * SIZE and
// VECTORS; constants GROUPS, SIZE4 = ceil(SIZE / 4), RAGGED (SIZE is no multiple of 4), FLAT (one position and one group).
// Which invocations share a row, and how they add up, is in one of lib/row-invocation.wgsl, lib/row-subgroup.wgsl and
// lib/row-workgroup.wgsl, as the rule chooses.
const LOWEST = -3.4028234e38;

// Where vector `v` of a row starts.
fn element(row: u32, v: u32) -> u32 {
  if (FLAT) { return row * numbers.CHANNELS + 4u * v; }
  return (row / GROUPS * numbers.POSITIONS + v / SIZE4) * numbers.CHANNELS + row % GROUPS * numbers.SIZE + 4u * (v % SIZE4);
}

// How many of its 4 elements belong to the row.
fn inside(v: u32) -> u32 {
  if (!RAGGED) { return 4u; }
  if (FLAT) { return min(4u, numbers.SIZE - 4u * v); }
  return min(4u, numbers.SIZE - 4u * (v % SIZE4));
}

// `x` with something else in place of what is outside.
fn masked(x: vec4f, n: u32, outside: f32) -> vec4f {
  if (!RAGGED) { return x; }
  return select(vec4f(outside), x, vec4u(0u, 1u, 2u, 3u) < vec4u(n));
}

fn sum4(x: vec4f) -> f32 {
  return (x.x + x.y) + (x.z + x.w);
}

fn max4(x: vec4f) -> f32 {
  return max(max(x.x, x.y), max(x.z, x.w));
}
