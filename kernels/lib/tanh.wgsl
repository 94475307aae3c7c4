// Hyperbolic tangent: tanh1 of a scalar, tanh4 of a vector. Drivers compute it from two exponentials, at twice the price,
// and some overflow to NaN.
// Numerics: x P(x^2) / Q(x^2) on [-7.9, 7.9], the minimax quotient of degrees 13 and 6 that several f32 math libraries use;
// tanh is 1 to f32 precision beyond. A few units in the last place.
fn tanh4(x: vec4f) -> vec4f {
  let a = clamp(x, vec4f(-7.90531110763549805), vec4f(7.90531110763549805));
  let q = a * a;
  var p = vec4f(-2.76076847742355e-16);
  p = fma(p, q, vec4f(2.00018790482477e-13));
  p = fma(p, q, vec4f(-8.60467152213735e-11));
  p = fma(p, q, vec4f(5.12229709037114e-08));
  p = fma(p, q, vec4f(1.48572235717979e-05));
  p = fma(p, q, vec4f(6.37261928875436e-04));
  p = fma(p, q, vec4f(4.89352455891786e-03));
  var d = vec4f(1.19825839466702e-06);
  d = fma(d, q, vec4f(1.18534705686654e-04));
  d = fma(d, q, vec4f(2.26843463243900e-03));
  d = fma(d, q, vec4f(4.89352518554385e-03));
  return a * p / d;
}

fn tanh1(x: f32) -> f32 {
  return tanh4(vec4f(x)).x;
}
