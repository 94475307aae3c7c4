enable subgroups;

// A subgroup of exactly 8 lanes a row, 8 of them a workgroup (plain family): neighbouring lanes read neighbouring
// vectors. A workgroup costs software Vulkan as much as some forty vectors, so rows come several to one.
const WORKGROUP = 64u;
const LANES = 8u;

fn row_of(index: u32, invocation: u32) -> u32 {
  return index * (WORKGROUP / LANES) + invocation / LANES;
}

fn lane_of(invocation: u32) -> u32 {
  return invocation % LANES;
}

// Sum over the lanes, for all of them.
fn across_sum(lane: u32, x: vec2f) -> vec2f {
  let pair = x + subgroupShuffleXor(x, 1u);
  let quad = pair + subgroupShuffleXor(pair, 2u);
  return quad + subgroupShuffleXor(quad, 4u);
}

fn across_max(lane: u32, x: f32) -> f32 {
  let pair = max(x, subgroupShuffleXor(x, 1u));
  let quad = max(pair, subgroupShuffleXor(pair, 2u));
  return max(quad, subgroupShuffleXor(quad, 4u));
}
