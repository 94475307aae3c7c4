import { step } from '../../src/flow/field.js';
import { perSample } from '../../src/flow/parametrization.js';
import { slope } from '../../src/flow/solvers.js';
import { add, mul, sub } from '../../src/ops/pointwise.js';
import type { Objective } from './objective.js';

/**
 * Trajectory consistency: the teacher's solver goes from t to a random r between t and s, in some steps, and the target
 * network jumps from there to s. In u: γ · ū(t → r) + (1 - γ) · u⁻(x_r, r, s) with γ = (t - r) / (t - s). (Kim et al.,
 * CTM, 2024, compared at s rather than pushed on to t = 0.)
 */
export const trajectory: Objective = {
  name: 'trajectory',
  summary: 'trajectory consistency: a long leg of the teacher first (Kim et al., CTM, 2024)',
  weight: { points: 0.375, images: 0.2 },
  solver: 'heun',
  solverSteps: 3,
  needsTeacher: true,
  *target({ x, t, s, fraction, teacher, target, solver, solverSteps }) {
    const at = (k: number) => add(t, mul(mul(fraction, k / solverSteps), sub(s, t)));
    const slopes = [];
    let reached = x;
    for (let k = 0; k < solverSteps; k++) {
      slopes.push(yield* slope(teacher, solver, reached, at(k), at(k + 1)));
      reached = step(reached, at(k), at(k + 1), slopes[k]);
    }
    const led = mul(slopes.reduce(add), 1 / solverSteps);
    const rest = yield* target(reached, at(solverSteps), s);
    return add(rest, mul(perSample(fraction, x), sub(led, rest)));
  },
};
