// Gradient of row normalisation: rstd * (g - mean(g) - xhat * mean(g * xhat)), without mean(g) where not CENTRED.
// Includes: lib/rows.wgsl.
// Contract: lib/rows.wgsl, CENTRED; load_g_x4 reads the gradient and the row at once, load_statistics1 mean and rstd of each
// row; store4 writes.
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
    let both = load_g_x4(element(row, v), inside(v));
    let g = masked(both[0], inside(v), 0.0);
    sums += g;
    products += g * ((both[1] - mean) * rstd);
  }
  let means = across_sum(lane, vec2f(sum4(sums), sum4(products))) / f32(numbers.LENGTH);
  for (var v = lane; v < numbers.VECTORS; v += LANES) {
    let i = element(row, v);
    let both = load_g_x4(i, inside(v));
    store4(i, rstd * (both[0] - select(0f, means.x, CENTRED) - (both[1] - mean) * rstd * means.y), inside(v));
  }
}
