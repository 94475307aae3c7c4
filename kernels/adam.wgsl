// One AdamW step with global-norm clipping and moving averages, over flat arenas.
// Contract: numbers VECTORS, and OWN_START and OWN_END, between which vectors learn at a rate of their own; AVERAGES;
// load_gradient4 and load_numbers1 read (the squared norm, the loss scale, then the scalars in the order of ops/optimizer.ts);
// parameters, first_moment, second_moment and averages (one after another) are changed in place; store_rounded4 keeps
// parameters, then averages, in f16 where f16 is used.
// Dispatch: ceil(VECTORS / 256) workgroups of 64, each invocation 4 vectors, neighbours side by side, so that the scalars are
// read once for them.
// Numerics: f32 throughout. A gradient norm that is not finite (compared as bits: fast math may drop NaN tests)
// leaves everything as it is.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = workgroup_index(w) * 256u + lane;
  let end = min(numbers.VECTORS, first + 256u);
  let squared = load_numbers1(0u);
  if ((bitcast<u32>(squared) & 0x7f800000u) == 0x7f800000u) { return; }
  let scale = load_numbers1(1u);
  let common_rate = load_numbers1(2u);
  let own_rate = load_numbers1(3u);
  let beta1 = load_numbers1(4u);
  let beta2 = load_numbers1(5u);
  let epsilon = load_numbers1(6u);
  let decay = load_numbers1(7u);
  let clip = load_numbers1(8u) / max(sqrt(squared) / scale, load_numbers1(8u)) / scale;
  let correction1 = load_numbers1(9u);
  let correction2 = load_numbers1(10u);
  for (var i = first; i < end; i += 64u) {
    let g = load_gradient4(i * 4u, 4u) * clip;
    let m = mix(g, first_moment[i], beta1);
    let v = mix(g * g, second_moment[i], beta2);
    first_moment[i] = m;
    second_moment[i] = v;
    let p = parameters[i];
    let rate = select(common_rate, own_rate, i >= numbers.OWN_START && i < numbers.OWN_END);
    let step = m / correction1 / (sqrt(v / correction2) + epsilon);
    // What never had a gradient is fixed: it does not decay either.
    let next = p - rate * (step + select(vec4f(), decay * p, v > vec4f()));
    parameters[i] = next;
    store_rounded4(i * 4u, next);
    for (var k = 0u; k < AVERAGES; k++) {
      let at = k * numbers.VECTORS + i;
      let average = mix(next, averages[at], load_numbers1(11u + k));
      averages[at] = average;
      store_rounded4((numbers.VECTORS + at) * 4u, average);
    }
  }
}
