import type { Device } from '../../src/gpu/device.js';
import { rmse } from '../../src/metrics/flow-map.js';
import { random } from '../../src/tensor/philox.js';
import { sizeOf } from '../../src/tensor/shape.js';
import { hostStreams, seedFor } from '../../src/tensor/streams.js';
import type { Network } from '../../src/flow/network.js';
import { sourceNoise } from '../../src/flow/noise.js';
import { batchFor, Runner } from '../../src/flow/runner.js';
import type { Solver } from '../../src/flow/solvers.js';
import { testTimes } from './test-times.js';

/** Heun steps of the true flow. */
const fineSteps = 128;

export type BiasedObjective = 'lmd' | 'emd';

/** What a constant ε converges to, with a perfect network: RMSE against the teacher's true flow. */
export interface BiasRow {
  epsilon: number;
  objective: BiasedObjective;
  solver: Solver;
  /** Steps of the grid that the fixed point walks in effect. */
  steps: number;
  rmse: number;
}

export interface BiasReport {
  samples: number;
  seed: number;
  /** Root mean square of how far the true flow moves the test points: what the errors are to be read against. */
  distance: number;
  rows: BiasRow[];
}

export interface BiasOptions {
  samples: number;
  seed: number;
  /** Where paths end: 0, or the smallest time at which the teacher may be asked. */
  end: number;
  epsilons?: readonly number[];
  onProgress?: (done: number, total: number) => void;
}

export const biasEpsilons = [0.5, 0.3, 0.2, 0.1, 0.05];
const solvers = ['euler', 'heun'] as const;

/** A rest of the way shorter than this is taken in one step: the grids are infinite. */
const shortestRest = 1e-3;

/**
 * The grid on which a constant ε makes the student repeat the teacher's solver, as fractions of the way from t to s.
 * Unrolled, EMD steps through τ_k = s + (1-ε)^k (t-s), largest step first; LMD through τ_k = t - (1-ε)^k (t-s), largest
 * step last.
 */
export function biasGrid(objective: BiasedObjective, epsilon: number): number[] {
  const rests = [1];
  while (rests.at(-1)! * (1 - epsilon) >= shortestRest) rests.push((1 - epsilon) ** rests.length);
  return objective === 'emd' ? [...rests.map((rest) => 1 - rest), 1] : [0, ...rests.reverse()];
}

/**
 * The error that each constant ε, objective and solver converges to, computed from the teacher alone: test points lie
 * on its own trajectories, at random (t, s) as in an evaluation.
 */
export async function solverBias(device: Device, teacher: Network, options: BiasOptions): Promise<BiasReport> {
  const runner = new Runner(device, teacher, batchFor(teacher.model.sampleShape, options.samples));
  try {
    return await measure(runner, options);
  } finally {
    runner.dispose();
  }
}

async function measure(runner: Runner, options: BiasOptions): Promise<BiasReport> {
  const { samples, seed, end, epsilons = biasEpsilons } = options;
  const { description, model } = runner.network;
  const size = sizeOf(model.sampleShape);
  const { t, s } = testTimes(samples, seed, description.minimumTime, end);
  const { below } = random(seed, 0, hostStreams.testLabels);
  const labels = model.classes ? Uint32Array.from(t, () => below(model.classes)) : undefined;
  const noise = sourceNoise(description.source, samples, size, seedFor(seed, hostStreams.testNoise));

  const x = await runner.integrate({ x: noise, t: new Float32Array(samples).fill(1), s: t, labels }, fineSteps, 'heun');
  const batch = { x, t, s, labels };
  const truth = await runner.integrate(batch, fineSteps, 'heun');
  const grids = epsilons.flatMap((epsilon) => (['emd', 'lmd'] as const).map((objective) => ({ epsilon, objective })));
  const rows: BiasRow[] = [];
  for (const { epsilon, objective } of grids) {
    const grid = biasGrid(objective, epsilon);
    for (const solver of solvers) {
      const reached = await runner.follow(batch, grid, { name: solver });
      rows.push({ epsilon, objective, solver, steps: grid.length - 1, rmse: rmse(reached, truth, size) });
      options.onProgress?.(rows.length, grids.length * solvers.length);
    }
  }
  return { samples, seed, distance: rmse(truth, x, size), rows };
}
