import { UserError } from '../errors.js';
import { compile, planProgram, type PlannedProgram, type Program } from '../autodiff/compile.js';
import type { Device } from '../gpu/device.js';
import { shareOf } from '../gpu/group.js';
import { isPoints, type Conditions, type Model } from '../models/model.js';
import type { Parameters } from '../nn/parameters.js';
import { keyOf, random } from '../tensor/philox.js';
import { Resource } from '../gpu/resource.js';
import { TensorStorage } from '../gpu/storage.js';
import { meanSquares } from '../ops/normalization.js';
import { assign } from '../ops/optimizer.js';
import { abs, add, div, mul, sqrt, sub } from '../ops/pointwise.js';
import { slice } from '../ops/movement.js';
import { normal } from '../ops/random.js';
import { sizeOf, type Shape } from '../tensor/shape.js';
import { hostStreams } from '../tensor/streams.js';
import { fromStorage, type Tensor } from '../tensor/tensor.js';
import { stepFactor } from './dormand-prince.js';
import { averageVelocityOf, outputOf, velocityOf, type AverageVelocity, type Velocity } from './field.js';
import { hostBytes, type MemoryNeeds } from './memory.js';
import { bindNetwork, type Network } from './network.js';
import { samplerEntry, schedulerFor, strengthOf, type MeasuredStep, type Sampler, type Step } from './samplers.js';
import { scheduleOf } from './schedulers/plan.js';
import { Trajectory } from './schedulers/schedule.js';
import { Turns } from './turns.js';

/** Samples [n, ...sampleShape] with a time each, and labels where the network is conditional. */
export interface Batch {
  x: Float32Array;
  t: Float32Array;
  s: Float32Array;
  labels?: Uint32Array;
  /** What else the network is told, by name: [n, ...shape], or [...shape] for all samples alike. */
  conditions?: ConditionValues;
  /** The same where guidance of a teacher leads away from, such as the states of an empty text. */
  negative?: ConditionValues;
}

/** Values of conditions by name. */
export type ConditionValues = Readonly<Record<string, Float32Array>>;

/** What a program runs: the step of samplers, one whose error is measured, or asking for u or v, or for the output, alone. */
type Graph = Step | MeasuredStep | 'velocity' | 'output';

/** A program, and how often one run of it calls the network for each sample. */
interface Traced {
  program: Promise<Program>;
  /** The same, once it is there. */
  compiled?: Program;
  calls: number;
}

/** Steps that an adaptive sampler may take: beyond them the tolerance cannot be met. */
const mostSteps = 10_000;

/**
 * A network ready to be asked: programs are compiled on first use and replayed for any number of samples. Calls at once
 * are queued. Where the device is one of a group, every rank makes the same calls: each computes its share of the samples,
 * and all have all of them afterwards. Whoever made it disposes of it.
 */
export class Runner extends Resource {
  private readonly programs = new Map<Graph, Traced>();
  /** Calls share the storages: one runs after another. */
  private readonly turns = new Turns();
  private readonly storages;
  private readonly conditions: Readonly<Record<string, TensorStorage>>;
  private readonly negative: Readonly<Record<string, TensorStorage>>;
  private readonly weights: Parameters;
  /** Elements of one sample. */
  readonly sampleSize: number;

