import { step } from '../../src/flow/field.js';
import { slope } from '../../src/flow/solvers.js';
import { add, mul, sub } from '../../src/ops/pointwise.js';
import type { Objective } from './objective.js';
import { splitTarget } from './tangent.js';

/**
 * Lagrangian map distillation: the target network goes from t to s' = s + ε(t - s), the teacher the rest of the way.
 * In u: (1 - ε) · u⁻(x, t, s') + ε · v(f⁻(x, t, s'), s'). (Boffi et al., Flow Map Matching, 2024; Sabour et al., Align
 * Your Flow, 2025; the finite step with a frozen target needs no derivative.)
 */
export const lagrangian: Objective = {
  name: 'lmd',
  summary: 'Lagrangian map distillation (Boffi et al., 2024)',
  weight: { points: 0.1875, images: 0.1 },
  solver: 'euler',
  needsTeacher: true,
  smallDivisor: 'limit',
  target: splitTarget(function* ({ x, t, s, epsilon, teacher, target, solver }) {
    const middle = add(s, mul(epsilon, sub(t, s)));
    const w = yield* target(x, t, middle);
    return { v: yield* slope(teacher, solver, step(x, t, middle, w), middle, s), w };
  }),
};
