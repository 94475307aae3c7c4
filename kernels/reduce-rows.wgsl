// Sum or maximum of each row.
// Includes: lib/rows.wgsl.
// Contract: lib/rows.wgsl, MAXIMUM; load_x4 reads, store1 writes one value a row.
// Dispatch: a row for each invocation, subgroup or workgroup.
// Numerics: f32, 4 partial results side by side in each invocation, joined at the end; fixed order.
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) invocation: u32) {
  let row = row_of(workgroup_index(w), invocation);
  if (row >= numbers.ROWS) { return; }
  let lane = lane_of(invocation);
  var total = vec4f(select(0.0, LOWEST, MAXIMUM));
  for (var v = lane; v < numbers.VECTORS; v += LANES) {
    let x = load_x4(element(row, v), inside(v));
    if (MAXIMUM) { total = max(total, masked(x, inside(v), LOWEST)); } else { total += masked(x, inside(v), 0.0); }
  }
  var result = 0f;
  if (MAXIMUM) { result = across_max(lane, max4(total)); } else { result = across_sum(lane, vec2f(sum4(total))).x; }
  if (lane == 0u) { store1(row, result); }
}
