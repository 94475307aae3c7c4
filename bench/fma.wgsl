// Ceiling of arithmetic: 8 independent chains of fused multiply-adds in registers, 2 * 8 * 32 * ROUNDS flops an invocation.
// Dispatch: workgroups of 64. The inner loop has a constant length so that the compiler unrolls it: software adapters
// carry registers around a loop through memory.
@group(0) @binding(0) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let a = 1.0 + f32(id.x) * 1e-9;
  let b = 1e-7;
  var c0 = a; var c1 = a + b; var c2 = c1 + b; var c3 = c2 + b;
  var c4 = c3 + b; var c5 = c4 + b; var c6 = c5 + b; var c7 = c6 + b;
  for (var k = 0u; k < ROUNDS; k++) {
    for (var unrolled = 0u; unrolled < 32u; unrolled++) {
      c0 = fma(c0, a, b); c1 = fma(c1, a, b); c2 = fma(c2, a, b); c3 = fma(c3, a, b);
      c4 = fma(c4, a, b); c5 = fma(c5, a, b); c6 = fma(c6, a, b); c7 = fma(c7, a, b);
    }
  }
  result[id.x] = ((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7));
}
