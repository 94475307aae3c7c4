// Sine and cosine of radians: sin1 and cos1 of a scalar, sin4 and cos4 of a vector. Of a driver's own WGSL promises 2^-11
// within half a turn and nothing beyond, of which some make use.
// Numerics: x less its nearest quarters of a turn, pi/2 in three parts of which multiples up to 8192 / pi are exact or small,
// then polynomials of degrees 7 and 8, the least largest errors on [-pi/4, pi/4]. Absolute error below 2e-7 for |x| <= 8192,
// which the tests check against float64.

// The sine of x and so many quarters of a turn.
fn sine4(x: vec4f, ahead: vec4i) -> vec4f {
  let quarters = round(x * 0.636619772);
  var r = fma(quarters, vec4f(-1.5703125), x);
  r = fma(quarters, vec4f(-4.837512969970703e-4), r);
  r = fma(quarters, vec4f(-7.549789954891882e-8), r);
  let q = r * r;
  var s = fma(vec4f(-1.951729898e-04), q, vec4f(8.332178146e-03));
  s = fma(s, q, vec4f(-1.666665494e-01));
  s = fma(s * q, r, r);
  var c = fma(vec4f(2.443845161e-05), q, vec4f(-1.388736752e-03));
  c = fma(c, q, vec4f(4.166664687e-02));
  c = fma(c, q * q, fma(q, vec4f(-0.5), vec4f(1.0)));
  let turned = vec4i(quarters) + ahead;
  let value = select(s, c, (turned & vec4i(1)) == vec4i(1));
  return select(value, -value, (turned & vec4i(2)) == vec4i(2));
}

fn sin4(x: vec4f) -> vec4f {
  return sine4(x, vec4i(0));
}

fn cos4(x: vec4f) -> vec4f {
  return sine4(x, vec4i(1));
}

fn sin1(x: f32) -> f32 {
  return sin4(vec4f(x)).x;
}

fn cos1(x: f32) -> f32 {
  return cos4(vec4f(x)).x;
}
