// Mean and reciprocal standard deviation of a row, for every invocation that shares it; not CENTRED the mean counts as 0.
// Contract: lib/rows.wgsl, EPSILON, CENTRED; load_x4 reads.
// Numerics: two passes, f32; the variance is of the centred values, biased.
fn moments(row: u32, lane: u32) -> vec2f {
  var mean = 0f;
  if (CENTRED) {
    var sums = vec4f();
    for (var v = lane; v < numbers.VECTORS; v += LANES) { sums += masked(load_x4(element(row, v), inside(v)), inside(v), 0.0); }
    mean = across_sum(lane, vec2f(sum4(sums))).x / f32(numbers.LENGTH);
  }
  var squares = vec4f();
  for (var v = lane; v < numbers.VECTORS; v += LANES) {
    let d = masked(load_x4(element(row, v), inside(v)) - mean, inside(v), 0.0);
    squares = fma(d, d, squares);
  }
  let variance = across_sum(lane, vec2f(sum4(squares))).x / f32(numbers.LENGTH);
  return vec2f(mean, inverseSqrt(variance + EPSILON));
}
