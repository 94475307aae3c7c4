// Sums rows of values [COUNT, ROW] into a table [ROWS, ROW] by index, one invocation for 4 neighbouring elements.
// Contract: numbers ROWS, ROW, COUNT; load_values4, load_indices1 read, store4 writes.
// Dispatch: ceil(ROWS * ceil(ROW / 4) / 64) workgroups of 64.
// Numerics: in order of the indices, without atomics, so that the sum is the same every time.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let id = workgroup_index(w) * 64u + lane;
  let groups = (numbers.ROW + 3u) / 4u;
  if (id >= numbers.ROWS * groups) { return; }
  let row = id / groups;
  let column = id % groups * 4u;
  let n = min(4u, numbers.ROW - column);
  var total = vec4f();
  for (var k = 0u; k < numbers.COUNT; k++) {
    if (load_indices1(k) == row) { total += load_values4(k * numbers.ROW + column, n); }
  }
  store4(row * numbers.ROW + column, total, n);
}
