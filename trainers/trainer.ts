import { compile, type CompileOptions, type Program } from '../src/autodiff/compile.js';
import { gradients } from '../src/autodiff/gradients.js';
import { DivergenceError, UserError } from '../src/errors.js';
import type { Device } from '../src/gpu/device.js';
import type { KernelTime } from '../src/gpu/profiler.js';
import { Resource } from '../src/gpu/resource.js';
import { TensorStorage } from '../src/gpu/storage.js';
import type { ParameterLayout, Parameters } from '../src/nn/parameters.js';
import { expand, sum } from '../src/ops/broadcast.js';
import { concat, iota, reshape, slice } from '../src/ops/movement.js';
import { adam, assign, pack } from '../src/ops/optimizer.js';
import {
  add,
  div,
  equal,
  greater,
  maximum,
  minimum,
  mul,
  sqrt,
  square,
  sub,
  toFloat,
  where,
} from '../src/ops/pointwise.js';
import { fromStorage, type Tensor } from '../src/tensor/tensor.js';
import {
  decayAt,
  epsilonAt,
  rateAt,
  reachAt,
  warmupAt,
  type AverageLaw,
  type EpsilonLaw,
  type RateSchedule,
  type ReachLaw,
} from './schedules.js';

export interface TrainerOptions {
  steps: number;
  seed: number;
  rate: RateSchedule;
  beta1: number;
  beta2: number;
  adamEpsilon: number;
  weightDecay: number;
  clipNorm: number;
  /** How θ⁻, the target network, follows the trained weights. */
  targetAverage: AverageLaw;
  /** How the weights that are exported and evaluated follow them. */
  exportAverage: AverageLaw;
  epsilon: EpsilonLaw;
  /** Steps until the tangent's warm-up is 1. */
  tangentWarmup: number;
  reach: ReachLaw;
  /** f16: weights and activations are stored in half, with a loss scale; sums, masters and moments stay f32. */
  precision: 'f32' | 'f16';
}

/** What a loss may be built from. */
export interface LossContext {
  /** θ, which is trained. */
  parameters: Parameters;
  /** θ⁻, its moving average for targets. */
  target: Parameters;
  /** u32 [3]: seed and step, the key of all random numbers. */
  key: Tensor;
  /** Numbers of this step, [1] each. */
  schedule: {
    /** ε; 0 asks to draw it. */
    epsilon: Tensor;
    /** r of the tangent's warm-up. */
    warmup: Tensor;
    /** The longest |t - s|. */
    reach: Tensor;
  };
}

/** The mean loss, and parts of it to be shown beside it. All scalars. */
export interface Loss {
  total: Tensor;
  parts: Record<string, Tensor>;
}

/** What one step reported. */
export type StepMetrics = { step: number; loss: number; gradientNorm: number } & Record<string, number>;

/** Everything that a run needs to go on: named flat arenas and the number of steps done. */
export interface TrainerState {
  step: number;
  parameters: Float32Array;
  firstMoment: Float32Array;
  secondMoment: Float32Array;
  /** θ⁻ and the exported average, one after another. */
  averages: Float32Array;
  /** Of f16: the factor on the loss, and steps since it changed. */
  lossScale: Float32Array;
}

/** Steps whose metrics stay on the device until they are read in one go. */
const ringLength = 64;

/**
 * One compiled training step (forward, backward, clip, AdamW, averages), replayed. Learning rate, decays, ε, seed and
 * step are data in small buffers: nothing that changes is ever part of a recording. Whoever made it disposes of it.
 */
export class Trainer extends Resource {
  private step = 0;
  private constructor(
    readonly device: Device,
    private readonly options: TrainerOptions,
    private readonly storages: ReturnType<typeof storagesOf>,
    private readonly metricNames: readonly string[],
    private readonly ring: TensorStorage,
    private readonly program: Program,
  ) {
    super('this trainer');
  }

