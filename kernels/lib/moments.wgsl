// Mean and reciprocal standard deviation of a row, for every invocation that shares it; not CENTRED the mean counts as 0.
// Contract: lib/rows.wgsl, EPSILON, CENTRED; load_x4 reads.
// Numerics: f32. One pass sums x - shift and its square, where the shift is the mean of each lane's first vector: near the
// mean, so that next to nothing cancels, however far from 0 the row lies. The variance is biased.
fn moments(row: u32, lane: u32) -> vec2f {
  var shift = 0f;
  if (CENTRED) {
    let v = min(lane, numbers.VECTORS - 1u);
    let x = masked(load_x4(element(row, v), inside(v)), inside(v), 0.0);
    let own = select(vec2f(), vec2f(sum4(x), f32(inside(v))), lane < numbers.VECTORS);
    let all = across_sum(lane, own);
    shift = all.x / all.y;
  }
  var sums = vec4f();
  var squares = vec4f();
  for (var v = lane; v < numbers.VECTORS; v += LANES) {
    let d = masked(load_x4(element(row, v), inside(v)) - shift, inside(v), 0.0);
    sums += d;
    squares = fma(d, d, squares);
  }
  let means = across_sum(lane, vec2f(sum4(sums), sum4(squares))) / f32(numbers.LENGTH);
  let rest = select(0f, means.x, CENTRED);
  return vec2f(shift + rest, inverseSqrt(max(means.y - rest * rest, 0.0) + EPSILON));
}
