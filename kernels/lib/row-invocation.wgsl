// One invocation a row (plain family where subgroups are missing, and short rows): nothing to share.
const WORKGROUP = 64u;
const LANES = 1u;

fn row_of(index: u32, invocation: u32) -> u32 {
  return index * WORKGROUP + invocation;
}

fn lane_of(invocation: u32) -> u32 {
  return 0u;
}

fn across_sum(lane: u32, x: vec2f) -> vec2f {
  return x;
}

fn across_max(lane: u32, x: f32) -> f32 {
  return x;
}
