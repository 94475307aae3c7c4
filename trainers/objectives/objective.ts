import type { AverageVelocity, Velocity } from '../../src/flow/field.js';
import type { Solver } from '../../src/flow/solvers.js';
import type { Tensor } from '../../src/tensor/tensor.js';

/** What an objective may use to form its target on its share of a batch; all tensors have the same first axis. */
export interface Situation {
  /** Points x_t on the path, [B, ...]. */
  x: Tensor;
  /** Times t [B], and s [B] where the jump ends. */
  t: Tensor;
  s: Tensor;
  /** ε [B] in (0, 1]: how far from t the Eulerian, from s the Lagrangian intermediate time lies. */
  epsilon: Tensor;
  /** A second number per sample [B] in (0, 1), for objectives that choose an intermediate time. */
  portion: Tensor;
  /** The teacher's velocity; that of the pair (x0, z), z - x0, where there is no teacher. */
  teacher: Velocity;
  /** u of the averaged student θ⁻, the target network. */
  target: AverageVelocity;
  /** u of the student itself at (x, t, s), without gradient. */
  current: Tensor;
  /** How the teacher is stepped inside the objective, and in how many steps where it goes a long way. */
  solver: Solver;
  solverSteps: number;
  /** Half width of the central difference that stands for a derivative along the trajectory. */
  difference: number;
  tangent: Tangent;
}

/** How a step of ε is turned into a target: as it is, or as its limit at ε → 0. */
export interface Tangent {
  form: 'finite' | 'limit';
  /** c of the normalised tangent g / (‖g‖ + c); 0 leaves it as it is. */
  normalization: number;
  /** r of the tangent warm-up, [1]: from 0 to 1 it lets the part in that is not the plain velocity. */
  warmup: Tensor;
}

/**
 * A training objective: from where the student is asked, u_θ(x, t, s), to the average velocity it is regressed on.
 * Gradients never flow through the result.
 */
export interface Objective {
  /** Where the student is asked in place of the drawn s: on the diagonal s = t, or at the end of the path. */
  asked?: 'diagonal' | 'end';
  target: (situation: Situation) => Tensor;
}
