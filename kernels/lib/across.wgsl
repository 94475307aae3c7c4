// Sum and maximum over the 64 invocations of a workgroup, for all of them: a tree in workgroup memory, fixed order.
// Every invocation must call them, in uniform control flow.
var<workgroup> partial: array<vec2f, 64>;

// Two sums at once.
fn across_sum(lane: u32, x: vec2f) -> vec2f {
  workgroupBarrier();
  partial[lane] = x;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half >>= 1u) {
    if (lane < half) { partial[lane] += partial[lane + half]; }
    workgroupBarrier();
  }
  return partial[0];
}

fn across_max(lane: u32, x: f32) -> f32 {
  workgroupBarrier();
  partial[lane] = vec2f(x);
  workgroupBarrier();
  for (var half = 32u; half > 0u; half >>= 1u) {
    if (lane < half) { partial[lane] = max(partial[lane], partial[lane + half]); }
    workgroupBarrier();
  }
  return partial[0].x;
}
