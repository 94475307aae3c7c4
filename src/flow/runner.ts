import { UserError } from '../errors.js';
import { compile, type Program } from '../autodiff/compile.js';
import type { Device } from '../gpu/device.js';
import { Resource } from '../gpu/resource.js';
import { TensorStorage } from '../gpu/storage.js';
import { meanSquares } from '../ops/normalization.js';
import { assign } from '../ops/optimizer.js';
import { abs, add, div, mul, sqrt, sub } from '../ops/pointwise.js';
import { slice } from '../ops/movement.js';
import { normal } from '../ops/random.js';
import { sizeOf } from '../tensor/shape.js';
import { fromStorage, type Tensor } from '../tensor/tensor.js';
import { dormandPrinceStep, stageCount, stepFactor } from './dormand-prince.js';
import { averageVelocityOf, velocityOf, type AverageVelocity, type Velocity } from './field.js';
import { bindNetwork, type Network } from './network.js';
import { evaluationsOf, isStochastic, jumping, sampleStep, stepOf, type Sampler, type StepKind } from './samplers.js';

/** Samples [n, ...sampleShape] with a time each, and labels where the network is conditional. */
export interface Batch {
  x: Float32Array;
  t: Float32Array;
  s: Float32Array;
  labels?: Uint32Array;
}

/** What a program does: a sampler's step, asking for u or v, or a step whose error is measured. */
type ProgramKind = StepKind | 'velocity' | 'tried';

/** Steps that an adaptive sampler may take: beyond them the tolerance cannot be met. */
const mostSteps = 10_000;

/**
 * A network ready to be asked: programs are compiled on first use and replayed for any number of samples. Whoever made it
 * disposes of it.
 */
