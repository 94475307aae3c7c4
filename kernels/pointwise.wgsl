// Tabulates an index function: every fused chain of pointwise operations, views and random numbers ends here.
// Contract: SIZE elements, VECTORS = ceil(SIZE / 4); load_x4 computes 4 elements, store4 writes them.
// Dispatch: ceil(VECTORS / 256) workgroups of 64; an invocation does 4 vectors, neighbours side by side.
// Numerics: f32, each element by itself.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = workgroup_index(w) * 256u + lane;
  for (var k = 0u; k < 4u; k++) {
    let vector = first + k * 64u;
    if (vector >= VECTORS) { return; }
    let i = vector * 4u;
    let n = min(4u, SIZE - i);
    store4(i, load_x4(i, n), n);
  }
}
