import * as z from 'zod';
import type { Description } from '../description.js';
import type { Schedule } from './schedule.js';
import { spacings } from './spacing.js';

/** The path and prediction of the network, and the steps that are wanted. */
export interface ScheduleRequest {
  /** ᾱ of every timestep of training, in float64. */
  readonly bars: Float64Array;
  readonly prediction: Description['prediction'];
  readonly steps: number;
  /** The first of the steps that is taken: later ones start from a picture with noise. */
  readonly start: number;
  /** The sampler's option, such as DDIM's η. */
  readonly strength: number;
}

/** A way from noise to data as diffusers has it: its options, and the steps that they mean. */
export interface Scheduler {
  /** diffusers' name of the class. */
  readonly className: string;
  /** Options of its configuration that concern how it samples, completed by its defaults. */
  readonly options: z.ZodType<Record<string, unknown>>;
  /** @throws UserError naming the option or the number of steps that cannot be */
  plan(options: Record<string, unknown>, request: ScheduleRequest): Schedule;
}

/** A scheduler from its class, its options and its plan. */
export const defineScheduler = <S extends z.ZodObject>(definition: {
  className: string;
  options: S;
  plan(options: z.infer<S>, request: ScheduleRequest): Schedule;
}): Scheduler => ({
  className: definition.className,
  options: definition.options as unknown as Scheduler['options'],
  plan: (options, request) => definition.plan(options as z.infer<S>, request),
});

/** An option with its default, which null stands for as well. */
export const option = <T extends z.ZodType>(type: T, usual: z.output<T>) =>
  type.nullish().transform((value): z.output<T> => value ?? usual);

/** An option of which only one value is supported: others would change what is computed. */
export const fixed = <const V extends string | number | boolean>(value: V) =>
  z
    .literal(value, { error: ({ input }) => `${JSON.stringify(input)} is not supported, only ${value}` })
    .nullish()
    .transform(() => value);

/** Options of all classes: where timesteps lie. */
export const spacingOptions = (spacing: (typeof spacings)[number]) => ({
  timestep_spacing: option(z.enum(spacings), spacing),
  steps_offset: option(z.number().int().min(0).max(1_000_000), 0),
});

/** Options by which the estimated data are kept within bounds. */
export const clipOptions = (clipped: boolean) => ({
  clip_sample: option(z.boolean(), clipped),
  clip_sample_range: option(z.number().positive(), 1),
  thresholding: fixed(false),
});

/** The bounds that `clipOptions` state. */
export const clipOf = (options: { clip_sample: boolean; clip_sample_range: number }): { clip?: number } =>
  options.clip_sample ? { clip: options.clip_sample_range } : {};

/** Signal and noise of a timestep under VP, [√ᾱ, √(1 - ᾱ)]. */
export const levelAt = (bar: number): { signal: number; noise: number } => ({
  signal: Math.sqrt(bar),
  noise: Math.sqrt(1 - bar),
});
