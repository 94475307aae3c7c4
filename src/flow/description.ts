import * as z from 'zod';
import { UserError } from '../errors.js';
import { architectureSchema } from '../models/index.js';
import { diffusionSchedules } from './noise-schedule.js';
import { issueText } from '../issue.js';

/** Where trajectories start: N(0, I), or a mixture of Gaussians of one width. */
const sourceSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('normal') }),
  z.strictObject({
    kind: z.literal('gaussians'),
    centers: z.array(z.array(z.number())).min(1),
    std: z.number().positive(),
  }),
]);

const beta = z.number().positive().max(1);

/** The path on which a network was trained to see data drown in noise: x' = α x0 + σ z. */
const pathSchema = z.discriminatedUnion('kind', [
  /** α = 1 - t, σ = t: rectified flow, flow matching, SiT. */
  z.strictObject({ kind: z.literal('straight') }),
  /** α² + σ² = 1 in discrete levels: DDPM, latent diffusion, DiT. The network's time is the level. */
  z.strictObject({
    kind: z.literal('vp'),
    schedule: z.enum(diffusionSchedules),
    steps: z.number().int().min(2).max(1_000_000).default(1000),
    /** The first and the last β; left out, those published, for any number of levels. */
    betaStart: beta.optional(),
    betaEnd: beta.optional(),
    /** β of every level, for the schedule `betas`. */
    betas: z.array(beta).max(1_000_000).optional(),
    /** Whether the last level is noise alone, by rescaling (Lin et al., 2024). */
    zeroTerminal: z.boolean().optional(),
  }),
  /** α = 1: EDM. The network's time is ln(σ) / 4. */
  z.strictObject({
    kind: z.literal('ve'),
    sigmaMin: z.number().positive().default(0.002),
    sigmaMax: z.number().positive().default(80),
    sigmaData: z.number().positive().default(0.5),
  }),
]);

/**
 * What a file of weights means. Written into a file's metadata, or given beside a foreign one as YAML; nothing in it is
 * ever guessed.
 */
const fields = z.strictObject({
  /** `teacher`: a velocity field. `flow-map`: a two-time student. */
  role: z.enum(['teacher', 'flow-map']).default('teacher'),
  architecture: architectureSchema,
  /** Which end of the network's own time is noise. */
  time: z.enum(['noise-at-1', 'data-at-1']).default('noise-at-1'),
  /** The network's time is ours, flipped or not, times this. */
  timeScale: z.number().positive().default(1),
  /**
   * What the network returns: dx/dt in its own time (`velocity`), the data x0 (`data`) or the noise z (`noise`) that the
   * trajectory leads to, v = α z - σ x0 (`v`, Salimans and Ho, 2022), or EDM's preconditioned network (`edm`).
   */
  prediction: z.enum(['velocity', 'data', 'noise', 'v', 'edm']),
  path: pathSchema.default({ kind: 'straight' }),
  /** The smallest t at which the network may be asked: a data prediction says nothing of the velocity at t = 0. */
  minimumTime: z.number().min(0).max(0.5).default(0),
  /** Equal steps of samplers are taken at s t / (1 + (s - 1) t) in place of t (Esser et al., 2024), so more of them in noise. */
  timeShift: z.number().positive().optional(),
  /** Values that black and white have; absent where samples are not images. */
  dataRange: z.tuple([z.number(), z.number()]).optional(),
  source: sourceSchema.default({ kind: 'normal' }),
  /** The data set that it was trained on, by name: only for people and for fetching held-out data. */
  data: z.string().optional(),
  /** Of a flow map: how it is meant to be sampled, if not by its jumps. */
  sampler: z.enum(['jump', 'consistency', 'euler']).optional(),
  /** Of a flow map: whether it also learned to jump from data towards noise. */
  forward: z.boolean().optional(),
  /** Of a flow map: the rank of the products that its jumps open beside weights of its backbone; left out, none. */
  jumpRank: z.number().int().positive().optional(),
  /** Of a teacher: how far it is led away from a weaker network, whose weights its file has behind `weak.`; 1 is not at all. */
  autoguidance: z.number().optional(),
  /** Between which times guidance of a teacher counts (Kynkäänniemi et al., 2024); elsewhere it is 1. Left out, everywhere. */
  guidanceTimes: z.strictObject({ from: z.number().min(0).max(1), to: z.number().min(0).max(1) }).optional(),
  /** Of a flow map: the classifier-free guidance that it learned; a range is an input of the network. */
  guidance: z.strictObject({ from: z.number(), to: z.number() }).optional(),
});

/** @see fields */
export const descriptionSchema = fields.superRefine((description, context) => {
  const { role, prediction, path, time, guidanceTimes, autoguidance } = description;
  const refuse = (key: string, message: string) => context.addIssue({ code: 'custom', path: [key], message });
  if (path.kind !== 'straight' && time === 'data-at-1')
    refuse('time', `a ${path.kind} path counts its own levels of noise: leave time out`);
  if (prediction === 'velocity' && path.kind !== 'straight')
    refuse('prediction', `velocity belongs to the straight path, on ${path.kind} networks predict noise, data or v`);
  if (path.kind === 'vp' && (path.schedule === 'betas' ? path.betas?.length !== path.steps : path.betas !== undefined))
    refuse('path', `betas are a list for each of ${path.steps} steps, and belong to the schedule betas`);
  if (prediction === 'v' && path.kind !== 'vp') refuse('prediction', 'v = α z - σ x0 belongs to a vp path');
  if (prediction === 'edm' && path.kind !== 've') refuse('prediction', 'edm belongs to a ve path');
  if (role === 'flow-map' && autoguidance !== undefined)
    refuse('autoguidance', 'it is that of a teacher: a flow map learns the guided flow as its own');
  if (guidanceTimes && guidanceTimes.from >= guidanceTimes.to)
    refuse(
      'guidanceTimes',
      `they go from the earlier to the later, not from ${guidanceTimes.from} to ${guidanceTimes.to}`,
    );
});

/** What a file of weights means, checked and completed. */
export type Description = z.infer<typeof descriptionSchema>;

/** Metadata key under which semiflow's files carry their description as JSON. */
export const metadataKey = 'semiflow';
/** Metadata key under which an adapter's file says what it adapts. */
export const adapterKey = 'semiflow-adapter';

/** A description as files carry it: whose module is named, but not where it lay on this machine. */
export function fileDescription(description: Description): Description {
  const { module, ...rest } = description.architecture;
  if (!module) return description;
  const { name, sha256 } = module;
  return { ...description, architecture: { ...rest, module: { name, sha256 } } };
}

/**
 * Metadata of a file as JSON.
 * @param key of the metadata
 * @param origin the file's name, for the message
 * @throws UserError where it is none
 */
export function parseJson(text: string, key: string, origin: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UserError(`${origin}: its "${key}" metadata is not JSON: the file was not written by semiflow`);
  }
}

/**
 * Checks a description from a file's metadata or from YAML.
 * @param origin the file's name, for the message
 * @throws UserError naming the first key that is wrong
 */
export function parseDescription(value: unknown, origin: string): Description {
  const result = descriptionSchema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new UserError(`${origin}: ${issue.path.join('.') || 'description'}: ${issueText(issue)}`);
}
