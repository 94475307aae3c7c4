// Gradient of row normalisation: rstd * (g - mean(g) - xhat * mean(g * xhat)), without mean(g) where not CENTRED.
// Includes: lib/rows.wgsl.
// Contract: lib/rows.wgsl, CENTRED; load_g4, load_x4, load_statistics1 (mean, rstd of each row) read, store4 writes.
// Dispatch: a row for each invocation, subgroup or workgroup.
// Numerics: f32 sums in 4 lanes; fixed order.
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) invocation: u32) {
  let row = row_of(workgroup_index(w), invocation);
  if (row >= numbers.ROWS) { return; }
  let lane = lane_of(invocation);
  let mean = load_statistics1(row * 2u);
  let rstd = load_statistics1(row * 2u + 1u);
  var sums = vec4f();
  var products = vec4f();
  for (var v = lane; v < numbers.VECTORS; v += LANES) {
    let i = element(row, v);
    let g = masked(load_g4(i, inside(v)), inside(v), 0.0);
    sums += g;
    products += g * ((load_x4(i, inside(v)) - mean) * rstd);
  }
  let means = across_sum(lane, vec2f(sum4(sums), sum4(products))) / f32(numbers.LENGTH);
  for (var v = lane; v < numbers.VECTORS; v += LANES) {
    let i = element(row, v);
    let xhat = (load_x4(i, inside(v)) - mean) * rstd;
    store4(i, rstd * (load_g4(i, inside(v)) - select(0f, means.x, CENTRED) - xhat * means.y), inside(v));
  }
}
