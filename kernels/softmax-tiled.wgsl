// Softmax of each row of [ROWS, LENGTH], one workgroup a row (tiled family).
// Contract: ROWS, LENGTH; load_x1 reads, store1 writes.
// Dispatch: ROWS workgroups of 64.
// Numerics: shifted by the row's maximum; f32, each invocation takes every 64th element, then a tree; fixed order.
var<workgroup> partial: array<f32, 64>;

// The greatest over all invocations, for all of them.
fn across_max(lane: u32, x: f32) -> f32 {
  partial[lane] = x;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half >>= 1u) {
    if (lane < half) { partial[lane] = max(partial[lane], partial[lane + half]); }
    workgroupBarrier();
  }
  return partial[0];
}

// The sum over all invocations, for all of them.
fn across_sum(lane: u32, x: f32) -> f32 {
  workgroupBarrier();
  partial[lane] = x;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half >>= 1u) {
    if (lane < half) { partial[lane] += partial[lane + half]; }
    workgroupBarrier();
  }
  return partial[0];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_index(w);
  if (row >= ROWS) { return; }
  let start = row * LENGTH;
  var highest = -3.4028234e38;
  for (var i = lane; i < LENGTH; i += 64u) { highest = max(highest, load_x1(start + i)); }
  let top = across_max(lane, highest);
  var sum = 0f;
  for (var i = lane; i < LENGTH; i += 64u) { sum += exp(load_x1(start + i) - top); }
  let total = across_sum(lane, sum);
  for (var i = lane; i < LENGTH; i += 64u) { store1(start + i, exp(load_x1(start + i) - top) / total); }
}
