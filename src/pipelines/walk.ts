import { UserError } from '../errors.js';
import type { Description } from '../flow/description.js';
import type { Network } from '../flow/network.js';
import { timesOf } from '../flow/sampling.js';
import { samplerEntry, schedulerFor, strengthOf, type Sampler } from '../flow/samplers.js';
import { lawOf } from '../flow/scheduler-config.js';
import { scheduleOf } from '../flow/schedulers/plan.js';
import { mixedAt, Trajectory, type ScheduledStep } from '../flow/schedulers/schedule.js';
import { hostStreams, seedFor } from '../tensor/streams.js';
import type { Asking } from './asking.js';

/** Gaussian noise [count · size] for a step. */
export type StepNoise = (step: number) => ArrayLike<number>;

/** A call of the network on a walk, as tests and the curious see it. */
export interface Call {
  /** The network's own time, or ours where a sampler has no timesteps. */
  readonly timestep: number;
  /** The state as the network was shown it, and what it said, guidance included; a sampler without timesteps shows none. */
  readonly input?: Float32Array;
  readonly output?: Float32Array;
}

/** A way from noise to data in steps, for latents that may be put back on their path in between. */
export interface Walk {
  readonly steps: number;
  /** The state made of noise alone. */
  begin(noise: ArrayLike<number>): void;
  /** The state of a step made of data and noise; after the last step the data. */
  mixed(step: number, data: ArrayLike<number>, noise: ArrayLike<number>): Float64Array;
  /** The state now, which may be changed between two steps. */
  state: Float64Array;
  go(step: number, noise: StepNoise): Promise<Call>;
}

/** What answers on the way: a network that is told everything. */
export type Answering = Pick<Asking, 'output' | 'follow' | 'sampleSize'>;

/** What of latents is known, with the noise that all of them started from. */
export interface KnownLatents {
  /** One picture's for all samples, or one's for each. */
  readonly latents: Float32Array;
  readonly noise: Float32Array;
  /** 1 where it is painted, per position of a plane; one mask for all samples, or one for each. */
  readonly hidden: Float32Array;
  /** Values of a sample, and of one of its channels. */
  readonly size: number;
  readonly plane: number;
}

/** Puts what is known back after a step, with the noise of the step that follows. */
export function putBack(walk: Walk, step: number, { latents, noise, hidden, size, plane }: KnownLatents): void {
  const reference = walk.mixed(step + 1, latents, noise);
  walk.state = walk.state.map((value, i) => {
    const place = Math.floor(i / size) * plane + (i % plane);
    return hidden[place % hidden.length] ? value : reference[i];
  });
}

/** What is walked. */
export interface WalkOptions {
  readonly sampler: Sampler;
  readonly steps: number;
  /** The share of the steps that is taken, the last ones: 1 starts from noise alone. */
  readonly strength: number;
  readonly seed: number;
}

/** Steps that are left out at the beginning, where a picture is to be kept in part. */
export const skippedSteps = (steps: number, strength: number): number =>
  steps - Math.min(steps, Math.floor(steps * strength));

/**
 * A walk by a sampler's name, checked, for whatever asks the network: at the timesteps of the scheduler that it is for the
 * network's path, or, where it is none, in equal steps on the straight path.
 * @throws UserError where the sampler cannot be for this network
 */
export function walkOf(
  { description }: Network,
  config: Readonly<Record<string, unknown>>,
  options: WalkOptions,
): (asking: Answering) => Walk {
  const { sampler, steps, strength } = options;
  const { schedulers, jumps, step, measured } = samplerEntry(sampler.name);
  const { role, path } = description;
  if (measured) throw new UserError(`${sampler.name} chooses its own steps: take one of fixed steps here`, 'sampler');
  if (jumps && role === 'teacher')
    throw new UserError(
      `${sampler.name} is for flow maps: fold in the adapter of a distillation, or take euler for example`,
      'sampler',
    );
  if (!step && role === 'flow-map')
    throw new UserError(`${sampler.name} asks a teacher, and this is a flow map: take jump or consistency`, 'sampler');
  if (skippedSteps(steps, strength) === steps)
    throw new UserError(`${strength} of ${steps} steps is none: ask for more of either`, 'strength');
  const scheduled = schedulers?.length && role === 'teacher' && path.kind !== 've';
  return scheduled ? scheduledWalk(path, config, options) : straightWalk(description, options);
}

/** At the timesteps of a scheduler. */
function scheduledWalk(
  path: Description['path'],
  config: Readonly<Record<string, unknown>>,
  { sampler, steps, strength }: WalkOptions,
): (asking: Answering) => Walk {
  const scheduler = schedulerFor(sampler.name, path);
  // What the folder does not say is the default of the class that samples.
  const law = lawOf({ ...config, _class_name: scheduler.className }, 'scheduler_config.json');
  const schedule = scheduleOf(scheduler, law, config, {
    steps,
    start: skippedSteps(steps, strength),
    strength: strengthOf(sampler),
  });
  return (asking) => {
    const trajectory = new Trajectory(schedule, new Float64Array(0));
    return {
      steps: schedule.steps.length,
      begin: (noise) => void (trajectory.x = Float64Array.from(noise, (value) => value * schedule.initial)),
      mixed: (step, data, noise) => mixedAt(schedule.steps[step] ?? clean, data, noise),
      get state() {
        return trajectory.x;
      },
      set state(x) {
        trajectory.x = x;
      },
      go: async (step, noise) => {
        const { timestep } = trajectory.step!;
        const input = trajectory.input();
        const output = await asking.output(input, timestep);
        trajectory.advance(output, () => noise(step));
        return { timestep, input, output };
      },
    };
  };
}

const clean: Pick<ScheduledStep, 'signal' | 'noise'> = { signal: 1, noise: 0 };

/** On the straight path, by a sampler of velocities or of jumps. */
function straightWalk(
  description: Description,
  { sampler, steps, strength, seed }: WalkOptions,
): (asking: Answering) => Walk {
  const times = timesOf(steps, description).slice(skippedSteps(steps, strength));
  return (asking) => {
    let state = new Float64Array(0);
    return {
      steps: times.length - 1,
      begin: (noise) => void (state = Float64Array.from(noise)),
      mixed: (step, data, noise) => mixedAt({ signal: 1 - times[step], noise: times[step] }, data, noise),
      get state() {
        return state;
      },
      set state(x) {
        state = Float64Array.from(x);
      },
      go: async (step) => {
        const noiseSeed = seedFor(seed, hostStreams.samplerNoise, step);
        const x = Float32Array.from(state);
        const [t, s] = [step, step + 1].map((i) => new Float32Array(x.length / asking.sampleSize).fill(times[i]));
        state = Float64Array.from(await asking.follow({ x, t, s }, [0, 1], sampler, noiseSeed));
        return { timestep: times[step] };
      },
    };
  };
}
