// Sum or maximum of each row of [OUTER, LENGTH], one invocation a row (plain family).
// Contract: OUTER, LENGTH, INNER = 1, MAXIMUM; load_x4 reads, store1 writes one value a row.
// Dispatch: ceil(OUTER / 64) workgroups of 64.
// Numerics: 4 partial results side by side, joined at the end; fixed order.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_index(w) * 64u + lane;
  if (row >= OUTER) { return; }
  let start = row * LENGTH;
  var total = vec4f(select(0.0, -3.4028234e38, MAXIMUM));
  let whole = LENGTH / 4u * 4u;
  for (var i = 0u; i < whole; i += 4u) {
    let x = load_x4(start + i, 4u);
    total = select(total + x, max(total, x), MAXIMUM);
  }
  var result = select((total.x + total.y) + (total.z + total.w), max(max(total.x, total.y), max(total.z, total.w)), MAXIMUM);
  if (LENGTH % 4u != 0u) {
    let rest = LENGTH - whole;
    let x = load_x4(start + whole, rest);
    for (var i = 0u; i < rest; i++) { result = select(result + x[i], max(result, x[i]), MAXIMUM); }
  }
  store1(row, result);
}
