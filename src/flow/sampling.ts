import type { Device } from '../gpu/device.js';
import { seededUniform } from '../metrics/random.js';
import { sizeOf } from '../tensor/shape.js';
import { sourceNoise } from './noise.js';
import type { Network } from './network.js';
import { Runner } from './runner.js';
import type { Solver } from './solvers.js';

export interface SampleOptions {
  count: number;
  seed: number;
  /** One class for all samples; by default classes take turns, or are drawn where `randomLabels` is set. */
  label?: number;
  randomLabels?: boolean;
  /** Steps of the solver, or jumps of a flow map. */
  steps: number;
  solver: Solver;
  /** Samples that the device handles at a time. */
  batch?: number;
}

export interface Samples {
  /** Where they started and where they ended, [count, ...sampleShape]. */
  noise: Float32Array;
  x: Float32Array;
  labels?: Uint32Array;
}

/** Samples from noise to data: a teacher by its solver, a flow map by equal jumps. */
export async function drawSamples(device: Device, network: Network, options: SampleOptions): Promise<Samples> {
  const { count, seed, steps, solver } = options;
  const { model, description } = network;
  const size = sizeOf(model.sampleShape);
  const noise = sourceNoise(description.source, count, size, seed);
  const labels = model.classes ? labelsFor(options, model.classes) : undefined;
  const runner = new Runner(device, network, Math.min(count, options.batch ?? (size > 64 ? 128 : 4096)));
  const batch = { x: noise, t: new Float32Array(count).fill(1), s: new Float32Array(count), labels };
  const x =
    description.role === 'flow-map' ? await runner.jump(batch, steps) : await runner.integrate(batch, steps, solver);
  await runner.close();
  return { noise, x, labels };
}

function labelsFor({ count, seed, label, randomLabels }: SampleOptions, classes: number): Uint32Array {
  if (label !== undefined) return new Uint32Array(count).fill(label);
  if (!randomLabels) return Uint32Array.from({ length: count }, (_, i) => i % classes);
  const uniform = seededUniform(seed + 7);
  return Uint32Array.from({ length: count }, () => Math.floor(uniform() * classes));
}
