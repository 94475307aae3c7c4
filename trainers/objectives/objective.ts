import * as z from 'zod';
import type { Asking, Question } from '../../src/flow/questions.js';
import { solvers, type Solver } from '../../src/flow/solvers.js';
import type { Tensor } from '../../src/tensor/tensor.js';

/** What an objective may form its target from, for its rows of a batch; all tensors have the same first axis. */
export interface ObjectiveInputs {
  /** Points x_t on the path, [B, ...]. */
  readonly x: Tensor;
  /** Times t [B], and s [B] where the jump ends. */
  readonly t: Tensor;
  readonly s: Tensor;
  /** ε [B] in (0, 1]: how far from t the Eulerian, from s the Lagrangian intermediate time lies. */
  readonly epsilon: Tensor;
  /** γ [B] in (0, 1): the fraction of the jump after which an objective splits it. */
  readonly fraction: Tensor;
  /** Asks for the teacher's velocity; for that of the pair (x0, z), z - x0, where the data leads. */
  readonly teacher: (x: Tensor, t: Tensor) => Question;
  /** z - x0 of each pair of data and noise, [B, ...]: what the velocity of the data is the mean of. */
  readonly pair: Tensor;
  /** Asks for u⁻ of the averaged student, the target network. */
  readonly target: (x: Tensor, t: Tensor, s: Tensor) => Question;
  /** u of the student itself at (x, t, s), without gradient. */
  readonly student: Tensor;
  /** How the teacher is stepped inside the objective, and in how many steps where it goes a long way. */
  readonly solver: Solver;
  readonly solverSteps: number;
  /** Half width of the central difference that stands for a derivative along the trajectory. */
  readonly difference: number;
  readonly tangent: Tangent;
  /** What judges the student's samples; for objectives with `fake`. */
  readonly samples?: Judging;
}

/** How samples of the student are judged: put back on the path, where two velocities are compared. */
export interface Judging {
  /** A time [B] and noise [B, ...] to put a sample back on the path with. */
  readonly t: Tensor;
  readonly z: Tensor;
  /** Asks for the teacher's velocity, its guidance as much stronger as the recipe says. */
  readonly real: (x: Tensor, t: Tensor) => Question;
  /** Asks for the velocity of the fake, the network that learns the student's own samples. */
  readonly fake: (x: Tensor, t: Tensor) => Question;
  /** How much the gradient counts by now, [1]. */
  readonly strength: Tensor;
}

/** How a step of ε is turned into a target: as it is, or as its limit at ε → 0. */
export interface Tangent {
  readonly form: 'finite' | 'limit';
  /** c of the normalised tangent g / (‖g‖ + c); 0 leaves it as it is. */
  readonly normalization: number;
  /** r of the tangent warm-up, [1]: from 0 to 1 it lets the part in that is not the plain velocity. */
  readonly warmup: Tensor;
}

/**
 * A training objective: from where the student is asked, u_θ(x, t, s), to the average velocity it is regressed on. All that
 * recipes, flags, help and refusals know of it stands here.
 */
export interface Objective {
  /** Names its weight, `lambda.NAME` and `--lambda-NAME`: letters and digits, a small letter first. */
  readonly name: string;
  /** What it is, in a line of the help, with its source. */
  readonly summary: string;
  /** λ in the default recipe of points and of images; 0 where absent. */
  readonly weight?: { readonly points: number; readonly images: number };
  /** Where the student is asked in place of the drawn s: on the diagonal s = t, or at the end of the path. */
  readonly asked?: 'diagonal' | 'end';
  /** How the teacher is stepped unless a recipe says otherwise, for objectives that step it: makes the key `solver.NAME`. */
  readonly solver?: Solver;
  /** Its steps by default, for objectives that take several: makes the key `solver.NAMESteps`. */
  readonly solverSteps?: number;
  /**
   * Whether it asks the *fake*, a network that learns the student's own samples: then one is trained beside the student,
   * and a share of the objective's rows starts from pure noise. It has a gradient of its own rather than a target: u plus
   * that gradient, scaled, is one, since the student is regressed on it from where it is.
   */
  readonly fake?: boolean;
  /** Whether its errors count as they are, whatever weighting the recipe gives those of others. */
  readonly unweighted?: boolean;
  /** Whether it asks for the velocity elsewhere than at (x, t), where only a teacher can say it. */
  readonly needsTeacher?: boolean;
  /** Whether it teaches the velocity of the data, whatever that of the teacher is. */
  readonly ofData?: boolean;
  /** Whether it divides by a small step, which half precision cannot: always, or in the limit form of the tangent alone. */
  readonly smallDivisor?: 'always' | 'limit';
  /** How a flow map that learned this alone is sampled, where its jumps are not meant for it. */
  readonly sampler?: 'consistency' | 'euler';
  /**
   * The average velocity that the student is to have, [B, ...]. Gradients never flow through it. A generator where it
   * asks networks, by `yield* teacher(x, t)`, several questions at once by `yield* together(...)`: so each network is
   * called once for what all objectives ask at a time.
   */
  readonly target: (inputs: ObjectiveInputs) => Tensor | Asking<Tensor>;
}

const weight = z.number().min(0);

/** An objective as it comes from outside, perhaps from plain JavaScript. */
export const objectiveSchema = z.strictObject({
  name: z.string().regex(/^[a-z][A-Za-z0-9]*$/, 'letters and digits, a small letter first'),
  summary: z.string().regex(/^[^\n]+$/, 'one line'),
  weight: z.strictObject({ points: weight, images: weight }).optional(),
  asked: z.enum(['diagonal', 'end']).optional(),
  solver: z.enum(solvers).optional(),
  solverSteps: z.number().int().positive().optional(),
  fake: z.boolean().optional(),
  unweighted: z.boolean().optional(),
  needsTeacher: z.boolean().optional(),
  ofData: z.boolean().optional(),
  smallDivisor: z.enum(['always', 'limit']).optional(),
  sampler: z.enum(['consistency', 'euler']).optional(),
  target: z.custom<Objective['target']>((value) => typeof value === 'function', 'a function of the inputs'),
}) satisfies z.ZodType<Objective>;
