import * as z from 'zod';
import { UserError } from '../errors.js';
import type { Description } from './description.js';
import { issueText } from '../issue.js';

/** What a scheduler's configuration says of the network: the path that it was trained on, and what it predicts. */
export type Law = Pick<Description, 'path' | 'prediction' | 'timeScale' | 'timeShift'>;

/** β of the first and of the last level, and their law, where a class has no value in its file. */
const ddpm = { start: 1e-4, end: 0.02, schedule: 'linear' } as const;
const heun = { start: 0.00085, end: 0.012, schedule: 'linear' } as const;
const latent = { start: 0.00085, end: 0.012, schedule: 'scaled_linear' } as const;

/** Schedulers of discrete diffusions under VP, with what they take where the file says nothing. */
const diffusions: Readonly<Record<string, { start: number; end: number; schedule: string }>> = {
  DDPMScheduler: ddpm,
  DDPMParallelScheduler: ddpm,
  DDIMScheduler: ddpm,
  DDIMParallelScheduler: ddpm,
  DDIMInverseScheduler: ddpm,
  PNDMScheduler: ddpm,
  LMSDiscreteScheduler: ddpm,
  EulerDiscreteScheduler: ddpm,
  EulerAncestralDiscreteScheduler: ddpm,
  DPMSolverMultistepScheduler: ddpm,
  DPMSolverMultistepInverseScheduler: ddpm,
  DPMSolverSinglestepScheduler: ddpm,
  DEISMultistepScheduler: ddpm,
  UniPCMultistepScheduler: ddpm,
  SASolverScheduler: ddpm,
  HeunDiscreteScheduler: heun,
  KDPM2DiscreteScheduler: heun,
  KDPM2AncestralDiscreteScheduler: heun,
  DPMSolverSDEScheduler: heun,
  LCMScheduler: latent,
  TCDScheduler: latent,
};

/** Those of them that can rescale their schedule to end in noise alone; others pass the option over. */
const rescalable = [
  'DDPMScheduler',
  'DDPMParallelScheduler',
  'DDIMScheduler',
  'DDIMParallelScheduler',
  'DDIMInverseScheduler',
  'EulerDiscreteScheduler',
  'EulerAncestralDiscreteScheduler',
  'DPMSolverMultistepScheduler',
  'UniPCMultistepScheduler',
  'LCMScheduler',
  'TCDScheduler',
];

/** Schedulers of flow matching: the straight path, velocity, and times of 1 for noise as 1000. */
const flows = ['FlowMatchEulerDiscreteScheduler', 'FlowMatchHeunDiscreteScheduler'];

const beta = z.number().positive().max(1);
const levels = z.number().int().min(2).max(1_000_000).nullish();

const diffusionSchema = z.object({
  num_train_timesteps: levels,
  beta_start: beta.nullish(),
  beta_end: beta.nullish(),
  beta_schedule: z.string().nullish(),
  trained_betas: z.array(beta).min(2).max(1_000_000).nullish(),
  prediction_type: z.string().nullish(),
  /** Of the first versions: false where the network predicts the sample. */
  predict_epsilon: z.boolean().nullish(),
  rescale_betas_zero_snr: z.boolean().nullish(),
  timestep_type: z.string().nullish(),
  use_flow_sigmas: z.boolean().nullish(),
  flow_shift: z.number().positive().nullish(),
});

const flowSchema = z.object({
  num_train_timesteps: levels,
  shift: z.number().positive().nullish(),
  invert_sigmas: z.boolean().nullish(),
});

const schedules = {
  linear: 'linear',
  scaled_linear: 'scaled-linear',
  squaredcos_cap_v2: 'cosine',
  sigmoid: 'sigmoid',
} as const;
const predictions = { epsilon: 'noise', sample: 'data', v_prediction: 'v' } as const;

/**
 * Path and prediction by a scheduler's configuration. What concerns only how it samples is passed over.
 * @param config the content of scheduler_config.json
 * @param origin its path, for messages
 * @throws UserError naming the class, the option or the value that is not supported
 */
export function lawOf(config: Readonly<Record<string, unknown>>, origin: string): Law {
  const name = String(config._class_name ?? '');
  if (flows.includes(name)) {
    const { num_train_timesteps: steps, shift, invert_sigmas: inverted } = parse(flowSchema, config, origin);
    if (inverted) throw new UserError(`${origin}: invert_sigmas: true is not supported, only false`);
    return { path: { kind: 'straight' }, prediction: 'velocity', timeScale: steps ?? 1000, ...shiftOf(shift) };
  }
  if (!Object.hasOwn(diffusions, name))
    throw new UserError(
      `${origin}: the scheduler ${name || 'without _class_name'} is none of those whose path is known: ${[...Object.keys(diffusions), ...flows].join(', ')}`,
    );
  const stated = parse(diffusionSchema, config, origin);
  const { start, end, schedule } = diffusions[name];
  const wanted = stated.prediction_type ?? (stated.predict_epsilon === false ? 'sample' : 'epsilon');
  const steps = stated.num_train_timesteps ?? 1000;
  if (wanted === 'flow_prediction') {
    if (!stated.use_flow_sigmas)
      throw new UserError(`${origin}: prediction_type: flow_prediction needs use_flow_sigmas: true`);
    return { path: { kind: 'straight' }, prediction: 'velocity', timeScale: steps, ...shiftOf(stated.flow_shift) };
  }
  if (stated.timestep_type && stated.timestep_type !== 'discrete')
    throw new UserError(`${origin}: timestep_type: ${stated.timestep_type} is not supported, only discrete`);
  const prediction = choose(predictions, wanted, 'prediction_type', origin);
  const zeroTerminal = stated.rescale_betas_zero_snr && rescalable.includes(name) ? { zeroTerminal: true } : {};
  const { trained_betas: betas } = stated;
  if (betas)
    return {
      path: { kind: 'vp', schedule: 'betas', steps: betas.length, betas, ...zeroTerminal },
      prediction,
      timeScale: 1,
    };
  const law = choose(schedules, stated.beta_schedule ?? schedule, 'beta_schedule', origin);
  // The cosine law has no first and last β.
  const ends = law === 'cosine' ? {} : { betaStart: stated.beta_start ?? start, betaEnd: stated.beta_end ?? end };
  return { path: { kind: 'vp', schedule: law, steps, ...ends, ...zeroTerminal }, prediction, timeScale: 1 };
}

const shiftOf = (shift: number | null | undefined): Pick<Law, 'timeShift'> =>
  shift && shift !== 1 ? { timeShift: shift } : {};

function choose<V>(known: Readonly<Record<string, V>>, value: string, option: string, origin: string): V {
  if (Object.hasOwn(known, value)) return known[value];
  throw new UserError(`${origin}: ${option}: ${value} is not supported, only ${Object.keys(known).join(', ')}`);
}

function parse<S extends z.ZodType>(schema: S, config: unknown, origin: string): z.infer<S> {
  const result = schema.safeParse(config);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new UserError(`${origin}: ${issue.path.join('.') || 'all of it'}: ${issueText(issue)}`);
}
