// Mean and reciprocal standard deviation of each row of [ROWS, LENGTH], one invocation a row (plain family).
// Contract: ROWS, LENGTH, EPSILON; load_x4 reads, store1 writes [ROWS, 2].
// Dispatch: ceil(ROWS / 64) workgroups of 64.
// Numerics: two passes, f32; the variance is of the centred values, biased.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_index(w) * 64u + lane;
  if (row >= ROWS) { return; }
  let start = row * LENGTH;
  let whole = LENGTH / 4u * 4u;
  let rest = LENGTH - whole;
  var sums = vec4f();
  for (var i = 0u; i < whole; i += 4u) { sums += load_x4(start + i, 4u); }
  var total = (sums.x + sums.y) + (sums.z + sums.w);
  if (LENGTH % 4u != 0u) {
    let x = load_x4(start + whole, rest);
    total += (x.x + x.y) + (x.z + x.w);
  }
  let mean = total / f32(LENGTH);
  var squares = vec4f();
  for (var i = 0u; i < whole; i += 4u) {
    let d = load_x4(start + i, 4u) - mean;
    squares += d * d;
  }
  var variance = (squares.x + squares.y) + (squares.z + squares.w);
  if (LENGTH % 4u != 0u) {
    let x = load_x4(start + whole, rest);
    for (var k = 0u; k < rest; k++) { variance += (x[k] - mean) * (x[k] - mean); }
  }
  store1(row * 2u, mean);
  store1(row * 2u + 1u, inverseSqrt(variance / f32(LENGTH) + EPSILON));
}
