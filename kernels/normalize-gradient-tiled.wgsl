// Gradient of row normalisation: rstd * (g - mean(g) - xhat * mean(g * xhat)), one workgroup a row (tiled family).
// Includes: lib/across.wgsl.
// Contract: ROWS, LENGTH; load_g1, load_x1, load_statistics1 (mean, rstd of each row) read, store1 writes.
// Dispatch: ROWS workgroups of 64.
// Numerics: f32, each invocation takes every 64th element, then a tree; fixed order.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_index(w);
  if (row >= ROWS) { return; }
  let start = row * LENGTH;
  let mean = load_statistics1(row * 2u);
  let rstd = load_statistics1(row * 2u + 1u);
  var sums = vec2f();
  for (var i = lane; i < LENGTH; i += 64u) {
    let g = load_g1(start + i);
    sums += vec2f(g, g * ((load_x1(start + i) - mean) * rstd));
  }
  let means = across_sum(lane, sums) / f32(LENGTH);
  for (var i = lane; i < LENGTH; i += 64u) {
    let xhat = (load_x1(start + i) - mean) * rstd;
    store1(start + i, rstd * (load_g1(start + i) - means.x - xhat * means.y));
  }
}