  /**
   * @param batch samples that one program handles at a time
   * @param guidance scale of classifier-free guidance: of a teacher any, of a flow map one that it learned
   * @throws UserError where the network knows no such guidance
   */
  constructor(
    readonly device: Device,
    readonly network: Network,
    readonly batch: number,
    private readonly guidance = guidanceOf(network),
  ) {
    super('this runner');
    checkGuidance(network, guidance);
    this.sampleSize = sizeOf(network.model.sampleShape);
    this.weights = bindNetwork(network, 'weights', device.profile);
    this.storages = {
      x: new TensorStorage('samples', 'f32', batch * this.sampleSize),
      reached: new TensorStorage('samples of a step that is tried', 'f32', batch * this.sampleSize),
      error: new TensorStorage('errors', 'f32', batch),
      t: new TensorStorage('t', 'f32', batch),
      s: new TensorStorage('s', 'f32', batch),
      labels: new TensorStorage('labels', 'u32', batch),
      guidance: new TensorStorage('guidance', 'f32', batch, new Float32Array(batch).fill(guidance)),
      /** From and to as fractions of the way, and the strength of fresh noise or a tolerance. */
      part: new TensorStorage('part of the way', 'f32', 3),
      key: new TensorStorage('random key', 'u32', 3),
    };
    this.conditions = this.conditionStorages();
    this.negative = isGuided(network, guidance) ? this.conditionStorages() : {};
  }

  private conditionStorages(): Record<string, TensorStorage> {
    const laws = Object.entries(this.network.model.conditions);
    return Object.fromEntries(
      laws.map(([name, { shape }]) => [name, new TensorStorage(name, 'f32', this.batch * sizeOf(shape))]),
    );
  }

  /** The teacher's velocity, or a student's u(x, t, t), at (x, t). */
  velocity(batch: Omit<Batch, 's'>): Promise<Float32Array> {
    return this.turns.take(async () => {
      const program = await this.traced('velocity').program;
      return this.inBatches({ ...batch, s: batch.t }, async () => {
        this.device.write(this.storages.part, Float32Array.of(0, 1, 0));
        program.run();
        return 0;
      }).then(({ x }) => x);
    });
  }

  /**
   * What the network says, in its own terms.
   * @param batch with x as the network is shown it, and its own times
   * @throws UserError where guidance counts at some times only, which are not the network's own
   */
  output(batch: Omit<Batch, 's'>): Promise<Float32Array> {
    if (isGuided(this.network, this.guidance) && this.network.description.guidanceTimes)
      throw new UserError(
        'guidance counts at some times only here (guidanceTimes), which a sampler of noise levels does not know: take euler, heun or rk4',
        'sampler',
      );
    return this.turns.take(() => this.asked(batch));
  }

  private async asked(batch: Omit<Batch, 's'>): Promise<Float32Array> {
    const program = await this.traced('output').program;
    const { x } = await this.inBatches({ ...batch, s: batch.t }, async () => {
      this.device.write(this.storages.part, Float32Array.of(0, 1, 0));
      program.run();
      return 0;
    });
    return x;
  }

  /** f(x, t, s) of a flow map in `hops` equal jumps. */
  jump(batch: Batch, hops = 1): Promise<Float32Array> {
    return this.follow(batch, equalSteps(hops), { name: 'jump' });
  }

  /** The flow from t to s in equal steps of a solver. */
  integrate(batch: Batch, steps: number, solver: Sampler['name']): Promise<Float32Array> {
    return this.follow(batch, equalSteps(steps), { name: solver });
  }

  /**
   * From t to s over a grid of one's own, a step of the sampler an interval.
   * @param grid rising fractions of the way from t to s, from 0 to 1; `dopri5` takes no notice of it
   * @param seed of fresh noise
   */
  async follow(batch: Batch, grid: readonly number[], sampler: Sampler, seed = 0): Promise<Float32Array> {
    return (await this.count(batch, grid, sampler, seed)).x;
  }

