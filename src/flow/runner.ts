import { UserError } from '../errors.js';
import { compile, type Program } from '../autodiff/compile.js';
import type { Device } from '../gpu/device.js';
import { Storage } from '../gpu/storage.js';
import { assign } from '../ops/optimizer.js';
import { add, mul, sub } from '../ops/pointwise.js';
import { slice } from '../ops/movement.js';
import { sizeOf } from '../tensor/shape.js';
import { fromStorage } from '../tensor/tensor.js';
import { averageVelocityOf, step, velocityOf } from './field.js';
import { bindNetwork, type Network } from './network.js';
import { slope, type Solver } from './solvers.js';

/** Samples [n, ...sampleShape] with a time each, and labels where the network is conditional. */
export interface Batch {
  x: Float32Array;
  t: Float32Array;
  s: Float32Array;
  labels?: Uint32Array;
}

type StepKind = Solver | 'jump' | 'velocity' | 'average';

/** A network ready to be asked: programs are compiled on first use and replayed for any number of samples. */
export class Runner {
  private readonly programs = new Map<StepKind, Promise<Program>>();
  private readonly storages;
  private readonly weights: ReturnType<typeof bindNetwork>;
  /** Elements of one sample. */
  readonly sampleSize: number;

  /** @param batch samples that one program handles at a time */
  constructor(
    readonly device: Device,
    readonly network: Network,
    readonly batch: number,
  ) {
    this.sampleSize = sizeOf(network.model.sampleShape);
    this.weights = bindNetwork(network, 'weights');
    this.storages = {
      x: new Storage('samples', 'f32', batch * this.sampleSize),
      t: new Storage('t', 'f32', batch),
      s: new Storage('s', 'f32', batch),
      labels: new Storage('labels', 'u32', batch),
      part: new Storage('part of the way', 'f32', 2),
    };
  }

  /** Replaces the weights, for looking at a network in training. */
  setWeights(arena: Float32Array): void {
    this.device.write(this.weights.storage, arena);
  }

  /** The teacher's velocity, or a student's u(x, t, t), at (x, t). */
  velocity(batch: Omit<Batch, 's'>): Promise<Float32Array> {
    return this.each({ ...batch, s: batch.t }, this.network.description.role === 'teacher' ? 'velocity' : 'average', [
      [0, 1],
    ]);
  }

  /** f(x, t, s) of a flow map in `hops` equal jumps. */
  jump(batch: Batch, hops = 1): Promise<Float32Array> {
    return this.each(batch, 'jump', parts(hops));
  }

  /** The teacher's flow from t to s in equal steps of a solver. */
  integrate(batch: Batch, steps: number, solver: Solver): Promise<Float32Array> {
    return this.each(batch, solver, parts(steps));
  }

  /**
   * The teacher's flow over a grid of one's own, a step of the solver an interval.
   * @param grid rising fractions of the way from t to s, from 0 to 1
   */
  integrateOver(batch: Batch, grid: readonly number[], solver: Solver): Promise<Float32Array> {
    return this.each(
      batch,
      solver,
      grid.slice(1).map((to, i) => [grid[i], to] as const),
    );
  }

  /** Frees the programs' memory. */
  async close(): Promise<void> {
    for (const program of this.programs.values()) (await program).destroy();
    this.programs.clear();
  }

  private async each(
    samples: Batch,
    kind: StepKind,
    steps: readonly (readonly [number, number])[],
  ): Promise<Float32Array> {
    const count = samples.t.length;
    const { sampleSize: size, batch, device, storages } = this;
    if (samples.x.length !== count * size || samples.s.length !== count) {
      throw new UserError(
        `x holds ${samples.x.length} values and s ${samples.s.length} for ${count} times t and samples of ${size} values`,
      );
    }
    const program = await this.program(kind);
    const result = new Float32Array(count * size);
    for (let from = 0; from < count; from += batch) {
      const n = Math.min(batch, count - from);
      device.write(storages.x, samples.x.subarray(from * size, (from + n) * size));
      device.write(storages.t, samples.t.subarray(from, from + n));
      device.write(storages.s, samples.s.subarray(from, from + n));
      if (this.network.model.classes) device.write(storages.labels, this.labels(samples.labels, from, n));
      for (const part of steps) {
        device.write(storages.part, Float32Array.from(part));
        program.run();
      }
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

  private program(kind: StepKind): Promise<Program> {
    let program = this.programs.get(kind);
    if (!program) {
      program = compile(this.device, { effects: [this.stepGraph(kind)] });
      this.programs.set(kind, program);
    }
    return program;
  }

  private stepGraph(kind: StepKind) {
    const { model, description } = this.network;
    const { storages, weights, batch } = this;
    const x = fromStorage(storages.x, [batch, ...model.sampleShape]);
    const [start, end] = [fromStorage(storages.t), fromStorage(storages.s)];
    const part = fromStorage(storages.part);
    const at = (i: number) => add(start, mul(sub(end, start), slice(part, 0, i, i + 1)));
    const [t, s] = [at(0), at(1)];
    const labels = model.classes ? fromStorage(storages.labels) : undefined;
    if (kind === 'jump' || kind === 'average') {
      const u = averageVelocityOf(model, weights.parameters, description, labels)(x, t, s);
      return assign(storages.x, kind === 'average' ? u : step(x, t, s, u));
    }
    const velocity = velocityOf(model, weights.parameters, description, labels);
    if (kind === 'velocity') return assign(storages.x, velocity(x, t));
    return assign(storages.x, step(x, t, s, slope(velocity, kind, x, t, s)));
  }
}

const parts = (count: number) => Array.from({ length: count }, (_, i) => [i / count, (i + 1) / count] as const);
