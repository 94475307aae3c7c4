// One AdamW step with global-norm clipping and moving averages, over flat arenas.
// Contract: VECTORS, AVERAGES; load_gradient4, load_squared_norm1, load_scalars1, load_loss_scale1 read (order of the scalars:
// ops/optimizer.ts); parameters, first_moment, second_moment and averages (one after another) are changed in place;
// store_rounded4 keeps parameters, then averages, in f16 where f16 is used.
// Dispatch: ceil(VECTORS / 64) workgroups of 64.
// Numerics: f32 throughout. A gradient norm that is not finite (compared as bits: fast math may drop NaN tests)
// leaves everything as it is.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_index(w) * 64u + lane;
  if (i >= VECTORS) { return; }
  let squared = load_squared_norm1(0u);
  if ((bitcast<u32>(squared) & 0x7f800000u) == 0x7f800000u) { return; }
  let rate = load_scalars1(0u);
  let beta1 = load_scalars1(1u);
  let beta2 = load_scalars1(2u);
  let epsilon = load_scalars1(3u);
  let decay = load_scalars1(4u);
  let scale = load_loss_scale1(0u);
  let clip = load_scalars1(5u) / max(sqrt(squared) / scale, load_scalars1(5u)) / scale;
  let g = load_gradient4(i * 4u, 4u) * clip;
  let m = mix(g, first_moment[i], beta1);
  let v = mix(g * g, second_moment[i], beta2);
  first_moment[i] = m;
  second_moment[i] = v;
  let p = parameters[i];
  let step = m / load_scalars1(6u) / (sqrt(v / load_scalars1(7u)) + epsilon);
  // What never had a gradient is fixed: it does not decay either.
  let next = p - rate * (step + select(vec4f(), decay * p, v > vec4f()));
  parameters[i] = next;
  store_rounded4(i * 4u, next);
  for (var k = 0u; k < AVERAGES; k++) {
    let at = k * VECTORS + i;
    let average = mix(next, averages[at], load_scalars1(8u + k));
    averages[at] = average;
    store_rounded4((VECTORS + at) * 4u, average);
  }
}
