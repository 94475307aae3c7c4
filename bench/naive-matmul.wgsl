// The kernel that a first attempt would be: one output per invocation, no reuse. [SIZE, SIZE] squared.
@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3u) {
  var sum = 0.0;
  for (var k = 0u; k < SIZE; k++) { sum += a[id.y * SIZE + k] * b[k * SIZE + id.x]; }
  c[id.y * SIZE + id.x] = sum;
}
