// Gradient of softmax by rows: p * (g - sum of g * p), where p is the softmax.
// Includes: lib/rows.wgsl.
// Contract: lib/rows.wgsl; load_g_p4 reads the gradient and the softmax at once, store4 writes.
// Dispatch: a row for each invocation, subgroup or workgroup.
// Numerics: f32 sums in 4 lanes; fixed order.
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) invocation: u32) {
  let row = row_of(workgroup_index(w), invocation);
  if (row >= numbers.ROWS) { return; }
  let lane = lane_of(invocation);
  var sums = vec4f();
  for (var v = lane; v < numbers.VECTORS; v += LANES) {
    let both = load_g_p4(element(row, v), inside(v));
    sums += masked(both[0] * both[1], inside(v), 0.0);
  }
  let total = across_sum(lane, vec2f(sum4(sums))).x;
  for (var v = lane; v < numbers.VECTORS; v += LANES) {
    let i = element(row, v);
    let both = load_g_p4(i, inside(v));
    store4(i, both[1] * (both[0] - total), inside(v));
  }
}
