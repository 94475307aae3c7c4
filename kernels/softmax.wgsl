// Softmax of each row.
// Includes: lib/rows.wgsl.
// Contract: lib/rows.wgsl; load_x4 reads, store4 writes.
// Dispatch: a row for each invocation, subgroup or workgroup.
// Numerics: shifted by the row's maximum, which is found in the same pass as the sum (Milakov and Gimelshein, 2018): what
// was summed shrinks where a greater element is met. f32 sums in 4 lanes; fixed order.
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) invocation: u32) {
  let row = row_of(workgroup_index(w), invocation);
  if (row >= numbers.ROWS) { return; }
  let lane = lane_of(invocation);
  var highest = LOWEST;
  var sums = vec4f();
  for (var v = lane; v < numbers.VECTORS; v += LANES) {
    let x = masked(load_x4(element(row, v), inside(v)), inside(v), LOWEST);
    let higher = max(highest, max4(x));
    sums = sums * exp(highest - higher) + masked(exp(x - higher), inside(v), 0.0);
    highest = higher;
  }
  let top = across_max(lane, highest);
  let total = across_sum(lane, vec2f(sum4(sums) * exp(highest - top))).x;
  for (var v = lane; v < numbers.VECTORS; v += LANES) {
    let i = element(row, v);
    store4(i, exp(load_x4(i, inside(v)) - top) / total, inside(v));
  }
}
