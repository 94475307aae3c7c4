// Softmax of each row of [ROWS, LENGTH], one workgroup a row (tiled family).
// Includes: lib/across.wgsl.
// Contract: ROWS, LENGTH; load_x1 reads, store1 writes.
// Dispatch: ROWS workgroups of 64.
// Numerics: shifted by the row's maximum; f32, each invocation takes every 64th element, then a tree; fixed order.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_index(w);
  if (row >= ROWS) { return; }
  let start = row * LENGTH;
  var highest = -3.4028234e38;
  for (var i = lane; i < LENGTH; i += 64u) { highest = max(highest, load_x1(start + i)); }
  let top = across_max(lane, highest);
  var sum = 0f;
  for (var i = lane; i < LENGTH; i += 64u) { sum += exp(load_x1(start + i) - top); }
  let total = across_sum(lane, vec2f(sum)).x;
  for (var i = lane; i < LENGTH; i += 64u) { store1(start + i, exp(load_x1(start + i) - top) / total); }
}
