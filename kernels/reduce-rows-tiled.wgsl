// Sum or maximum of each row of [OUTER, LENGTH], one workgroup a row (tiled family).
// Includes: lib/across.wgsl.
// Contract: OUTER, LENGTH, INNER = 1, MAXIMUM; load_x1 reads, store1 writes one value a row.
// Dispatch: OUTER workgroups of 64.
// Numerics: each invocation takes every 64th element, then a tree in workgroup memory; fixed order.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_index(w);
  if (row >= OUTER) { return; }
  var total = select(0.0, -3.4028234e38, MAXIMUM);
  for (var i = lane; i < LENGTH; i += 64u) {
    let x = load_x1(row * LENGTH + i);
    total = select(total + x, max(total, x), MAXIMUM);
  }
  if (MAXIMUM) { total = across_max(lane, total); } else { total = across_sum(lane, vec2f(total)).x; }
  if (lane == 0u) { store1(row, total); }
}
