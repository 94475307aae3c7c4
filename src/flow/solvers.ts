import { add, mul, sub } from '../ops/pointwise.js';
import type { Tensor } from '../tensor/tensor.js';
import { step, type Velocity } from './field.js';

export const solvers = ['euler', 'heun', 'rk4'] as const;
/** A way to follow a velocity in fixed steps. */
export type Solver = (typeof solvers)[number];

/** Evaluations of the velocity that one step costs. */
export const evaluations: Record<Solver, number> = { euler: 1, heun: 2, rk4: 4 };

/** The average velocity of one step of a solver from t to s: the step itself is x + (s - t) · u. */
export function slope(velocity: Velocity, solver: Solver, x: Tensor, t: Tensor, s: Tensor): Tensor {
  const first = velocity(x, t);
  if (solver === 'euler') return first;
  if (solver === 'heun') return mul(add(first, velocity(step(x, t, s, first), s)), 0.5);
  const middle = add(t, mul(sub(s, t), 0.5));
  const second = velocity(step(x, t, middle, first), middle);
  const third = velocity(step(x, t, middle, second), middle);
  const fourth = velocity(step(x, t, s, third), s);
  return mul(add(add(first, fourth), mul(add(second, third), 2)), 1 / 6);
}