  /**
   * Traces and compiles a step.
   * @param initial weights by `layout`; θ⁻ and the exported average start from them
   */
  static async create(
    device: Device,
    layout: ParameterLayout,
    initial: Float32Array,
    loss: (context: LossContext) => Loss,
    options: TrainerOptions,
    progress: Pick<CompileOptions, 'onPlan' | 'onProgress'> = {},
  ): Promise<Trainer> {
    const half = options.precision === 'f16';
    if (half && !device.profile.f16)
      throw new UserError('this adapter has no f16 (shader-f16): leave --precision at f32');
    const storages = storagesOf(layout, initial, half);
    const { rounded } = storages;
    const parameters = layout.bind(rounded ?? storages.parameters);
    const scheduled = (i: number) => slice(fromStorage(storages.schedule), 0, i, i + 1);
    const { total, parts } = loss({
      parameters,
      target: rounded ? layout.bind(rounded, layout.length) : layout.bind(storages.averages),
      key: fromStorage(storages.key),
      schedule: { epsilon: scheduled(0), warmup: scheduled(1), reach: scheduled(2) },
    });
    const lossScale = fromStorage(storages.lossScale);
    const scale = half ? slice(lossScale, 0, 0, 1) : undefined;
    const wanted = layout.parameters.map(({ frozen }, i) => ({ frozen, i })).filter(({ frozen }) => !frozen);
    const slopes = gradients(
      total,
      wanted.map(({ i }) => parameters(layout.parameters[i].name)),
      scale && reshape(scale, total.shape),
    );
    const gradient = pack(
      slopes,
      wanted.map(({ i }) => layout.offsets[i]),
      layout.length,
    );
    const squaredNorm = reshape(sum(square(gradient)), [1]);
    const update = adam(
      gradient,
      squaredNorm,
      fromStorage(storages.scalars),
      {
        parameters: storages.parameters,
        firstMoment: storages.firstMoment,
        secondMoment: storages.secondMoment,
        averages: storages.averages,
        rounded,
      },
      scale,
    );
    const gradientNorm = scale ? div(sqrt(squaredNorm), scale) : sqrt(squaredNorm);
    const names = ['loss', 'gradientNorm', ...Object.keys(parts)];
    const values = [total, gradientNorm, ...Object.values(parts)].map((value) => reshape(value, [1, 1]));
    const ring = new TensorStorage('recent metrics', 'f32', ringLength * names.length);
    const shape = [ringLength, names.length];
    const rows = expand(reshape(toFloat(iota([ringLength])), [ringLength, 1]), shape);
    const record = where(
      equal(rows, fromStorage(storages.slot)),
      expand(concat(values, 1), shape),
      fromStorage(ring, shape),
    );
    const effects = [
      update,
      assign(ring, record),
      ...(half ? [assign(storages.lossScale, nextScale(lossScale, squaredNorm))] : []),
    ];
    const program = await compile(device, { effects, half, ...progress });
    return new Trainer(device, options, storages, names, ring, program);
  }

  get stepsDone(): number {
    return this.step;
  }

  get memory(): Program['memory'] {
    return this.program.memory;
  }

  /** Dispatches of one step. */
  get dispatches(): number {
    return this.program.dispatches.length;
  }

  /**
   * Runs `count` steps (at most 64) and returns what each reported.
   * @throws DivergenceError when a loss was not finite
   */
  async advance(count: number): Promise<StepMetrics[]> {
    this.assertUsable();
    const steps = Math.min(count, ringLength, this.options.steps - this.step);
    const first = this.step;
    for (let i = 0; i < steps; i++) {
      this.writeScalars();
      this.program.run();
      this.step++;
    }
    const ring = (await this.device.read(this.ring)) as Float32Array;
    const width = this.metricNames.length;
    return Array.from({ length: steps }, (_, i) => {
      const row = ((first + i) % ringLength) * width;
      const metrics = Object.fromEntries(this.metricNames.map((name, k) => [name, ring[row + k]]));
      if (!Number.isFinite(metrics.loss))
        throw new DivergenceError(`the loss became ${metrics.loss} at step ${first + i + 1}`);
      return { step: first + i + 1, ...metrics } as StepMetrics;
    });
  }

  /** The next step with timestamps around each kernel. It counts as a step. */
  async profileStep(): Promise<KernelTime[]> {
    this.writeScalars();
    this.step++;
    return this.program.profile();
  }

  protected free(): void {
    for (const held of [...Object.values(this.storages), this.ring, this.program]) held?.dispose();
  }

