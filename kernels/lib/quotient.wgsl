// Whole numbers below 2^22 divided by one that is data, of which 1 / d comes rounded to f32, as bits: software adapters
// compile one kernel for all divisors so, and divide faster than by a known divisor.
// Numerics: exact. i + 0.5 is exact in f32 and lies half a dth at least from the next multiple of d, while the product is off
// by less than that: by 2^-23 of itself.
fn quotient(i: u32, inverse: u32) -> u32 {
  return u32(i32((f32(i32(i)) + 0.5) * bitcast<f32>(inverse)));
}

fn remainder(i: u32, d: u32, inverse: u32) -> u32 {
  return i - quotient(i, inverse) * d;
}
