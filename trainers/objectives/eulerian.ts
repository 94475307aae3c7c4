import { perSample, step } from '../../src/flow/field.js';
import { slope } from '../../src/flow/solvers.js';
import { add, mul, sub } from '../../src/ops/pointwise.js';
import type { Objective } from './objective.js';

/**
 * Eulerian map distillation: the teacher goes from t to t' = t + ε(s - t), the target network the rest of the way.
 * In u: ε · v(x, t) + (1 - ε) · u⁻(x', t', s). (Sabour et al., Align Your Flow, 2025; at s = 0 consistency
 * distillation, Song et al., 2023.)
 */
export const eulerian: Objective = {
  target: ({ x, t, s, epsilon, teacher, target, solver }) => {
    const middle = add(t, mul(epsilon, sub(s, t)));
    const v = slope(teacher, solver, x, t, middle);
    const u = target(step(x, t, middle, v), middle, s);
    return add(u, mul(perSample(epsilon, x), sub(v, u)));
  },
};
