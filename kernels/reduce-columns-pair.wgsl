// Two sums or maxima over the middle axis of [OUTER, LENGTH, INNER] at once: what both are made of is read once.
// Includes: lib/columns.wgsl.
// And one of lib/columns-invocation.wgsl and lib/columns-workgroup.wgsl, as the rule chooses.
// Contract: numbers OUTER, LENGTH, INNER > 1; MAXIMUM; load_x_y4 reads, store4 writes the first, store_second4 the second
// [OUTER, INNER].
// Dispatch and numerics: as kernels/reduce-columns.wgsl.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) invocation: u32) {
  let c = columns_of(workgroup_index(w), invocation);
  var first = nothing();
  var second = nothing();
  if (c.inside) {
    for (var k = c.lane; k < numbers.LENGTH; k += LANES) {
      let values = load_x_y4(in_row(c, k), c.n);
      first = joined(first, values[0]);
      second = joined(second, values[1]);
    }
  }
  first = across(invocation, first);
  second = across(invocation, second);
  if (c.inside && c.lane == 0u) {
    let i = c.outer * numbers.INNER + c.column;
    store4(i, first, c.n);
    store_second4(i, second, c.n);
  }
}
