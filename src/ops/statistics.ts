import { UserError } from '../errors.js';
import { axisOf, sizeOf } from '../tensor/shape.js';
import { withGradient, type Tensor } from '../tensor/tensor.js';
import { max, sum } from './broadcast.js';
import { iota, pad, reshape, slice } from './movement.js';
import {
  abs,
  add,
  div,
  equal,
  exp,
  greater,
  log,
  maximum,
  mul,
  neg,
  sqrt,
  square,
  stopGradient,
  sub,
} from './pointwise.js';
import { toFloat, toIndex, where } from './pointwise.js';
import { pow } from './powers.js';

/** Least element over axes (all by default). Elements that share the first place share the gradient. */
export const min = (x: Tensor, axes?: readonly number[], keep = false): Tensor => neg(max(neg(x), axes, keep));

const countOver = ({ shape, size }: Tensor, axes: readonly number[] | undefined): number =>
  axes ? sizeOf([...new Set(axes.map((axis) => axisOf(axis, shape.length)))].map((axis) => shape[axis])) : size;

/** Mean over axes (all by default). */
export const mean = (x: Tensor, axes?: readonly number[], keep = false): Tensor =>
  mul(sum(x, axes, keep), 1 / countOver(x, axes));

/**
 * Σ (x - mean)² / (n - correction) over axes (all by default).
 * @param correction 1 for the unbiased estimate (PyTorch's default), 0 for the biased one (NumPy's)
 * @throws UserError when there are no more than `correction` elements
 */
export function variance(x: Tensor, axes?: readonly number[], keep = false, correction = 1): Tensor {
  const count = countOver(x, axes);
  if (count <= correction)
    throw new UserError(
      `a variance with correction ${correction} over ${count} of [${x.shape}]: it needs more elements`,
    );
  return mul(sum(square(sub(x, mean(x, axes, true))), axes, keep), 1 / (count - correction));
}

/** Square root of `variance`. @throws UserError as it */
export const standardDeviation = (x: Tensor, axes?: readonly number[], keep = false, correction = 1): Tensor =>
  sqrt(variance(x, axes, keep, correction));

/**
 * (Σ |x|^order)^(1 / order) over axes (all by default); order Infinity is the largest |x|. Where the norm is 0 so is its
 * gradient.
 * @throws UserError when the order is not positive
 */
export function norm(x: Tensor, axes?: readonly number[], keep = false, order = 2): Tensor {
  if (!(order > 0)) throw new UserError(`a norm of order ${order}: orders are positive`);
  const size = abs(x);
  if (order === 1) return sum(size, axes, keep);
  if (order === Infinity) return max(size, axes, keep);
  const root = (y: Tensor) => (order === 2 ? sqrt(y) : pow(y, 1 / order));
  const whole = root(sum(order === 2 ? square(x) : pow(size, order), axes, true));
  const zero = equal(whole, 0);
  const ratio = div(x, where(zero, 1, whole));
  const slope = order === 2 ? ratio : where(greater(0, ratio), neg(pow(neg(ratio), order - 1)), pow(ratio, order - 1));
  const value = withGradient(whole, [x], (g) => [mul(g, where(equal(x, 0), 0, slope))]);
  return keep ? value : reshape(value, sum(x, axes).shape);
}

/** log Σ exp(x) over axes (all by default), without overflow. */
export function logSumExp(x: Tensor, axes?: readonly number[], keep = false): Tensor {
  const top = stopGradient(max(x, axes, true));
  const whole = add(top, log(sum(exp(sub(x, top)), axes, true)));
  return keep ? whole : reshape(whole, max(x, axes).shape);
}

/** x / max(‖x‖₂, epsilon) along an axis. */
export const normalizeLength = (x: Tensor, axis = -1, epsilon = 1e-12): Tensor =>
  div(x, maximum(norm(x, [axis], true), epsilon));

/** Cosine of the angle between a and b along an axis. */
export const cosineSimilarity = (a: Tensor, b: Tensor, axis = -1, epsilon = 1e-8): Tensor =>
  sum(mul(normalizeLength(a, axis, epsilon), normalizeLength(b, axis, epsilon)), [axis]);

/** Place of the greatest element along an axis as u32, the first of equal ones; no gradient. */
export function argmax(x: Tensor, axis = -1, keep = false): Tensor {
  const along = axisOf(axis, x.shape.length);
  const places = toFloat(iota(x.shape.map((extent, i) => (i === along ? extent : 1))));
  const found = equal(x, max(x, [along], true));
  return toIndex(min(where(found, places, x.shape[along] - 1), [along], keep));
}

/** Place of the least element along an axis as u32, the first of equal ones; no gradient. */
export const argmin = (x: Tensor, axis = -1, keep = false): Tensor => argmax(neg(x), axis, keep);

/** Labels u32 of any shape as [..., classes]: 1 at the label, 0 elsewhere. */
export function oneHot(labels: Tensor, classes: number): Tensor {
  return equal(toFloat(reshape(labels, [...labels.shape, 1])), toFloat(iota([classes])));
}

const blockLength = 64;

/** Sums of all elements up to each along an axis, in blocks. */
export function cumulativeSum(x: Tensor, axis = -1): Tensor {
  const along = axisOf(axis, x.shape.length);
  const length = x.shape[along];
  const [outer, inner] = [sizeOf(x.shape.slice(0, along)), sizeOf(x.shape.slice(along + 1))];
  const blocks = Math.ceil(length / blockLength);
  const width = blocks === 1 ? length : blockLength;
  const whole = pad(reshape(x, [outer, length, inner]), [0, 0, 0], [outer, blocks * width, inner]);
  const cut = reshape(whole, [outer, blocks, width, inner]);
  // Element k counts for place i where k is not beyond it.
  const [i, k] = [toFloat(iota([width, 1, 1])), toFloat(iota([width, 1]))];
  const each = where(greater(k, i), 0, reshape(cut, [outer, blocks, 1, width, inner]));
  const within = sum(each, [3]);
  if (blocks === 1) return reshape(within, x.shape);
  const totals = cumulativeSum(sum(cut, [2], true), 1);
  const before = pad(slice(totals, 1, 0, blocks - 1), [0, 1, 0, 0], [outer, blocks, 1, inner]);
  return reshape(slice(reshape(add(within, before), whole.shape), 1, 0, length), x.shape);
}
