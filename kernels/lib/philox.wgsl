// Philox4x32-10, the counter-based generator of Salmon et al. (2011): random numbers as a pure function of
// (seed, step, stream, element), the same integers as src/tensor/philox.ts gives on the host.
// Element i is output i % 4 of the call with counter (i / 4, step, stream, 0) and key (seed low, seed high).

// High and low word of a 32 x 32 bit product; WGSL has no 64-bit integers.
fn philox_multiply(a: u32, b: u32) -> vec2u {
  let al = a & 0xffffu;
  let ah = a >> 16u;
  let bl = b & 0xffffu;
  let bh = b >> 16u;
  let low = al * bl;
  let middle = ah * bl + (low >> 16u);
  let carry = al * bh + (middle & 0xffffu);
  return vec2u(ah * bh + (middle >> 16u) + (carry >> 16u), a * b);
}

fn philox_bits4(call: u32, step: u32, stream: u32, seed_low: u32, seed_high: u32) -> vec4u {
  return philox_block4(vec4u(call, step, stream, 0u), seed_low, seed_high);
}

fn philox_block4(counter: vec4u, seed_low: u32, seed_high: u32) -> vec4u {
  var c = counter;
  var key = vec2u(seed_low, seed_high);
  for (var round = 0; round < 10; round++) {
    let p = philox_multiply(0xD2511F53u, c.x);
    let q = philox_multiply(0xCD9E8D57u, c.z);
    c = vec4u(q.x ^ c.y ^ key.x, q.y, p.x ^ c.w ^ key.y, p.y);
    key += vec2u(0x9E3779B9u, 0xBB67AE85u);
  }
  return c;
}

// In (0, 1): 23 bits moved by half a step, all exact in f32, so that neither end is met.
fn philox_uniform4(call: u32, step: u32, stream: u32, seed_low: u32, seed_high: u32) -> vec4f {
  return fma(vec4f(philox_bits4(call, step, stream, seed_low, seed_high) >> vec4u(9u)), vec4f(1.1920928955078125e-7), vec4f(5.9604644775390625e-8));
}

// Box-Muller on the pairs (0, 1) and (2, 3); sine4 is that of lib/sine.wgsl.
fn philox_normal4(call: u32, step: u32, stream: u32, seed_low: u32, seed_high: u32) -> vec4f {
  let u = philox_uniform4(call, step, stream, seed_low, seed_high);
  let radius = sqrt(-2.0 * log(u.xz));
  return radius.xxyy * sine4(6.283185307179586 * u.yyww, vec4i(1, 0, 1, 0));
}

// Whole numbers below a bound of at most 2^16: the uniform number times the bound.
fn philox_below4(call: u32, step: u32, stream: u32, seed_low: u32, seed_high: u32, bound: u32) -> vec4u {
  return min(vec4u(philox_uniform4(call, step, stream, seed_low, seed_high) * f32(bound)), vec4u(bound - 1u));
}

// Whole numbers below any bound, 0 for 2^32: 64 bits, of which a second block gives the lower, times the bound, without
// the lower 64 bits of the product. Every number is drawn equally often to within 2^-32.
fn philox_far_below4(call: u32, step: u32, stream: u32, seed_low: u32, seed_high: u32, bound: u32) -> vec4u {
  let high = philox_bits4(call, step, stream, seed_low, seed_high);
  if (bound == 0u) { return high; }
  let low = philox_block4(vec4u(call, step, stream, 2u), seed_low, seed_high);
  var result = vec4u();
  for (var lane = 0; lane < 4; lane++) {
    let product = philox_multiply(high[lane], bound);
    let carried = product.y + philox_multiply(low[lane], bound).x;
    result[lane] = product.x + select(0u, 1u, carried < product.y);
  }
  return result;
}
