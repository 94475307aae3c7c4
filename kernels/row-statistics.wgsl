// Mean and reciprocal standard deviation of each row.
// Includes: lib/rows.wgsl, lib/moments.wgsl.
// Contract: lib/moments.wgsl; store1 writes [ROWS, 2].
// Dispatch: a row for each invocation, subgroup or workgroup.
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) invocation: u32) {
  let row = row_of(workgroup_index(w), invocation);
  if (row >= numbers.ROWS) { return; }
  let lane = lane_of(invocation);
  let result = moments(row, lane);
  if (lane == 0u) {
    store1(row * 2u, result.x);
    store1(row * 2u + 1u, result.y);
  }
}
