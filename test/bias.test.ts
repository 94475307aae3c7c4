import { afterAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { checkerboardVelocity, eulerFlow, heunFlow } from '../src/data/closed-form.js';
import { distributions, samplePoints } from '../src/data/distributions.js';
import { random } from '../src/tensor/philox.js';
import { biasGrid, solverBias, type BiasedObjective } from '../trainers/evaluation/solver-bias.js';
import { parseDescription } from '../src/flow/description.js';
import type { Network } from '../src/flow/network.js';
import type { Solver } from '../src/flow/solvers.js';
import { testTimes } from '../trainers/evaluation/test-times.js';
import { rmse } from '../src/metrics/flow-map.js';
import { ParameterLayout } from '../src/nn/parameters.js';
import { reshape } from '../src/ops/movement.js';
import { add, div, mul, sub } from '../src/ops/pointwise.js';

describe('the grid of a constant ε', () => {
  it('is EMD: τ_k = s + (1-ε)^k (t-s), LMD: τ_k = t - (1-ε)^k (t-s), as fractions of the way from t', () => {
    const halves = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].map((n) => 1 / n);
    expect(biasGrid('emd', 0.5)).toEqual([...halves.map((rest) => 1 - rest), 1]);
    expect(biasGrid('lmd', 0.5)).toEqual([0, ...halves.toReversed()]);
    expect(biasGrid('emd', 1)).toEqual([0, 1]);
    expect(biasGrid('lmd', 1)).toEqual([0, 1]);
  });

  it.each([0.5, 0.3, 0.2, 0.1, 0.05])(
    'ends where the rest is under a thousandth, and LMD mirrors EMD: ε = %f',
    (epsilon) => {
      const [emd, lmd] = [biasGrid('emd', epsilon), biasGrid('lmd', epsilon)];
      expect(emd).toHaveLength(Math.ceil(Math.log(1e-3) / Math.log(1 - epsilon)) + 1);
      expect([emd[0], emd.at(-1), lmd[0], lmd.at(-1)]).toEqual([0, 1, 0, 1]);
      expect(1 - emd.at(-2)!).toBeGreaterThanOrEqual(1e-3);
      emd.slice(1).forEach((to, i) => expect(to).toBeGreaterThan(emd[i]));
      lmd.toReversed().forEach((value, i) => expect(1 - value).toBeCloseTo(emd[i], 14));
    },
  );

  // A study with other test points found .311 (EMD) and .259 (LMD) for Euler on these grids at ε = .5, .175 and .136 at
  // ε = .3, and for Heun .078 and .027 (EMD). Points change the level, hardly the proportions.
  it('gives errors in the known proportions on the checkerboard', () => {
    const { x, t, s } = checkerboardSet(4000);
    const truth = heunFlow(checkerboardVelocity, x, t, s, 64);
    const error = (flow: typeof eulerFlow, objective: BiasedObjective, epsilon: number) => {
      const grid = biasGrid(objective, epsilon);
      const at = (fraction: number) => t.map((from, i) => from + fraction * (s[i] - from));
      let y: Float64Array = x;
      for (let k = 1; k < grid.length; k++) y = flow(checkerboardVelocity, y, at(grid[k - 1]), at(grid[k]), 1);
      return rmse(y, truth, 2);
    };
    const largest = error(eulerFlow, 'emd', 0.5);
    const near = (value: number, known: number) =>
      expect(Math.abs(value / largest / (known / 0.311) - 1)).toBeLessThan(0.1);
    near(error(eulerFlow, 'lmd', 0.5), 0.259);
    near(error(eulerFlow, 'emd', 0.3), 0.175);
    near(error(eulerFlow, 'lmd', 0.3), 0.136);
    const heun = error(heunFlow, 'emd', 0.3) / error(heunFlow, 'emd', 0.5);
    expect(Math.abs(heun / (0.027 / 0.078) - 1)).toBeLessThan(0.15);
  });
});

