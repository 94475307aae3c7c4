import { UserError } from '../errors.js';
import { add, div, maximum, minimum, mul, sqrt, square, sub } from '../ops/pointwise.js';
import type { Tensor } from '../tensor/tensor.js';
import type { Description } from './description.js';
import { dormandPrinceStep } from './dormand-prince.js';
import { step, type AverageVelocity, type Velocity } from './field.js';
import { perSample } from './parametrization.js';
import { answered, askable } from './questions.js';
import { ddimScheduler } from './schedulers/ddim.js';
import { ddpmScheduler } from './schedulers/ddpm.js';
import { dpmSolverScheduler } from './schedulers/dpm-solver.js';
import { eulerAncestralScheduler, eulerScheduler } from './schedulers/euler.js';
import { flowMatchScheduler } from './schedulers/flow-match.js';
import { lcmScheduler } from './schedulers/lcm.js';
import { pndmScheduler } from './schedulers/pndm.js';
import type { Scheduler } from './schedulers/scheduler.js';
import { tcdScheduler } from './schedulers/tcd.js';
import { evaluations, slope, type Solver } from './solvers.js';

/** What a step may use; times [B], strength and noise where it is stochastic. */
export interface StepInputs {
  x: Tensor;
  t: Tensor;
  s: Tensor;
  velocity: Velocity;
  average: AverageVelocity;
  /** The sampler's option, [1]. */
  strength: Tensor;
  /** Fresh noise like x. */
  noise: Tensor;
}

/** x at s after one step from t, for t > s or, where there is no fresh noise, any t and s. */
export type Step = (inputs: StepInputs) => Tensor;

/** A step whose error is known, so that its length can be chosen: the result, and how far another order's lies from it. */
export type MeasuredStep = (inputs: StepInputs) => { result: Tensor; difference: Tensor };

/** A number that belongs to a sampler. */
export interface SamplerOption {
  readonly name: 'gamma' | 'eta' | 'tolerance';
  readonly low: number;
  readonly high: number;
  readonly initial: number;
  /** One line. */
  readonly help: string;
}

/** All that is known of a way from noise to data. */
export interface SamplerEntry {
  /** One line. */
  readonly help: string;
  /** Whether only a flow map has it: it jumps instead of following a velocity. */
  readonly jumps?: boolean;
  /** Whether a step draws fresh noise. */
  readonly stochastic?: boolean;
  /** Jumps, or evaluations of the velocity, that a step costs; a try, where steps are chosen. */
  readonly evaluations: number;
  readonly option?: SamplerOption;
  /** The graph of a step; entries that share it differ in the strength of fresh noise. */
  readonly step?: Step;
  /** In place of `step`: it chooses its own steps so that the error of each keeps within the option, a tolerance. */
  readonly measured?: MeasuredStep;
  /**
   * The same at the timesteps of a network's own schedule, as diffusers takes them: what pipelines sample by, and where
   * there is neither `step` nor `measured`, everyone. Of several the one that is for the network's path.
   */
  readonly schedulers?: readonly Scheduler[];
  /** The strength of fresh noise where it is no option. */
  readonly strength?: number;
}

const solverEntry = (solver: Solver, help: string): SamplerEntry => ({
  help,
  evaluations: evaluations[solver],
  step: ({ x, t, s, velocity }) => step(x, t, s, answered(slope(askable(velocity), solver, x, t, s))),
});

