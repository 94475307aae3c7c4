// Softmax of each row.
// Includes: lib/rows.wgsl.
// Contract: lib/rows.wgsl; load_x4 reads, store4 writes.
// Dispatch: a row for each invocation, subgroup or workgroup.
// Numerics: shifted by the row's maximum; f32 sums in 4 lanes; fixed order.
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) invocation: u32) {
  let row = row_of(workgroup_index(w), invocation);
  if (row >= numbers.ROWS) { return; }
  let lane = lane_of(invocation);
  var highest = vec4f(LOWEST);
  for (var v = lane; v < numbers.VECTORS; v += LANES) {
    highest = max(highest, masked(load_x4(element(row, v), inside(v)), inside(v), LOWEST));
  }
  let top = across_max(lane, max4(highest));
  var sums = vec4f();
  for (var v = lane; v < numbers.VECTORS; v += LANES) {
    sums += masked(exp(load_x4(element(row, v), inside(v)) - top), inside(v), 0.0);
  }
  let total = across_sum(lane, vec2f(sum4(sums))).x;
  for (var v = lane; v < numbers.VECTORS; v += LANES) {
    let i = element(row, v);
    store4(i, exp(load_x4(i, inside(v)) - top) / total, inside(v));
  }
}
