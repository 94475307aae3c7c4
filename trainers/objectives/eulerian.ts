import { step } from '../../src/flow/field.js';
import { slope } from '../../src/flow/solvers.js';
import { add, mul, sub } from '../../src/ops/pointwise.js';
import type { Objective } from './objective.js';
import { splitTarget } from './tangent.js';

/**
 * Eulerian map distillation: the teacher goes from t to t' = t + ε(s - t), the target network the rest of the way.
 * In u: ε · v(x, t) + (1 - ε) · u⁻(x', t', s). (Sabour et al., Align Your Flow, 2025. With the velocity of the pair it is
 * α-Flow and SoFlow, 2025.)
 */
export const eulerian: Objective = {
  name: 'emd',
  summary: 'Eulerian map distillation (Sabour et al., 2025)',
  weight: { points: 0.1875, images: 0.1 },
  solver: 'heun',
  smallDivisor: 'limit',
  target: splitTarget(function* ({ x, t, s, epsilon, teacher, target, solver }) {
    const middle = add(t, mul(epsilon, sub(s, t)));
    const v = yield* slope(teacher, solver, x, t, middle);
    return { v, w: yield* target(step(x, t, middle, v), middle, s) };
  }),
};
