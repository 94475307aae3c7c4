// Each row less its mean, over its standard deviation.
// Includes: lib/rows.wgsl, lib/moments.wgsl.
// Contract: lib/moments.wgsl; store4 writes, store_second1 the mean and reciprocal deviation [ROWS, 2].
// Dispatch: a row for each invocation, subgroup or workgroup.
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) invocation: u32) {
  let row = row_of(workgroup_index(w), invocation);
  if (row >= numbers.ROWS) { return; }
  let lane = lane_of(invocation);
  let result = moments(row, lane);
  // Twice read already, the row comes from the cache.
  for (var v = lane; v < numbers.VECTORS; v += LANES) {
    let i = element(row, v);
    store4(i, (load_x4(i, inside(v)) - result.x) * result.y, inside(v));
  }
  if (lane == 0u) {
    store_second1(row * 2u, result.x);
    store_second1(row * 2u + 1u, result.y);
  }
}
