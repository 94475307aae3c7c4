import { step } from '../../src/flow/field.js';
import { perSample } from '../../src/flow/parametrization.js';
import { add, mul, sub } from '../../src/ops/pointwise.js';
import type { Objective } from './objective.js';

/**
 * Explicit composition, also called progressive self-distillation: the target network jumps t → r → s through an r
 * between. In u: γ · u⁻(x, t, r) + (1 - γ) · u⁻(f⁻(x, t, r), r, s) with γ = (t - r) / (t - s); γ = ½ is the shortcut
 * model's (Frans et al., 2024). It needs the diagonal beside it: alone it is content with any map that composes (Boffi et
 * al., 2025).
 */
export const semigroup: Objective = {
  name: 'semigroup',
  summary: 'composition of two jumps (Frans et al., 2024; Boffi et al., 2025)',
  *target({ x, t, s, fraction, target }) {
    const middle = add(t, mul(fraction, sub(s, t)));
    const first = yield* target(x, t, middle);
    const second = yield* target(step(x, t, middle, first), middle, s);
    return add(second, mul(perSample(fraction, x), sub(first, second)));
  },
};