export class Runner extends Resource {
  private readonly programs = new Map<ProgramKind, Promise<Program>>();
  private readonly storages;
  private readonly weights: ReturnType<typeof bindNetwork>;
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
    this.weights = bindNetwork(network, 'weights');
    this.storages = {
      x: new TensorStorage('samples', 'f32', batch * this.sampleSize),
      tried: new TensorStorage('tried samples', 'f32', batch * this.sampleSize),
      error: new TensorStorage('errors', 'f32', batch),
      t: new TensorStorage('t', 'f32', batch),
      s: new TensorStorage('s', 'f32', batch),
      labels: new TensorStorage('labels', 'u32', batch),
      guidance: new TensorStorage('guidance', 'f32', batch, new Float32Array(batch).fill(guidance)),
      /** From and to as fractions of the way, the strength of fresh noise, and a tolerance. */
      part: new TensorStorage('part of the way', 'f32', 4),
      key: new TensorStorage('random key', 'u32', 3),
    };
  }

  /** The teacher's velocity, or a student's u(x, t, t), at (x, t). */
  async velocity(batch: Omit<Batch, 's'>): Promise<Float32Array> {
    const program = await this.program('velocity');
    return this.inBatches({ ...batch, s: batch.t }, async () => {
      this.device.write(this.storages.part, Float32Array.of(0, 1, 0, 0));
      program.run();
    });
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

  /** As `follow`, with the evaluations of the network that each sample took. */
  async count(
    batch: Batch,
    grid: readonly number[],
    sampler: Sampler,
    seed = 0,
  ): Promise<{ x: Float32Array; evaluations: number }> {
    const { name, tolerance = 1e-4 } = sampler;
    if (jumping.includes(name) && this.network.description.role === 'teacher')
      throw new UserError(`${name} is for flow maps: a teacher is integrated, by euler for example`);
    if (name === 'dopri5') return this.adaptive(batch, tolerance);
    const { kind, strength } = stepOf(sampler);
    const program = await this.program(kind);
    const { device, storages } = this;
    const x = await this.inBatches(batch, async (from) => {
      grid.slice(1).forEach((to, i) => {
        device.write(storages.part, Float32Array.of(grid[i], to, strength, 0));
        if (isStochastic(kind)) device.write(storages.key, Uint32Array.of(seed, from, i));
        program.run();
      });
    });
    return { x, evaluations: (grid.length - 1) * evaluationsOf(sampler) };
  }

  protected free(): void {
    for (const storage of [...Object.values(this.storages), this.weights.storage]) storage.dispose();
    for (const program of this.programs.values())
      program.then(
        (compiled) => compiled.dispose(),
        // Whoever asked for it was told.
        () => {},
      );
  }

  /** Dormand-Prince with one step length for all samples of a batch: that of the worst. */
  private async adaptive(batch: Batch, tolerance: number): Promise<{ x: Float32Array; evaluations: number }> {
    const program = await this.program('tried');
    const { device, storages } = this;
    let evaluations = 0;
    const x = await this.inBatches(batch, async (_, n) => {
      let [at, length, tries] = [0, 0.05, 0];
      while (at < 1) {
        if (++tries > mostSteps)
          throw new UserError(`dopri5 took ${mostSteps} steps without arriving: raise --tolerance above ${tolerance}`);
        const to = Math.min(1, at + length);
        device.write(storages.part, Float32Array.of(at, to, 0, tolerance));
        program.run();
        const errors = (await device.read(storages.error)) as Float32Array;
        const error = errors.subarray(0, n).reduce((most, value) => Math.max(most, value), 1e-10);
        if (!Number.isFinite(error)) throw new UserError('dopri5 met a velocity that is not finite');
        if (error <= 1) {
          device.write(storages.x, (await device.read(storages.tried)) as Float32Array);
          at = to;
        }
        length = (to - at || length) * stepFactor(error);
      }
      evaluations = Math.max(evaluations, tries * stageCount);
    });
    return { x, evaluations };
  }

  /** Runs a job for each batch of samples; what it leaves in the samples' storage is the result. */
  private async inBatches(samples: Batch, job: (from: number, count: number) => Promise<void>): Promise<Float32Array> {
    const count = samples.t.length;
    const { sampleSize: size, batch, device, storages } = this;
    if (samples.x.length !== count * size || samples.s.length !== count) {
      throw new UserError(
        `x holds ${samples.x.length} values and s ${samples.s.length} for ${count} times t and samples of ${size} values`,
      );
    }
    const result = new Float32Array(count * size);
    for (let from = 0; from < count; from += batch) {
      const n = Math.min(batch, count - from);
      device.write(storages.x, samples.x.subarray(from * size, (from + n) * size));
      device.write(storages.t, samples.t.subarray(from, from + n));
      device.write(storages.s, samples.s.subarray(from, from + n));
      if (this.network.model.classes) device.write(storages.labels, this.labels(samples.labels, from, n));
      await job(from, n);
      const values = (await device.read(storages.x)) as Float32Array;
      result.set(values.subarray(0, n * size), from * size);
    }
    return result;
  }

  private labels(labels: Uint32Array | undefined, from: number, n: number): Uint32Array {
    if (labels) return labels.subarray(from, from + n);
    const { classes, nullClass } = this.network.model;
    if (!nullClass) throw new UserError(`this network needs a class from 0 to ${classes - 1} for every sample`);
    return new Uint32Array(n).fill(classes);
  }

  private program(kind: ProgramKind): Promise<Program> {
    this.assertUsable();
    let program = this.programs.get(kind);
    if (!program) {
      program = compile(this.device, { effects: this.effects(kind) });
      this.programs.set(kind, program);
    }
    return program;
  }

  private effects(kind: ProgramKind): Tensor[] {
    const { storages, batch } = this;
    const x = fromStorage(storages.x, [batch, ...this.network.model.sampleShape]);
    const [start, end] = [fromStorage(storages.t), fromStorage(storages.s)];
    const option = (i: number) => slice(fromStorage(storages.part), 0, i, i + 1);
    const at = (i: number) => add(start, mul(sub(end, start), option(i)));
    const [t, s] = [at(0), at(1)];
    const { velocity, average } = this.fields();
    if (kind === 'velocity') return [assign(storages.x, velocity(x, t))];
    if (kind === 'tried') {
      const { result, difference } = dormandPrinceStep(velocity, x, t, s);
      const allowed = mul(add(abs(result), 1), option(3));
      return [assign(storages.tried, result), assign(storages.error, sqrt(meanSquares(div(difference, allowed))))];
    }
    const noise = isStochastic(kind) ? normal(fromStorage(storages.key), 0, x.shape) : x;
    return [assign(storages.x, sampleStep(kind, { x, t, s, velocity, average, strength: option(2), noise }))];
  }

  private fields(): { velocity: Velocity; average: AverageVelocity } {
    const { model, description } = this.network;
    const { storages, weights, guidance } = this;
    const condition = {
      labels: model.classes ? fromStorage(storages.labels) : undefined,
      guidance: guidance === 1 && description.role === 'teacher' ? undefined : fromStorage(storages.guidance),
    };
    const average = averageVelocityOf(model, weights.parameters, description, condition);
    if (description.role === 'flow-map') return { average, velocity: (x, t) => average(x, t, t) };
    return { average, velocity: velocityOf(model, weights.parameters, description, condition) };
  }
}

/** Fractions of the way after each of a number of equal steps, from 0 to 1. */
export const equalSteps = (count: number): number[] => Array.from({ length: count + 1 }, (_, i) => i / count);

/** The scale that a network is asked with unless told otherwise: none, or the least that a flow map learned. */
export const guidanceOf = ({ description }: Network): number => description.guidance?.from ?? 1;

/** @throws UserError where a network cannot be asked with that scale */
export function checkGuidance({ model, description }: Network, scale: number): void {
  const { guidance, role } = description;
  if (role === 'teacher') {
    if (scale !== 1 && !model.nullClass)
      throw new UserError('--guidance needs a network that knows classes and none: this one has no row for none');
    return;
  }
  const { from, to } = guidance ?? { from: 1, to: 1 };
  if (scale < from || scale > to)
    throw new UserError(
      from === to
        ? `--guidance ${scale}: this flow map learned the flow of guidance ${from}, no other`
        : `--guidance ${scale}: this flow map learned guidance from ${from} to ${to}`,
    );
}
