// Sum or maximum over the middle axis of [OUTER, LENGTH, INNER]: LANES invocations for 4 neighbouring columns, each with
// every LANES-th row.
// And one of lib/columns-invocation.wgsl and lib/columns-workgroup.wgsl, as the rule chooses.
// Contract: numbers OUTER, LENGTH, INNER > 1; MAXIMUM; load_x4 reads, store4 writes [OUTER, INNER].
// Dispatch: ceil(OUTER * ceil(INNER / 4) / WIDTH) workgroups of 64, WIDTH = 64 / LANES.
// Numerics: rows of a lane in order, then the lanes by a tree; fixed order.
const WIDTH = 64u / LANES;

fn joined(a: vec4f, b: vec4f) -> vec4f {
  return select(a + b, max(a, b), MAXIMUM);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) invocation: u32) {
  let at = workgroup_index(w) * WIDTH + invocation % WIDTH;
  let groups = (numbers.INNER + 3u) / 4u;
  let lane = invocation / WIDTH;
  let outer = at / groups;
  let column = at % groups * 4u;
  let n = min(4u, numbers.INNER - column);
  var total = vec4f(select(0.0, -3.4028234e38, MAXIMUM));
  if (outer < numbers.OUTER) {
    for (var k = lane; k < numbers.LENGTH; k += LANES) {
      total = joined(total, load_x4((outer * numbers.LENGTH + k) * numbers.INNER + column, n));
    }
  }
  total = across(invocation, total);
  if (outer < numbers.OUTER && lane == 0u) { store4(outer * numbers.INNER + column, total, n); }
}