  /** The average that is exported and evaluated. */
  async exported(): Promise<Float32Array> {
    const averages = (await this.device.read(this.storages.averages)) as Float32Array;
    return averages.slice(averages.length / 2);
  }

  async state(): Promise<TrainerState> {
    const read = (storage: TensorStorage) => this.device.read(storage) as Promise<Float32Array>;
    const { parameters, firstMoment, secondMoment, averages, lossScale } = this.storages;
    return {
      step: this.step,
      parameters: await read(parameters),
      firstMoment: await read(firstMoment),
      secondMoment: await read(secondMoment),
      averages: await read(averages),
      lossScale: await read(lossScale),
    };
  }

  /** Goes on from a state, to the bit. */
  restore(state: TrainerState): void {
    for (const name of ['parameters', 'firstMoment', 'secondMoment', 'averages', 'lossScale'] as const) {
      if (state[name].length !== this.storages[name].length) {
        throw new UserError(
          `the saved ${name} have ${state[name].length} values, this run needs ${this.storages[name].length}: resume with the configuration it was started with`,
        );
      }
      this.device.write(this.storages[name], state[name]);
    }
    if (this.storages.rounded) {
      this.device.write(this.storages.rounded, state.parameters);
      this.device.write(this.storages.rounded, state.averages, state.parameters.length);
    }
    this.step = state.step;
  }

  private writeScalars(): void {
    const { options, step, device, storages } = this;
    const n = step + 1;
    const scalars = [
      rateAt(options.rate, step, options.steps),
      options.beta1,
      options.beta2,
      options.adamEpsilon,
      options.weightDecay,
      options.clipNorm,
      1 - options.beta1 ** n,
      1 - options.beta2 ** n,
      decayAt(options.targetAverage, step),
      decayAt(options.exportAverage, step),
    ];
    device.write(storages.scalars, Float32Array.from(scalars));
    const schedule = [
      epsilonAt(options.epsilon, step, options.steps),
      warmupAt(options.tangentWarmup, step),
      reachAt(options.reach, step, options.steps),
    ];
    device.write(storages.schedule, Float32Array.from(schedule));
    device.write(storages.key, Uint32Array.of(options.seed >>> 0, Math.floor(options.seed / 2 ** 32), step));
    device.write(storages.slot, Float32Array.of(step % ringLength));
  }
}

/**
 * Twice the loss scale after many steps without overflow, half of it after an overflow (Micikevicius et al., 2018).
 * A norm that is not finite also makes Adam leave everything as it is.
 */
function nextScale(current: Tensor, squaredNorm: Tensor): Tensor {
  const [scale, steps] = [slice(current, 0, 0, 1), slice(current, 0, 1, 2)];
  const finite = greater(3e38, squaredNorm);
  const grow = mul(finite, greater(steps, stepsToGrow));
  const next = where(finite, where(grow, minimum(mul(scale, 2), largestScale), scale), maximum(mul(scale, 0.5), 1));
  return concat([next, where(mul(finite, sub(1, grow)), add(steps, 1), 0)], 0);
}
const stepsToGrow = 1000;
const firstScale = 2 ** 14;
const largestScale = 2 ** 24;

function storagesOf(layout: ParameterLayout, initial: Float32Array, half: boolean) {
  const { length } = layout;
  const averages = new Float32Array(2 * length);
  averages.set(initial);
  averages.set(initial, length);
  return {
    parameters: new TensorStorage('parameters', 'f32', length, initial),
    firstMoment: new TensorStorage('first moments', 'f32', length),
    secondMoment: new TensorStorage('second moments', 'f32', length),
    averages: new TensorStorage('averages', 'f32', 2 * length, averages),
    rounded: half
      ? new TensorStorage('weights in half', 'f16', 3 * length, Float32Array.from([...initial, ...averages]))
      : undefined,
    lossScale: new TensorStorage('loss scale', 'f32', 2, Float32Array.of(firstScale, 0)),
    scalars: new TensorStorage('scalars', 'f32', 10),
    schedule: new TensorStorage('schedule', 'f32', 3),
    key: new TensorStorage('random key', 'u32', 3),
    slot: new TensorStorage('slot', 'f32', 1),
  };
}
