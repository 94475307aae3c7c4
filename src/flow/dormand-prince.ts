import { add, mul, sub } from '../ops/pointwise.js';
import type { Tensor } from '../tensor/tensor.js';
import { step, type Velocity } from './field.js';

/** Nodes, weights of the stages, and of the results of order 5 and 4 (Dormand and Prince, 1980). */
const nodes = [0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1];
const stages = [
  [],
  [1 / 5],
  [3 / 40, 9 / 40],
  [44 / 45, -56 / 15, 32 / 9],
  [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
  [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
  [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
];
const fifth = [...stages[6], 0];
const fourth = [5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40];

/** One step from t to s [B]: the result of order 5, and how far that of order 4 lies from it. */
export function dormandPrinceStep(
  velocity: Velocity,
  x: Tensor,
  t: Tensor,
  s: Tensor,
): { result: Tensor; difference: Tensor } {
  const slopes: Tensor[] = [];
  const weighted = (weights: readonly number[]) =>
    weights
      .map((weight, i) => (weight ? mul(slopes[i], weight) : null))
      .filter((part) => part !== null)
      .reduce(add);
  for (let i = 0; i < nodes.length; i++) {
    const at = add(t, mul(sub(s, t), nodes[i]));
    slopes.push(velocity(i ? step(x, t, s, weighted(stages[i])) : x, at));
  }
  const result = step(x, t, s, weighted(fifth));
  return { result, difference: sub(result, step(x, t, s, weighted(fourth))) };
}

/** The next step's length over this one's, from the error over the tolerance (Hairer, Nørsett and Wanner, II.4). */
export const stepFactor = (error: number): number => Math.min(5, Math.max(0.2, 0.9 * error ** -0.2));