  /** As `follow`, with the calls of the network that each sample took: two an evaluation under guidance of a teacher. */
  count(
    batch: Batch,
    grid: readonly number[],
    sampler: Sampler,
    seed = 0,
  ): Promise<{ x: Float32Array; evaluations: number }> {
    return this.turns.take(async () => {
      const { jumps, stochastic, step, measured } = samplerEntry(sampler.name);
      const strength = strengthOf(sampler);
      if (jumps && this.network.description.role === 'teacher')
        throw new UserError(
          `${sampler.name} is for flow maps: a teacher is integrated, by euler for example`,
          'sampler',
        );
      if (measured) return this.adaptive(batch, measured, strength);
      if (!step) return this.scheduled(batch, grid.length - 1, sampler, seed);
      const { program: compiling, calls } = this.traced(step);
      const program = await compiling;
      const { device, storages } = this;
      const [low, high] = keyOf(seed);
      const steps = grid.length - 1;
      // Fresh noise belongs to a place in a batch of the device.
      const { x } = await this.inBatches(
        batch,
        async (part, _, tell) => {
          for (let i = 0; i < steps; i++) {
            device.write(storages.part, Float32Array.of(grid[i], grid[i + 1], strength));
            if (stochastic) device.write(storages.key, Uint32Array.of(low, high, part * steps + i));
            program.run();
            // Whoever wants to know how far it is waits some times on the way, on processors, where steps are slow.
            if (!device.onWork || !device.profile.software || (i + 1) % Math.ceil(steps / 10)) continue;
            await device.finished();
            tell((i + 1) / steps);
          }
          return 0;
        },
        stochastic,
      );
      return { x, evaluations: steps * calls };
    });
  }

  protected free(): void {
    for (const storages of [this.storages, this.conditions, this.negative])
      for (const storage of Object.values(storages)) storage.dispose();
    for (const { compiled } of this.programs.values()) compiled?.dispose();
  }

  /** From noise to data at the timesteps of the network's own schedule. */
  private async scheduled(
    batch: Batch,
    steps: number,
    sampler: Sampler,
    seed: number,
  ): Promise<{ x: Float32Array; evaluations: number }> {
    const { description, scheduler: config = {} } = this.network;
    if (batch.t.some((t) => t !== 1) || batch.s.some((s) => s !== 0))
      throw new UserError(`${sampler.name} goes from noise to data, at timesteps of its own`, 'sampler');
    const { path } = description;
    const strength = strengthOf(sampler);
    const schedule = scheduleOf(schedulerFor(sampler.name, path), description, config, { steps, strength });
    const trajectory = new Trajectory(
      schedule,
      Float64Array.from(batch.x, (value) => value * schedule.initial),
    );
    const { calls } = this.traced('output');
    for (let i = 0, step = trajectory.step; step; step = trajectory.step, i++) {
      const t = new Float32Array(batch.t.length).fill(step.timestep);
      const draw = random(seed, i, hostStreams.samplerNoise);
      trajectory.advance(await this.asked({ ...batch, x: trajectory.input(), t }), () =>
        Float32Array.from(batch.x, () => draw.normal()),
      );
    }
    return { x: Float32Array.from(trajectory.x), evaluations: schedule.steps.length * calls };
  }

  /** Dormand-Prince with one step length for all samples of a batch: that of the worst. */
  private async adaptive(
    batch: Batch,
    measured: MeasuredStep,
    tolerance: number,
  ): Promise<{ x: Float32Array; evaluations: number }> {
    const { calls, program: compiling } = this.traced(measured);
    const program = await compiling;
    const { device, storages } = this;
    const { x, most } = await this.inBatches(
      batch,
      async (_, n, tell) => {
        let [at, length, tries] = [0, 0.05, 0];
        while (at < 1) {
          if (++tries > mostSteps)
            throw new UserError(
              `dopri5 took ${mostSteps} steps without arriving: raise its tolerance above ${tolerance}`,
              'tolerance',
            );
          const to = Math.min(1, at + length);
          device.write(storages.part, Float32Array.of(at, to, tolerance));
          program.run();
          const errors = (await device.read(storages.error)) as Float32Array;
          const error = errors.subarray(0, n).reduce((most, value) => Math.max(most, value), 1e-10);
          if (!Number.isFinite(error)) throw new UserError('dopri5 met a velocity that is not finite');
          if (error <= 1) {
            device.write(storages.x, (await device.read(storages.reached)) as Float32Array);
            at = to;
          }
          length = (to - at || length) * stepFactor(error);
          tell(at);
        }
        return tries * calls;
      },
      true,
    );
    return { x, evaluations: most };
  }

