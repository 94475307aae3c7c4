// Sum or maximum over the middle axis of [OUTER, LENGTH, INNER], one invocation for 4 neighbouring columns.
// Contract: numbers OUTER, LENGTH, INNER > 1; MAXIMUM; load_x4 reads, store4 writes [OUTER, INNER].
// Dispatch: ceil(OUTER * ceil(INNER / 4) / 64) workgroups of 64.
// Numerics: rows in order.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let groups = (numbers.INNER + 3u) / 4u;
  let id = workgroup_index(w) * 64u + lane;
  if (id >= numbers.OUTER * groups) { return; }
  let outer = id / groups;
  let column = id % groups * 4u;
  let n = min(4u, numbers.INNER - column);
  var total = vec4f(select(0.0, -3.4028234e38, MAXIMUM));
  for (var k = 0u; k < numbers.LENGTH; k++) {
    let x = load_x4((outer * numbers.LENGTH + k) * numbers.INNER + column, n);
    total = select(total + x, max(total, x), MAXIMUM);
  }
  store4(outer * numbers.INNER + column, total, n);
}
