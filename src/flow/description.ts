import { z } from 'zod';
import { UserError } from '../errors.js';
import { architectureSchema } from '../models/index.js';

/** Where trajectories start: N(0, I), or a mixture of Gaussians of one width. */
const sourceSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('normal') }),
  z.strictObject({
    kind: z.literal('gaussians'),
    centers: z.array(z.array(z.number())).min(1),
    std: z.number().positive(),
  }),
]);

/**
 * What a file of weights means. Written into a file's metadata, or given beside a foreign one as YAML; nothing in it is
 * ever guessed.
 */
export const descriptionSchema = z.strictObject({
  /** `teacher`: a velocity field. `flow-map`: a two-time student. */
  role: z.enum(['teacher', 'flow-map']).default('teacher'),
  architecture: architectureSchema,
  /** Which end of the network's own time is noise. */
  time: z.enum(['noise-at-1', 'data-at-1']),
  /** The network's time is ours, flipped or not, times this. */
  timeScale: z.number().positive().default(1),
  /** What the network returns: dx/dt in its own time, or the data point that the trajectory leads to. */
  prediction: z.enum(['velocity', 'data']),
  /** The smallest t at which the network may be asked: a data prediction says nothing of the velocity at t = 0. */
  minimumTime: z.number().min(0).max(0.5).default(0),
  /** Values that black and white have; absent where samples are not images. */
  dataRange: z.tuple([z.number(), z.number()]).optional(),
  source: sourceSchema.default({ kind: 'normal' }),
  /** The data set that it was trained on, by name: only for people and for fetching held-out data. */
  data: z.string().optional(),
});

export type Description = z.infer<typeof descriptionSchema>;

/** Metadata key under which semiflow's files carry their description as JSON. */
export const metadataKey = 'semiflow';

/**
 * Checks a description from a file's metadata or from YAML.
 * @param origin the file's name, for the message
 * @throws UserError naming the first key that is wrong
 */
export function parseDescription(value: unknown, origin: string): Description {
  const result = descriptionSchema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new UserError(`${origin}: ${issue.path.join('.') || 'description'}: ${issue.message}`);
}
