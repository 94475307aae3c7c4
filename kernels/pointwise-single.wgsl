// Tabulates an index function whose elements come from places apart, one by one: four of them at a time would be four copies
// of the same expression to compile, and no faster.
// Contract: numbers SIZE elements, STRIDE = invocations of the whole dispatch; load_x1 computes an element, store1 writes it.
// Dispatch: as kernels/pointwise.wgsl, each invocation about 16 elements, neighbours side by side.
// Numerics: f32, each element by itself.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = workgroup_index(w) * 64u + lane;
  for (var i = first; i < numbers.SIZE; i += numbers.STRIDE) { store1(i, load_x1(i)); }
}