const entries = {
  jump: {
    help: "a flow map's own jumps",
    jumps: true,
    evaluations: 1,
    step: ({ x, t, s, average }) => step(x, t, s, average(x, t, s)),
  },
  consistency: {
    help: 'to the data and back by fresh noise (Song et al., 2023; LCM)',
    jumps: true,
    stochastic: true,
    evaluations: 1,
    step: renoisedJump,
    strength: 1,
  },
  gamma: {
    help: 'between jump and consistency (CTM, Kim et al., 2024)',
    jumps: true,
    stochastic: true,
    evaluations: 1,
    step: renoisedJump,
    option: {
      name: 'gamma',
      low: 0,
      high: 1,
      initial: 0.3,
      help: 'fresh noise in each jump, 0 none, 1 as consistency',
    },
  },
  euler: { ...solverEntry('euler', "Euler's method"), schedulers: [eulerScheduler, flowMatchScheduler] },
  heun: solverEntry('heun', "Heun's method, of order 2"),
  rk4: solverEntry('rk4', 'the classical Runge-Kutta method, of order 4'),
  dopri5: {
    help: 'Dormand-Prince of order 5, with steps of its own choice',
    evaluations: 7,
    measured: ({ velocity, x, t, s }) => dormandPrinceStep(velocity, x, t, s),
    option: { name: 'tolerance', low: 1e-6, high: 1, initial: 1e-4, help: 'error of a step, relative and absolute' },
  },
  ddim: {
    help: 'DDIM with a share of fresh noise (Song et al., 2021)',
    stochastic: true,
    evaluations: 1,
    step: ddimStep,
    schedulers: [ddimScheduler],
    option: {
      name: 'eta',
      low: 0,
      high: 1,
      initial: 0,
      help: 'fresh noise in each step, 0 as euler, 1 as euler-ancestral',
    },
  },
  'euler-ancestral': {
    help: 'DDIM with all noise fresh',
    stochastic: true,
    evaluations: 1,
    step: ddimStep,
    schedulers: [eulerAncestralScheduler],
    strength: 1,
  },
  'euler-maruyama': {
    help: 'the reverse SDE (Ma et al., SiT, 2024)',
    stochastic: true,
    evaluations: 1,
    step: eulerMaruyamaStep,
  },
  lcm: {
    help: 'of consistency-distilled networks under VP (Luo et al., 2023)',
    stochastic: true,
    evaluations: 1,
    schedulers: [lcmScheduler],
  },
  tcd: {
    help: 'of trajectory-consistent networks under VP (Zheng et al., 2024)',
    stochastic: true,
    evaluations: 1,
    schedulers: [tcdScheduler],
    option: { name: 'gamma', low: 0, high: 1, initial: 0.3, help: 'fresh noise in each step' },
  },
  'dpmpp-2m': {
    help: 'DPM-Solver++ under VP with the data of two steps (Lu et al., 2022)',
    evaluations: 1,
    schedulers: [dpmSolverScheduler],
  },
  ddpm: {
    help: 'the reverse chain of DDPM under VP (Ho et al., 2020)',
    stochastic: true,
    evaluations: 1,
    schedulers: [ddpmScheduler],
  },
  pndm: {
    help: 'pseudo linear multistep under VP, with one evaluation more (Liu et al., 2022)',
    evaluations: 1,
    schedulers: [pndmScheduler],
  },
} satisfies Record<string, SamplerEntry>;

/** The name of a sampler. */
export type SamplerName = keyof typeof entries;

/** Samplers by name. Adding one is adding an entry above: commands and their help follow. */
export const samplers: Readonly<Record<SamplerName, SamplerEntry>> = entries;

/** The names of all samplers. */
export const samplerNames = Object.keys(samplers) as SamplerName[];

/** A sampler with its option; left out, the option has its initial value. */
export interface Sampler {
  name: SamplerName;
  /** γ of `gamma`, where 0 is `jump` and 1 is `consistency`, and of `tcd`. */
  gamma?: number;
  /** η of `ddim`: 0 is `euler`, 1 is `euler-ancestral`. */
  eta?: number;
  /** Of `dopri5`, relative and absolute. */
  tolerance?: number;
}

/** All that is known of a sampler. @throws UserError where there is none of that name */
export function samplerEntry(name: string): SamplerEntry {
  if (!Object.hasOwn(samplers, name))
    throw new UserError(`"${name}" is none of the samplers ${samplerNames.join(', ')}`, 'sampler');
  return samplers[name as SamplerName];
}

/**
 * The scheduler that a sampler is for a network of that path.
 * @throws UserError where it is none there
 */
