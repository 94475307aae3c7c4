// Ceiling of memory: copies vec4s, 4 an invocation. Bytes read and written both count.
@group(0) @binding(0) var<storage, read_write> source: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> target_: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  for (var k = 0u; k < 4u; k++) {
    let i = w.x * 256u + k * 64u + lane;
    target_[i] = source[i];
  }
}
