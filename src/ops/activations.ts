import { UserError } from '../errors.js';
import { axisOf } from '../tensor/shape.js';
import { withGradient, type Tensor } from '../tensor/tensor.js';
import { barrier, split } from './movement.js';
import { abs, add, equal, erf, exp, greater, log, maximum, mul, neg, square, sub, tanh, where } from './pointwise.js';

/**
 * The value of f(x) with the gradient g · slope(x), computed anew from x: what lies on the way to f(x) would be kept for the
 * backward pass otherwise, which takes more from memory than it saves of arithmetic.
 */
const fromInput = (value: Tensor, x: Tensor, slope: (x: Tensor) => Tensor): Tensor =>
  withGradient(value, [x], (g) => [mul(g, slope(barrier(x)))]);

// At a kink the slope is that of the side of lower x or, where one is flat, of the flat one; NaN passes through.

/** exp(x) / (1 + exp(x)), written with tanh so that no side overflows. */
export const sigmoid = (x: Tensor): Tensor => add(mul(tanh(mul(x, 0.5)), 0.5), 0.5);

/** x · sigmoid(x). */
export const silu = (x: Tensor): Tensor =>
  fromInput(mul(x, sigmoid(x)), x, (again) => {
    const s = sigmoid(again);
    return mul(s, add(mul(again, sub(1, s)), 1));
  });

const [tanhScale, tanhCube] = [Math.sqrt(2 / Math.PI), 0.044715];

/** Gaussian error linear unit in its tanh form, as DiT uses it (Hendrycks and Gimpel, 2016). */
export function geluTanh(x: Tensor): Tensor {
  const curve = (y: Tensor) => tanh(mul(mul(y, add(mul(square(y), tanhCube), 1)), tanhScale));
  return fromInput(mul(mul(x, 0.5), add(curve(x), 1)), x, (again) => {
    const t = curve(again);
    const bend = mul(add(mul(square(again), 3 * tanhCube), 1), 0.5 * tanhScale);
    return add(mul(add(t, 1), 0.5), mul(mul(again, sub(1, square(t))), bend));
  });
}

/** Gaussian error linear unit, exact: x · Φ(x). */
export function gelu(x: Tensor): Tensor {
  const share = (y: Tensor) => mul(add(erf(mul(y, Math.SQRT1_2)), 1), 0.5);
  const density = (y: Tensor) => mul(exp(mul(square(y), -0.5)), 1 / Math.sqrt(2 * Math.PI));
  return fromInput(mul(x, share(x)), x, (again) => add(share(again), mul(again, density(again))));
}

/** x · sigmoid(1.702 x), an early approximation of the Gaussian error linear unit (Hendrycks and Gimpel, 2016). */
export const quickGelu = (x: Tensor): Tensor => mul(x, sigmoid(mul(x, 1.702)));

/** x where it is positive, else 0; slope 0 at 0. */
export const relu = (x: Tensor): Tensor => where(atMost(x, 0), 0, x);

/** Rectified linear unit cut off at 6 (Howard et al., 2017). */
export const relu6 = (x: Tensor): Tensor => where(atMost(6, x), 6, relu(x));

const atMost = (a: Tensor | number, b: Tensor | number): Tensor => add(greater(b, a), equal(a, b));

/**
 * x where it is positive, else slope · x.
 * @param slope a number, or a learned tensor that broadcasts to x: with one a channel this is PReLU (He et al., 2015)
 */
export const leakyRelu = (x: Tensor, slope: Tensor | number = 0.01): Tensor => where(greater(x, 0), x, mul(x, slope));

/** Exponential linear unit (Clevert et al., 2016): x where it is positive, else alpha · (exp(x) - 1). */
export const elu = (x: Tensor, alpha = 1): Tensor => where(greater(x, 0), x, mul(negativeExpm1(x), alpha));

const seluScale = 1.0507009873554805;
const seluAlpha = 1.6732632423543772;
/** Scaled exponential linear unit (Klambauer et al., 2017). */
export const selu = (x: Tensor): Tensor => mul(elu(x, seluAlpha), seluScale);

/** exp(min(x, 0)) - 1: of the negative part only, so that neither the value nor its gradient overflows; slope 1 at 0. */
const negativeExpm1 = (x: Tensor): Tensor => sub(exp(where(greater(x, 0), 0, x)), 1);

/** log(1 + exp(x)), a smooth relu, whose slope is sigmoid(x). */
export function softplus(x: Tensor): Tensor {
  const value = add(maximum(x, 0), log(add(exp(neg(abs(x))), 1)));
  return withGradient(value, [x], (g) => [mul(g, sigmoid(x))]);
}

/** log(sigmoid(x)), without the underflow of its parts. */
export const logSigmoid = (x: Tensor): Tensor => neg(softplus(neg(x)));

/** x · tanh(softplus(x)) (Misra, 2019). */
export const mish = (x: Tensor): Tensor => mul(x, tanh(softplus(x)));

/** min(max(x + 3, 0), 6) / 6: sigmoid by straight lines (Howard et al., 2019). */
export const hardSigmoid = (x: Tensor): Tensor => mul(relu6(add(x, 3)), 1 / 6);

/** x · hardSigmoid(x) (Howard et al., 2019). */
export const hardSwish = (x: Tensor): Tensor => mul(x, hardSigmoid(x));

/**
 * Gated linear unit (Dauphin et al., 2017): the first half of an axis times a function of the second. With `silu` in place
 * of sigmoid and the halves exchanged it is SwiGLU.
 * @throws UserError when the axis has an odd extent
 */
export function glu(x: Tensor, axis = -1, gate: (x: Tensor) => Tensor = sigmoid): Tensor {
  if (x.shape[axisOf(axis, x.shape.length)] % 2)
    throw new UserError(`glu halves axis ${axis} of [${x.shape}], which is odd`);
  const [value, gates] = split(x, axis, 2);
  return mul(value, gate(gates));
}
