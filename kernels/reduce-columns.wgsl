// Sum or maximum over the middle axis of [OUTER, LENGTH, INNER]: LANES invocations for 4 neighbouring columns, each with
// every LANES-th row.
// Includes: lib/columns.wgsl.
// And one of lib/columns-invocation.wgsl and lib/columns-workgroup.wgsl, as the rule chooses.
// Contract: numbers OUTER, LENGTH, INNER > 1; MAXIMUM; load_x4 reads, store4 writes [OUTER, INNER].
// Dispatch: ceil(OUTER * ceil(INNER / 4) / WIDTH) workgroups of 64, WIDTH = 64 / LANES.
// Numerics: rows of a lane in order, then the lanes by a tree; fixed order.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) invocation: u32) {
  let c = columns_of(workgroup_index(w), invocation);
  var total = nothing();
  if (c.inside) {
    for (var k = c.lane; k < numbers.LENGTH; k += LANES) { total = joined(total, load_x4(in_row(c, k), c.n)); }
  }
  total = across(invocation, total);
  if (c.inside && c.lane == 0u) { store4(c.outer * numbers.INNER + c.column, total, c.n); }
}