function checkerboardSet(count: number) {
  const { t, s } = testTimes(count, 1, 0, 0);
  const x = samplePoints(distributions.checkerboard, count, random(2));
  const { normal } = random(3);
  return {
    x: Float64Array.from(x, (value, i) => (1 - t[i >> 1]) * value + t[i >> 1] * normal()),
    t: Float64Array.from(t),
    s: Float64Array.from(s),
  };
}

describe('solverBias', () => {
  const device = openDevice({ toggles: 'checked' });
  afterAll(async () => (await device).dispose());
  const std = 0.5;

  /** A teacher without weights: data N(0, 0.5² I) in 3 dimensions have v = x (t - (1-t) std²) / ((1-t)² std² + t²). */
  const gaussian: Network = {
    description: parseDescription(
      {
        architecture: { kind: 'mlp', dim: 3, width: 1, depth: 1, activation: 'silu', time: 'concat' },
        time: 'noise-at-1',
        prediction: 'velocity',
      },
      'a test',
    ),
    model: {
      sampleShape: [3],
      classes: 0,
      nullClass: false,
      conditions: {},
      parameters: [],
      studentParameters: new Set(),
      adapted: /^$/,
      opens: null,
      apply: (_, { x, time }) => {
        const t = reshape(time, [time.size, 1]);
        const keep = sub(1, t);
        return mul(x, div(sub(t, mul(keep, std ** 2)), add(mul(mul(keep, keep), std ** 2), mul(t, t))));
      },
    },
    layout: new ParameterLayout([]),
    weights: new ParameterLayout([]).drawn(0),
  };

  const variance = (t: number) => ((1 - t) * std) ** 2 + t * t;
  const slope = (t: number) => (t - (1 - t) * std ** 2) / variance(t);

  /** The velocity is linear in x, so that a solver multiplies x by a number, and x at t has variance S(t) a coordinate. */
  function expected(
    objective: BiasedObjective,
    epsilon: number,
    solver: Solver,
    t: Float32Array,
    s: Float32Array,
  ): number {
    const grid = biasGrid(objective, epsilon);
    let sum = 0;
    t.forEach((from, i) => {
      let factor = 1;
      grid.slice(1).forEach((to, k) => {
        const [a, b] = [grid[k], to].map((fraction) => from + fraction * (s[i] - from));
        const euler = 1 + (b - a) * slope(a);
        factor *= solver === 'euler' ? euler : 1 + ((b - a) / 2) * (slope(a) + slope(b) * euler);
      });
      sum += 3 * variance(from) * (factor - Math.sqrt(variance(s[i]) / variance(from))) ** 2;
    });
    return Math.sqrt(sum / t.length);
  }

  it('agrees with the closed form on Gaussian data, over more samples than one batch', async () => {
    const options = { samples: 5001, seed: 4, end: 0, epsilons: [0.5, 0.2] };
    const seen: number[] = [];
    const { rows, distance } = await solverBias(await device, gaussian, {
      ...options,
      onProgress: (done, total) => seen.push(done / total),
    });
    expect(seen).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((done) => done / 8));
    expect(rows.map(({ steps }) => steps)).toEqual([10, 10, 10, 10, 31, 31, 31, 31]);
    const { t, s } = testTimes(options.samples, options.seed, 0, 0);
    for (const { objective, epsilon, solver, rmse: error } of rows) {
      // The samples' squares scatter about their variance.
      expect(Math.abs(error / expected(objective, epsilon, solver, t, s) - 1)).toBeLessThan(0.06);
    }
    const moved = Math.sqrt(
      t.reduce((sum, from, i) => sum + 3 * (Math.sqrt(variance(s[i])) - Math.sqrt(variance(from))) ** 2, 0) / t.length,
    );
    expect(Math.abs(distance / moved - 1)).toBeLessThan(0.06);
  });
});
