import { add, mul, sub } from '../ops/pointwise.js';
import type { Tensor } from '../tensor/tensor.js';
import { step } from './field.js';
import type { Asking, Question } from './questions.js';

export const solvers = ['euler', 'heun', 'rk4'] as const;
/** A way to follow a velocity in fixed steps. */
export type Solver = (typeof solvers)[number];

/** Evaluations of the velocity that one step costs. */
export const evaluations: Record<Solver, number> = { euler: 1, heun: 2, rk4: 4 };

/** The average velocity of one step of a solver from t to s: the step itself is x + (s - t) · u. */
export function* slope(
  velocity: (x: Tensor, t: Tensor) => Asking<Tensor>,
  solver: Solver,
  x: Tensor,
  t: Tensor,
  s: Tensor,
): Generator<readonly Question[], Tensor, void> {
  const first = yield* velocity(x, t);
  if (solver === 'euler') return first;
  if (solver === 'heun') return mul(add(first, yield* velocity(step(x, t, s, first), s)), 0.5);
  const middle = add(t, mul(sub(s, t), 0.5));
  const second = yield* velocity(step(x, t, middle, first), middle);
  const third = yield* velocity(step(x, t, middle, second), middle);
  const fourth = yield* velocity(step(x, t, s, third), s);
  return mul(add(add(first, fourth), mul(add(second, third), 2)), 1 / 6);
}
