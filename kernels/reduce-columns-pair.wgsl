// Two sums or maxima over the middle axis of [OUTER, LENGTH, INNER] at once: what both are made of is read once.
// And one of lib/columns-invocation.wgsl and lib/columns-workgroup.wgsl, as the rule chooses.
// Contract: numbers OUTER, LENGTH, INNER > 1; MAXIMUM; load_x_y4 reads, store4 writes the first, store_second4 the second
// [OUTER, INNER].
// Dispatch and numerics: as kernels/reduce-columns.wgsl.
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
  var first = vec4f(select(0.0, -3.4028234e38, MAXIMUM));
  var second = first;
  if (outer < numbers.OUTER) {
    for (var k = lane; k < numbers.LENGTH; k += LANES) {
      let values = load_x_y4((outer * numbers.LENGTH + k) * numbers.INNER + column, n);
      first = joined(first, values[0]);
      second = joined(second, values[1]);
    }
  }
  first = across(invocation, first);
  second = across(invocation, second);
  if (outer < numbers.OUTER && lane == 0u) {
    let i = outer * numbers.INNER + column;
    store4(i, first, n);
    store_second4(i, second, n);
  }
}
