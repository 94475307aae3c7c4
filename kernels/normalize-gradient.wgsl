// Gradient of row normalisation: rstd * (g - mean(g) - xhat * mean(g * xhat)), one invocation a row (plain family).
// Contract: ROWS, LENGTH; load_g4, load_x4, load_statistics1 (mean, rstd of each row) read, store4 writes.
// Dispatch: ceil(ROWS / 64) workgroups of 64.
// Numerics: f32 sums in 4 lanes.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_index(w) * 64u + lane;
  if (row >= ROWS) { return; }
  let start = row * LENGTH;
  let mean = load_statistics1(row * 2u);
  let rstd = load_statistics1(row * 2u + 1u);
  var sums = vec4f();
  var products = vec4f();
  for (var i = 0u; i < LENGTH; i += 4u) {
    let n = min(4u, LENGTH - i);
    let g = load_g4(start + i, n);
    sums += g;
    products += g * ((load_x4(start + i, n) - mean) * rstd);
  }
  let g_mean = ((sums.x + sums.y) + (sums.z + sums.w)) / f32(LENGTH);
  let product_mean = ((products.x + products.y) + (products.z + products.w)) / f32(LENGTH);
  for (var i = 0u; i < LENGTH; i += 4u) {
    let n = min(4u, LENGTH - i);
    let xhat = (load_x4(start + i, n) - mean) * rstd;
    store4(start + i, rstd * (load_g4(start + i, n) - g_mean - xhat * product_mean), n);
  }
}
