import type { Description } from '../description.js';

/**
 * What the next state is a sum of: the state x and the one before it, the network's outputs, the data x̂0 and the noise ε̂ that
 * they mean, and fresh noise; `-1` is of the step before.
 */
export type Term =
  | 'x'
  | 'x-1'
  | 'output'
  | 'output-1'
  | 'output-2'
  | 'output-3'
  | 'output-4'
  | 'data'
  | 'data-1'
  | 'data-2'
  | 'noise'
  | 'fresh';

/** Weights of a sum; what is left out has none, and fresh noise is only drawn where it is named. */
export type Combination = Readonly<Partial<Record<Term, number>>>;

/** One call of the network, and where it leads. */
export interface ScheduledStep {
  /** The network's own time, which may be a fraction. */
  readonly timestep: number;
  /** The state is signal · x0 + noise · ε, in the scheduler's own units. */
  readonly signal: number;
  readonly noise: number;
  readonly next: Combination;
}

/** Steps from noise to data, all of whose numbers are known before the network is asked. */
export interface Schedule {
  readonly steps: readonly ScheduledStep[];
  /** The first state is Gaussian noise times this. */
  readonly initial: number;
  /** Bounds of the estimated data, where they are clipped. */
  readonly clip?: number;
  /** What the network was trained to say, and on which path. */
  readonly prediction: Description['prediction'];
  readonly straight: boolean;
}

/**
 * The state of a step made of data and noise: where a picture stands instead of noise, and where known regions are. Data of
 * fewer values than the noise are the same for all samples.
 */
export const mixedAt = (
  { signal, noise }: Pick<ScheduledStep, 'signal' | 'noise'>,
  x0: ArrayLike<number>,
  z: ArrayLike<number>,
): Float64Array => Float64Array.from(z, (value, i) => signal * x0[i % x0.length] + noise * value);

/** What an output means at a state, in x, output and the two weights of the state. */
interface Reading {
  readonly data: readonly [x: number, output: number];
  readonly noise: readonly [x: number, output: number];
}

/**
 * Data and noise in terms of state and output. A network of a path that keeps the variance was trained on x / m with
 * m = √(signal² + noise²), which v = (signal · ε - noise · x0) / m is of (Salimans and Ho, 2022).
 */
function reading(
  { signal, noise }: Pick<ScheduledStep, 'signal' | 'noise'>,
  prediction: Description['prediction'],
): Reading {
  if (prediction === 'noise') return { data: [1 / signal, -noise / signal], noise: [0, 1] };
  if (prediction === 'data') return { data: [0, 1], noise: [1 / noise, -signal / noise] };
  const squared = signal ** 2 + noise ** 2;
  const norm = Math.sqrt(squared);
  if (prediction === 'v') return { data: [signal / squared, -noise / norm], noise: [noise / squared, signal / norm] };
  // A velocity ε - x0 on the straight path.
  return { data: [1, -noise], noise: [1, signal] };
}

interface Past {
  readonly x: Float64Array;
  readonly output: ArrayLike<number>;
  readonly data: Float64Array;
}

/**
 * A state on its way through a schedule, in float64: `input` is what the network is asked with, `advance` takes its answer.
 * States may be several samples in a row, all at one timestep.
 */
export class Trajectory {
  private readonly past: Past[] = [];
  private index = 0;

  constructor(
    readonly schedule: Schedule,
    /** The state now. */
    public x: Float64Array,
  ) {}

  /** The step that is next; undefined at the end. */
  get step(): ScheduledStep | undefined {
    return this.schedule.steps[this.index];
  }

  /** The state as the network is shown it. */
  input(): Float32Array {
    const { signal, noise } = this.step!;
    const scale = this.schedule.straight ? 1 : 1 / Math.hypot(signal, noise);
    return Float32Array.from(this.x, (value) => value * scale);
  }

  /**
   * One step on.
   * @param output the network's, at `input` and the step's timestep
   * @param draw Gaussian noise like the state, for steps that want it
   */
  advance(output: ArrayLike<number>, draw: () => ArrayLike<number>): Float64Array {
    const { step, x, past, schedule } = this;
    const { data: toData, noise: toNoise } = reading(step!, schedule.prediction);
    const { clip = Infinity } = schedule;
    const read = ([a, b]: readonly [number, number]) =>
      Float64Array.from(x, (value, i) => (a && a * value) + b * output[i]);
    const data = read(toData).map((value) => Math.min(clip, Math.max(-clip, value)));
    const values = (term: Term): ArrayLike<number> => {
      if (term === 'fresh') return draw();
      if (term === 'noise') return read(toNoise);
      const [kind, back = '0'] = term.split('-') as ['x' | 'output' | 'data', string?];
      return back === '0' ? { x, output, data }[kind] : past[Number(back) - 1][kind];
    };
    const next = new Float64Array(x.length);
    for (const [term, weight] of Object.entries(step!.next) as [Term, number][]) {
      const given = values(term);
      if (weight) for (let i = 0; i < next.length; i++) next[i] += weight * given[i];
    }
    past.unshift({ x, output: Float64Array.from(output), data });
    past.length = Math.min(past.length, 4);
    this.index++;
    this.x = next;
    return next;
  }
}
