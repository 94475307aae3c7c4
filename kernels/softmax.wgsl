// Softmax of each row of [ROWS, LENGTH], one invocation a row (plain family).
// Contract: ROWS, LENGTH; load_x4 reads, store4 writes.
// Dispatch: ceil(ROWS / 64) workgroups of 64.
// Numerics: shifted by the row's maximum; f32 sum in 4 lanes.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_index(w) * 64u + lane;
  if (row >= ROWS) { return; }
  let start = row * LENGTH;
  let whole = LENGTH / 4u * 4u;
  let rest = LENGTH - whole;
  var highest = vec4f(-3.4028234e38);
  for (var i = 0u; i < whole; i += 4u) { highest = max(highest, load_x4(start + i, 4u)); }
  var top = max(max(highest.x, highest.y), max(highest.z, highest.w));
  if (LENGTH % 4u != 0u) {
    let x = load_x4(start + whole, rest);
    for (var k = 0u; k < rest; k++) { top = max(top, x[k]); }
  }
  var sums = vec4f();
  for (var i = 0u; i < whole; i += 4u) { sums += exp(load_x4(start + i, 4u) - top); }
  var total = (sums.x + sums.y) + (sums.z + sums.w);
  if (LENGTH % 4u != 0u) {
    let x = exp(load_x4(start + whole, rest) - top);
    for (var k = 0u; k < rest; k++) { total += x[k]; }
  }
  for (var i = 0u; i < LENGTH; i += 4u) {
    let n = min(4u, LENGTH - i);
    store4(start + i, exp(load_x4(start + i, n) - top) / total, n);
  }
}