export function schedulerFor(name: SamplerName, path: Description['path']): Scheduler {
  const straight = path.kind === 'straight';
  const found = samplerEntry(name).schedulers?.find((scheduler) => (scheduler === flowMatchScheduler) === straight);
  if (found && (straight || path.kind === 'vp')) return found;
  const others = samplerNames.filter((other) =>
    samplers[other].schedulers?.some((scheduler) => (scheduler === flowMatchScheduler) === straight),
  );
  throw new UserError(
    `${name} has no timesteps of its own on a ${path.kind} path${path.kind === 've' ? '' : `: take ${others.join(', ')}`}`,
    'sampler',
  );
}

/** The sampler that a class of diffusers is; undefined for others. */
export const samplerOfClass = (className: string): SamplerName | undefined =>
  samplerNames.find((name) => samplers[name].schedulers?.some((scheduler) => scheduler.className === className));

/**
 * The value of a sampler's option, or the fixed strength of its fresh noise.
 * @throws UserError where the option is out of its range, or belongs to another sampler
 */
export function strengthOf({ name, ...options }: Sampler): number {
  const { option, strength = 0 } = samplerEntry(name);
  for (const [key, value] of Object.entries(options))
    if (value !== undefined && key !== option?.name)
      throw new UserError(`${key} does not belong to ${name}: leave it out`, key);
  if (!option) return strength;
  const value = options[option.name] ?? option.initial;
  if (!(value >= option.low && value <= option.high))
    throw new UserError(`${option.name} is a number from ${option.low} to ${option.high}, not ${value}`, option.name);
  return value;
}

/**
 * A jump to a time s' of less noise, and back to s by fresh noise. With σ = t / (1 - t) it lands at σ' = √(1 - γ²) σ_s and
 * adds γ σ_s (CTM); γ = 1 goes to the data, as LCM does.
 */
function renoisedJump({ x, t, s, average, strength, noise }: StepInputs): Tensor {
  const kept = sqrt(maximum(sub(1, square(strength)), 0));
  // At s = 1 the way back would start at t = 1 as well: nothing is jumped.
  const near = div(mul(kept, s), maximum(add(sub(1, s), mul(kept, s)), 1e-6));
  const reached = step(x, t, near, average(x, t, near));
  const ratio = div(sub(1, s), maximum(sub(1, near), 1e-6));
  return add(mul(perSample(ratio, x), reached), mul(perSample(mul(strength, s), x), noise));
}

/**
 * A DDIM step: the noise that x holds is carried on in part, the rest is fresh. On the straight path
 * x_s = (1 - s) x0 + s (√(1 - η² (1 - r²)) ẑ + η √(1 - r²) ξ) with r the ratio of the noise levels σ; η = 0 is an Euler step.
 */
function ddimStep({ x, t, s, velocity, strength, noise }: StepInputs): Tensor {
  const v = velocity(x, t);
  const clean = sub(x, mul(perSample(t, x), v));
  const held = add(x, mul(perSample(sub(1, t), x), v));
  // σ_s / σ_t, which is 0 from pure noise.
  const ratio = minimum(div(mul(s, sub(1, t)), maximum(mul(sub(1, s), t), 1e-6)), 1);
  const lost = mul(square(strength), sub(1, square(ratio)));
  const kept = add(
    mul(perSample(sqrt(maximum(sub(1, lost), 0)), x), held),
    mul(perSample(sqrt(maximum(lost, 0)), x), noise),
  );
  return add(mul(perSample(sub(1, s), x), clean), mul(perSample(s, x), kept));
}

/**
 * Euler-Maruyama of the reverse SDE with diffusion w(t) = t (Ma et al., SiT, 2024): dx = (v - w/2 · score) dt + √w dW. The
 * score is -ẑ / t, so the drift is v + ẑ / 2 with ẑ = x + (1 - t) v; going backwards it denoises what the noise adds.
 */
function eulerMaruyamaStep({ x, t, s, velocity, noise }: StepInputs): Tensor {
  const v = velocity(x, t);
  const held = add(x, mul(perSample(sub(1, t), x), v));
  const width = sqrt(maximum(mul(t, sub(t, s)), 0));
  return add(step(x, t, s, add(v, mul(held, 0.5))), mul(perSample(width, x), noise));
}
