import type { AverageVelocity, Velocity } from '../../src/flow/field.js';
import type { Solver } from '../../src/flow/solvers.js';
import type { Tensor } from '../../src/tensor/tensor.js';

/** What an objective may use to form its target on its share of a batch; all tensors have the same first axis. */
export interface Situation {
  /** Points x_t on the path, [B, ...]. */
  x: Tensor;
  /** Times t [B] and s [B], s ≤ t. */
  t: Tensor;
  s: Tensor;
  /** ε [B] in (0, 1]: how far from t the Eulerian, from s the Lagrangian intermediate time lies. */
  epsilon: Tensor;
  /** A second uniform number per sample [B], for objectives that choose an intermediate time. */
  portion: Tensor;
  /** The teacher's velocity. */
  teacher: Velocity;
  /** u of the averaged student θ⁻, the target network. */
  target: AverageVelocity;
  /** How the teacher is stepped inside the objective. */
  solver: Solver;
}

/**
 * A training objective: from where the student is asked, u_θ(x, t, s) at `t` and `s`, to the average velocity it is
 * regressed on. Gradients never flow through the result.
 */
export interface Objective {
  /** Whether the student is asked on the diagonal s = t rather than at (t, s). */
  diagonal?: boolean;
  target: (situation: Situation) => Tensor;
}
