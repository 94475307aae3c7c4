// Mean and reciprocal standard deviation of each row of [ROWS, LENGTH], one workgroup a row (tiled family).
// Includes: lib/across.wgsl.
// Contract: ROWS, LENGTH, EPSILON; load_x1 reads, store1 writes [ROWS, 2].
// Dispatch: ROWS workgroups of 64.
// Numerics: two passes, f32; the variance is of the centred values, biased; fixed order.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_index(w);
  if (row >= ROWS) { return; }
  let start = row * LENGTH;
  var sum = 0f;
  for (var i = lane; i < LENGTH; i += 64u) { sum += load_x1(start + i); }
  let mean = across_sum(lane, vec2f(sum)).x / f32(LENGTH);
  var squares = 0f;
  for (var i = lane; i < LENGTH; i += 64u) {
    let d = load_x1(start + i) - mean;
    squares += d * d;
  }
  let variance = across_sum(lane, vec2f(squares)).x / f32(LENGTH);
  if (lane == 0u) {
    store1(row * 2u, mean);
    store1(row * 2u + 1u, inverseSqrt(variance + EPSILON));
  }
}
