// Error function: erf1 of a scalar, erf4 of a vector.
// Numerics: x P(x^2) / Q(x^2) on [-4, 4], the minimax quotient of degrees 13 and 8 that several f32 math libraries use;
// erf is 1 to f32 precision beyond. Absolute error below 5e-7, which the tests check against float64.
fn erf4(x: vec4f) -> vec4f {
  let a = clamp(x, vec4f(-4.0), vec4f(4.0));
  let q = a * a;
  var p = vec4f(-2.72614225801306e-10);
  p = fma(p, q, vec4f(2.77068142495902e-08));
  p = fma(p, q, vec4f(-2.10102402082508e-06));
  p = fma(p, q, vec4f(-5.69250639462346e-05));
  p = fma(p, q, vec4f(-7.34990630326855e-04));
  p = fma(p, q, vec4f(-2.95459980854025e-03));
  p = fma(p, q, vec4f(-1.60960333262415e-02));
  var d = vec4f(-1.45660718464996e-05);
  d = fma(d, q, vec4f(-2.13374055278905e-04));
  d = fma(d, q, vec4f(-1.68282697438203e-03));
  d = fma(d, q, vec4f(-7.37332916720468e-03));
  d = fma(d, q, vec4f(-1.42647390514189e-02));
  return a * p / d;
}

fn erf1(x: f32) -> f32 {
  return erf4(vec4f(x)).x;
}
