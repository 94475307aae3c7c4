import { broadcastShapes } from '../tensor/shape.js';
import { constant, withGradient, type Tensor } from '../tensor/tensor.js';
import { expand } from './broadcast.js';
import { abs, div, equal, exp, floor, greater, log, mul, neg, sqrt, square, sub, where } from './pointwise.js';

/** 1 / x. */
export const reciprocal = (x: Tensor): Tensor => div(1, x);

/** 1 / √x. */
export const rsqrt = (x: Tensor): Tensor => div(1, sqrt(x));

/**
 * x to a power. A negative x is defined for whole powers only, NaN otherwise; 0 to the power of 0 is 1. At x = 0 the slope
 * is that of the power (1 for the first, 0 above, infinite below), at the power 0 it is 0.
 * @param exponent a number, or a tensor that broadcasts with x
 */
export function pow(x: Tensor, exponent: Tensor | number): Tensor {
  if (typeof exponent === 'number') return powerOf(x, exponent);
  const shape = broadcastShapes(x.shape, exponent.shape);
  const [base, power] = [expand(x, shape), expand(exponent, shape)];
  const value = generalPower(base, power);
  return withGradient(value, [base, power], (g) => {
    const slope = where(equal(power, 0), 0, mul(power, generalPower(base, sub(power, 1))));
    // 0 to a positive power stays 0 however the power changes, and x log x has no slope there.
    const flat = mul(equal(base, 0), sub(1, greater(0, power)));
    return [mul(g, slope), mul(g, where(flat, 0, mul(value, log(where(flat, 1, base)))))];
  });
}

const mostProducts = 16;

function powerOf(x: Tensor, exponent: number): Tensor {
  if (exponent < 0 && Number.isInteger(exponent)) return reciprocal(powerOf(x, -exponent));
  if (exponent === 0) return withGradient(constant(1, x.shape), [x], () => [constant(0, x.shape)]);
  if (exponent === 0.5) return sqrt(x);
  if (Number.isInteger(exponent) && exponent <= mostProducts) return product(x, exponent);
  const value = generalPower(x, constant(exponent, x.shape));
  return withGradient(value, [x], (g) => [mul(g, mul(powerOf(x, exponent - 1), exponent))]);
}

/** By squaring: no rounding but that of products. */
function product(x: Tensor, exponent: number): Tensor {
  if (exponent === 1) return x;
  const half = product(x, Math.floor(exponent / 2));
  return exponent % 2 ? mul(square(half), x) : square(half);
}

/** exp(power · log |x|) with the sign that a whole power gives. */
function generalPower(x: Tensor, power: Tensor): Tensor {
  const whole = equal(floor(power), power);
  const odd = sub(power, mul(floor(mul(power, 0.5)), 2));
  const size = where(whole, abs(x), x);
  const none = equal(x, 0);
  const scaled = exp(mul(power, log(where(none, 1, size))));
  const signed = where(mul(greater(0, x), equal(odd, 1)), neg(scaled), scaled);
  // 0 to a positive power, to the power of 0, to a negative one.
  const ofZero = where(greater(power, 0), 0, where(equal(power, 0), 1, div(1, abs(x))));
  return where(none, ofZero, signed);
}
