// A workgroup of LANES a row (tiled family), a power of two: a tree in workgroup memory, fixed order. Every invocation must
// call the sums, in uniform control flow.
const WORKGROUP = LANES;

var<workgroup> partial: array<vec2f, LANES>;

fn row_of(index: u32, invocation: u32) -> u32 {
  return index;
}

fn lane_of(invocation: u32) -> u32 {
  return invocation;
}

// Two sums at once over the lanes, for all of them.
fn across_sum(lane: u32, x: vec2f) -> vec2f {
  workgroupBarrier();
  partial[lane] = x;
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half >>= 1u) {
    if (lane < half) { partial[lane] += partial[lane + half]; }
    workgroupBarrier();
  }
  return partial[0];
}

fn across_max(lane: u32, x: f32) -> f32 {
  workgroupBarrier();
  partial[lane] = vec2f(x);
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half >>= 1u) {
    if (lane < half) { partial[lane] = max(partial[lane], partial[lane + half]); }
    workgroupBarrier();
  }
  return partial[0].x;
}
