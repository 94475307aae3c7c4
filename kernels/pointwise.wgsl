// Tabulates an index function: every fused chain of pointwise operations, views and random numbers ends here.
// Contract: numbers SIZE elements, VECTORS = ceil(SIZE / 4), STRIDE = invocations of the whole dispatch; load_x4 computes 4
// elements, store4 writes them.
// Dispatch: ceil(VECTORS / 256) workgroups of 64, each invocation about 4 vectors, neighbours side by side.
// Numerics: f32, each element by itself.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = workgroup_index(w) * 64u + lane;
  if (first >= numbers.STRIDE) { return; }
  // A loop of unknown length: unrolled, the fused expression would be compiled four times over.
  for (var vector = first; vector < numbers.VECTORS; vector += numbers.STRIDE) {
    let i = vector * 4u;
    let n = min(4u, numbers.SIZE - i);
    store4(i, load_x4(i, n), n);
  }
}
