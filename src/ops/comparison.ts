import type { Tensor } from '../tensor/tensor.js';
import { add, equal, greater, sub, where, type Operand } from './pointwise.js';

// Truth is 1 and falsehood 0, so that products are "and", `maximum` is "or" and `where` takes any of it; NaN is neither
// less nor greater. No gradient flows.

/** 1 where a < b, else 0. */
export const less = (a: Operand, b: Operand): Tensor => greater(b, a);
/** 1 where a ≤ b, else 0. */
export const lessEqual = (a: Operand, b: Operand): Tensor => add(greater(b, a), equal(a, b));
/** 1 where a ≥ b, else 0. */
export const greaterEqual = (a: Operand, b: Operand): Tensor => lessEqual(b, a);
/** 1 where a is not b, else 0. */
export const notEqual = (a: Operand, b: Operand): Tensor => sub(1, equal(a, b));
/** 1 where x is 0, else 0. */
export const logicalNot = (x: Tensor): Tensor => equal(x, 0);

/** -1, 0 or 1. */
export const sign = (x: Tensor): Tensor => sub(greater(x, 0), greater(0, x));

/**
 * x within [low, high], each a number or a tensor that broadcasts; the gradient flows to x inside and on the bounds, and to
 * the bound that was taken outside.
 */
export const clamp = (x: Tensor, low: Operand, high: Operand): Tensor => {
  const raised = where(greater(low, x), low, x);
  return where(greater(raised, high), high, raised);
};