  /**
   * Runs a job for each batch of samples; what it leaves in the samples' storage is the result.
   * @param job gives a number, of which the largest is returned, and tells how much of its batch is done
   * @param whole whether a batch keeps its samples together, however many ranks there are
   */
  private async inBatches(
    samples: Batch,
    job: (part: number, count: number, tell: (share: number) => void) => Promise<number>,
    whole = false,
  ): Promise<{ x: Float32Array; most: number }> {
    const count = samples.t.length;
    const { sampleSize: size, batch, device, storages } = this;
    if (samples.x.length !== count * size || samples.s.length !== count) {
      throw new UserError(
        `x holds ${samples.x.length} values and s ${samples.s.length} for ${count} times t and samples of ${size} values`,
      );
    }
    if (samples.labels && samples.labels.length !== count)
      throw new UserError(`there are ${samples.labels.length} labels for ${count} samples`, 'labels');
    this.checkConditions(samples);
    const { group } = device;
    const unit = whole ? batch : 1;
    const [start, end] = shareOf(Math.ceil(count / unit), group).map((share) => Math.min(count, share * unit));
    const result = new Float32Array((end - start) * size);
    let most = 0;
    for (let from = start; from < end; from += batch) {
      const n = Math.min(batch, end - from);
      device.write(storages.x, samples.x.subarray(from * size, (from + n) * size));
      device.write(storages.t, samples.t.subarray(from, from + n));
      device.write(storages.s, samples.s.subarray(from, from + n));
      if (this.network.model.classes) device.write(storages.labels, this.labels(samples.labels, from, n));
      this.writeConditions(this.conditions, samples.conditions, count, from, n);
      this.writeConditions(this.negative, { ...samples.conditions, ...samples.negative }, count, from, n);
      const tell = (share: number) => device.onWork?.(from - start + share * n, end - start, 'samples');
      most = Math.max(most, await job(from / batch, n, tell));
      const values = (await device.read(storages.x)) as Float32Array;
      result.set(values.subarray(0, n * size), (from - start) * size);
    }
    if (group.size === 1) return { x: result, most };
    const parts = await group.gather(asBytes(most, result));
    const all = parts.map(({ buffer }) => new Float32Array(buffer));
    const x = new Float32Array(count * size);
    let at = 0;
    for (const part of all) {
      x.set(part.subarray(1), at);
      at += part.length - 1;
    }
    return { x, most: all.reduce((largest, [own]) => Math.max(largest, own), 0) };
  }

  /** @throws UserError naming a condition that is missing, unknown or of another size */
  private checkConditions({ t, conditions = {}, negative = {} }: Batch): void {
    const { conditions: laws, nullClass } = this.network.model;
    for (const [name, { shape, optional }] of Object.entries(laws))
      if (!optional && !conditions[name])
        throw new UserError(`the network is told ${name} [${shape}] of each sample, and none is given here`);
    for (const [name, values] of [...Object.entries(conditions), ...Object.entries(negative)]) {
      const law = Object.hasOwn(laws, name) ? laws[name] : undefined;
      if (!law) {
        const known = Object.keys(laws).join(', ') || 'nothing';
        throw new UserError(`the network takes ${known} beside time and class, and no ${name}`, 'conditions');
      }
      const size = sizeOf(law.shape);
      if (values.length !== size && values.length !== t.length * size)
        throw new UserError(
          `${name} holds ${values.length} values: the network takes [${law.shape}] for each of ${t.length} samples, or once for all`,
          'conditions',
        );
    }
    if (Object.keys(this.negative).length && !nullClass && !Object.keys(negative).length)
      throw new UserError('it leads away from a negative condition, such as an empty text: give one', 'guidance');
  }

  /** Of the samples from `from` on; zeros where a condition is left out. */
  private writeConditions(
    storages: Readonly<Record<string, TensorStorage>>,
    values: ConditionValues = {},
    count: number,
    from: number,
    n: number,
  ): void {
    for (const [name, storage] of Object.entries(storages)) {
      const size = sizeOf(this.network.model.conditions[name].shape);
      const given = values[name] ?? new Float32Array(size);
      const rows = new Float32Array(n * size);
      if (given.length === count * size) rows.set(given.subarray(from * size, (from + n) * size));
      else for (let i = 0; i < n; i++) rows.set(given, i * size);
      this.device.write(storage, rows);
    }
  }

  private labels(labels: Uint32Array | undefined, from: number, n: number): Uint32Array {
    const { classes, nullClass } = this.network.model;
    const wrong = labels?.subarray(from, from + n).find((label) => label >= classes + Number(nullClass));
    if (wrong !== undefined)
      throw new UserError(`label ${wrong}: the classes of this network go from 0 to ${classes - 1}`, 'labels');
    if (labels) return labels.subarray(from, from + n);
    if (!nullClass) throw new UserError(`this network needs a class from 0 to ${classes - 1} for every sample`);
    return new Uint32Array(n).fill(classes);
  }

  private traced(graph: Graph): Traced {
    this.assertUsable();
    let traced = this.programs.get(graph);
    if (!traced) {
      const { effects, calls } = this.trace(graph);
      traced = { program: compile(this.device, { effects }), calls };
      this.programs.set(graph, traced);
      const made = traced;
      traced.program.then(
        (compiled) => (this.disposed ? compiled.dispose() : (made.compiled = compiled)),
        // Whoever asked for it is told; what had no memory may have it later.
        () => this.programs.delete(graph),
      );
    }
    return traced;
  }

  /** What drawing by a sampler needs, or asking for the velocity, computed without any of it. */
  needs(what: Sampler | 'velocity'): MemoryNeeds {
    const { arena, storages } = this.planned(what);
    const bytesOf = (wanted: (storage: TensorStorage) => boolean) =>
      [...storages].filter(wanted).reduce((sum, { bytes }) => sum + bytes, 0);
    const largest = this.network.layout.parameters.map(({ shape }) => 4 * sizeOf(shape));
    return {
      device: {
        weights: bytesOf(({ filler }) => filler !== undefined),
        samples: bytesOf(({ filler }) => filler === undefined),
        activations: arena.bytes,
      },
      host: hostBytes(storages, 4 * largest.reduce((most, size) => Math.max(most, size), 0)),
    };
  }

  /** The program that drawing by a sampler, or asking for the velocity, runs: planned only. */
  planned(what: Sampler | 'velocity'): PlannedProgram {
    const { step, measured } = what === 'velocity' ? { step: what, measured: undefined } : samplerEntry(what.name);
    return planProgram(this.device.profile, this.trace(measured ?? step ?? 'output'));
  }

  private trace(graph: Graph): { effects: Tensor[]; calls: number } {
    const { storages, batch } = this;
    let calls = 0;
    const { velocity, average, output } = this.fields((rows) => (calls += rows / batch));
    const x = fromStorage(storages.x, [batch, ...this.network.model.sampleShape]);
    const [start, end] = [fromStorage(storages.t), fromStorage(storages.s)];
    const option = (i: number) => slice(fromStorage(storages.part), 0, i, i + 1);
    const at = (i: number) => add(start, mul(sub(end, start), option(i)));
    const [t, s, strength] = [at(0), at(1), option(2)];
    if (graph === 'velocity') {
      const effects = [assign(storages.x, velocity(x, t))];
      return { effects, calls };
    }
    if (graph === 'output') {
      const effects = [assign(storages.x, output(x, t))];
      return { effects, calls };
    }
    const noise = normal(fromStorage(storages.key), 0, x.shape);
    const reached = graph({ x, t, s, velocity, average, strength, noise });
    if (!('difference' in reached)) return { effects: [assign(storages.x, reached)], calls };
    const { result, difference } = reached;
    const error = sqrt(meanSquares(div(difference, mul(add(abs(result), 1), strength))));
    return { effects: [assign(storages.reached, result), assign(storages.error, error)], calls };
  }

  /** @param called for each call of the network in the graph, with its rows: under guidance one call has all twice */
  private fields(called: (rows: number) => void): { velocity: Velocity; average: AverageVelocity; output: Velocity } {
    const { description } = this.network;
    const { storages, weights, guidance } = this;
    const model: Model = {
      ...this.network.model,
      apply: (parameters, inputs) => {
        called(inputs.x.shape[0]);
        return this.network.model.apply(parameters, inputs);
      },
    };
    // A flow map has the scale as an input where it learned a range of them.
    const { from, to } = description.guidance ?? { from: 1, to: 1 };
    const takesGuidance = description.role === 'flow-map' && from < to;
    const told = (storages: Readonly<Record<string, TensorStorage>>): Conditions =>
      Object.fromEntries(
        Object.entries(storages).map(([name, storage]) => [
          name,
          fromStorage(storage, [this.batch, ...model.conditions[name].shape]),
        ]),
      );
    const condition = {
      labels: model.classes ? fromStorage(storages.labels) : undefined,
      conditions: told(this.conditions),
      negative: told(this.negative),
      guidance: isGuided(this.network, guidance) || takesGuidance ? fromStorage(storages.guidance) : undefined,
    };
    const average = averageVelocityOf(model, weights, description, condition);
    const output = outputOf(model, weights, condition);
    if (description.role === 'flow-map') return { average, output, velocity: (x, t) => average(x, t, t) };
    return { average, output, velocity: velocityOf(model, weights, description, condition) };
  }
}

/** A number and values behind it. */
function asBytes(first: number, values: Float32Array): Uint8Array<ArrayBuffer> {
  const joined = new Float32Array(1 + values.length);
  joined[0] = first;
  joined.set(values, 1);
  return new Uint8Array(joined.buffer);
}

/**
 * Samples that a program handles at a time: of points thousands, of pictures as many as a step of training; all batches
 * about alike, as the last one costs what a full one costs.
 */
export function batchFor(sampleShape: Shape, count: number): number {
  const most = isPoints(sampleShape) ? 4096 : 128;
  return Math.ceil(count / Math.max(1, Math.ceil(count / most)));
}

/** Fractions of the way after each of a number of equal steps, from 0 to 1. */
export const equalSteps = (count: number): number[] => Array.from({ length: count + 1 }, (_, i) => i / count);

/** The scale that a network is asked with unless told otherwise: none, or the least that a flow map learned. */
export const guidanceOf = ({ description }: Network): number => description.guidance?.from ?? 1;

/** Whether a teacher is asked twice, with its class and without: a flow map has learned what comes of it. */
export const isGuided = ({ description }: Pick<Network, 'description'>, guidance: number): boolean =>
  description.role === 'teacher' && guidance !== 1;

/**
 * Calls of the network that a step of a sampler costs each sample, its NFE: those of the sampler, twice under guidance of a
 * teacher.
 */
export const callsOf = (network: Network, sampler: Sampler['name'], guidance = guidanceOf(network)): number =>
  samplerEntry(sampler).evaluations * (isGuided(network, guidance) ? 2 : 1);

/** @throws UserError where a network cannot be asked with that scale */
export function checkGuidance({ model, description }: Network, scale: number): void {
  const { guidance, role } = description;
  if (!Number.isFinite(scale)) throw new UserError(`a scale is a finite number, not ${scale}`, 'guidance');
  if (role === 'teacher') {
    if (scale !== 1 && !model.nullClass && !Object.keys(model.conditions).length)
      throw new UserError('it needs a network that knows classes and none: this one has no row for none', 'guidance');
    return;
  }
  const { from, to } = guidance ?? { from: 1, to: 1 };
  if (scale < from || scale > to)
    throw new UserError(
      from === to
        ? `${scale} is asked: this flow map learned the flow of guidance ${from}, no other`
        : `${scale} is asked: this flow map learned guidance from ${from} to ${to}`,
      'guidance',
    );
}
