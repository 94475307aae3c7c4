import { describe, expect, it } from 'vitest';
import { UserError } from '../src/errors.js';
import { bootstrap } from '../src/metrics/bootstrap.js';
import { estimate, studentQuantile } from '../src/metrics/estimate.js';
import { drift, equalEulerSteps, relativeRmse, rmse, rmseByJump, summarizeWorth } from '../src/metrics/flow-map.js';
import { checkerboardLaw, gridLaw, histogramKl } from '../src/metrics/histogram-kl.js';
import { kernelDistance } from '../src/metrics/kernel-distance.js';
import { mmd } from '../src/metrics/mmd.js';
import { precisionRecall } from '../src/metrics/precision-recall.js';
import { slicedWasserstein } from '../src/metrics/sliced-wasserstein.js';
import { random } from '../src/tensor/philox.js';
import { hostStreams, seedFor } from '../src/tensor/streams.js';
import { streams } from '../trainers/streams.js';

const gaussian = (n: number, dim: number, seed: number, shift = 0, scale = 1): Float64Array => {
  const { normal } = random(seed);
  return Float64Array.from({ length: n * dim }, (_, i) => scale * normal() + (i % dim === 0 ? shift : 0));
};

const reversedRows = (points: Float64Array, dim: number): Float64Array =>
  points.map((_, i) => points[points.length - dim - (i - (i % dim)) + (i % dim)]);

const checkerboard = (n: number, seed: number): Float32Array => {
  const { uniform } = random(seed);
  const out = new Float32Array(2 * n);
  for (let i = 0; i < n;) {
    const x = 4 * uniform() - 2;
    const y = 4 * uniform() - 2;
    if ((Math.floor(x) + Math.floor(y)) % 2 !== 0) continue;
    out.set([x, y], 2 * i++);
  }
  return out;
};

describe('streams of the host', () => {
  it('are one a purpose, apart from those of a training step', () => {
    const all = Object.values(hostStreams);
    expect(new Set(all).size).toBe(all.length);
    const { generatedSamples, generatedHeldOut, ...own } = hostStreams;
    for (const stream of Object.values(own)) expect(stream).toBeGreaterThan(Math.max(...Object.values(streams)));
    // Data sets that weights were trained on stay what they are.
    expect([generatedSamples, generatedHeldOut]).toEqual([0, 1]);
  });

  it('give neighbouring seeds, purposes and steps nothing in common', () => {
    const made = [0, 1, 2, 3, 2 ** 32, 2 ** 53 - 1].flatMap((seed) =>
      Object.values(hostStreams).flatMap((stream) => [0, 1, 2].map((step) => seedFor(seed, stream, step))),
    );
    expect(new Set(made).size).toBe(made.length);
    for (const seed of made) expect(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32).toBe(true);
    expect(seedFor(7, hostStreams.pool)).toBe(seedFor(7, hostStreams.pool));
  });
});

describe('sliced Wasserstein', () => {
  it('is exact in one dimension', () => {
    // Sorted: 0,1,2 against 2,3,7: gaps 2, 2, 5.
    expect(slicedWasserstein([2, 0, 1], [7, 2, 3], 1, { order: 1 })).toBeCloseTo(3, 12);
    expect(slicedWasserstein([2, 0, 1], [7, 2, 3], 1, { order: 2 })).toBeCloseTo(Math.sqrt(33 / 3), 12);
  });

  it('is exact for sets of unequal size', () => {
    // {0} against {1, 3}: mean |gap| 2, mean square 5. {0, 6} against {0, 3, 6}: the middle third moves by 3, half each way.
    expect(slicedWasserstein([0], [1, 3], 1, { order: 1 })).toBeCloseTo(2, 12);
    expect(slicedWasserstein([0], [1, 3], 1)).toBeCloseTo(Math.sqrt(5), 12);
    expect(slicedWasserstein([0, 6], [0, 3, 6], 1, { order: 1 })).toBeCloseTo(1, 12);
    const points = gaussian(101, 2, 1);
    expect(slicedWasserstein(points, [...points, ...points], 2)).toBeLessThan(1e-12);
  });

  it('of a shift δ is |δ|/√dim: W2 between Gaussians of one covariance, averaged over the sphere', () => {
    const points = gaussian(500, 3, 2);
    const moved = points.map((x, i) => x + [3, -4, 12][i % 3]);
    expect(slicedWasserstein(points, moved, 3, { directions: 4000 })).toBeCloseTo(13 / Math.sqrt(3), 0.7);
    // Independent samples of N(0, I) and N(0, 4 I) in 2-D: each projection has W2 = |2 − 1|.
    expect(slicedWasserstein(gaussian(40_000, 2, 3), gaussian(40_000, 2, 4, 0, 2), 2)).toBeCloseTo(1, 1.7);
  });

  it('is symmetric, free of the order of the points and reproducible', () => {
    const a = gaussian(257, 2, 5);
    const b = gaussian(131, 2, 6, 1);
    const value = slicedWasserstein(a, b, 2, { seed: 9 });
    expect(slicedWasserstein(b, a, 2, { seed: 9 })).toBeCloseTo(value, 12);
    expect(slicedWasserstein(reversedRows(a, 2), b, 2, { seed: 9 })).toBeCloseTo(value, 12);
    expect(slicedWasserstein(a, b, 2, { seed: 9 })).toBe(value);
    expect(slicedWasserstein(a, b, 2, { seed: 10 })).not.toBe(value);
  });

  it('has its known floor of 0.010 for 50 000 perfect checkerboard points, and 1.153 for a collapse to the mean', () => {
    const points = checkerboard(50_000, 1);
    const floor = slicedWasserstein(points, checkerboard(50_000, 2), 2, { directions: 64 });
    expect(floor).toBeGreaterThan(0.003);
    expect(floor).toBeLessThan(0.02);
    // One Euler step from noise ends at the mean: each projection has W2 = its standard deviation, √(4/3).
    expect(slicedWasserstein(points, new Float32Array(100_000), 2, { directions: 64 })).toBeCloseTo(
      Math.sqrt(4 / 3),
      2,
    );
  });

  it('refuses what is not a point set', () => {
    expect(() => slicedWasserstein([], [1], 1)).toThrow(/first set: no points/);
    expect(() => slicedWasserstein([1, 2, 3], [1, 2], 2)).toThrow(/do not divide/);
    expect(() => slicedWasserstein([1, 2], [1, 2, 3, NaN], 2)).toThrow(/second set: point 1 is NaN/);
    expect(() => slicedWasserstein([1], [Infinity], 1)).toThrow(UserError);
    expect(() => slicedWasserstein([1], [1], 0)).toThrow(/dimension/);
  });
});

describe('MMD', () => {
  /** E k(x, y) for independent x, y ~ N(·, scale² I) a distance `shift` apart, k a Gaussian of length σ. */
  const expectedKernel = (sigma: number, variance: number, shift: number, dim: number): number =>
    (sigma ** 2 / (sigma ** 2 + 2 * variance)) ** (dim / 2) *
    Math.exp(-(shift ** 2) / (2 * (sigma ** 2 + 2 * variance)));

  it('agrees with the closed form for shifted Gaussians', () => {
    const shift = 1.5;
    const { mmd2, used } = mmd(gaussian(2000, 2, 1), gaussian(1500, 2, 2, shift), 2, { bandwidth: 1 });
    const truth = [0.25, 0.5, 1, 2, 4]
      .map((sigma) => 2 * expectedKernel(sigma, 1, 0, 2) - 2 * expectedKernel(sigma, 1, shift, 2))
      .reduce((a, b) => a + b / 5, 0);
    expect(truth).toBeGreaterThan(0.1);
    expect(Math.abs(mmd2 - truth)).toBeLessThan(0.01);
    expect(used).toEqual([2000, 1500]);
  });

  it('is unbiased: over equal laws it averages to zero and takes both signs', () => {
    const values = Array.from(
      { length: 60 },
      (_, k) => mmd(gaussian(60, 2, 2 * k), gaussian(50, 2, 2 * k + 1), 2, { bandwidth: 1 }).mmd2,
    );
    const mean = values.reduce((a, b) => a + b) / values.length;
    const error = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0)) / values.length;
    expect(Math.abs(mean)).toBeLessThan(3 * error);
    expect(Math.min(...values)).toBeLessThan(0);
    expect(Math.max(...values)).toBeGreaterThan(0);
  });

  it('takes the median distance of the pooled points: 2-D Gaussians have 2√(ln 2)', () => {
    expect(mmd(gaussian(2000, 2, 1), gaussian(2000, 2, 2), 2).bandwidth).toBeCloseTo(2 * Math.sqrt(Math.log(2)), 1);
  });

  it('is free of the order of the points and of a common scale', () => {
    const a = gaussian(101, 3, 3);
    const b = gaussian(77, 3, 4, 0.5);
    const value = mmd(a, b, 3, { bandwidth: 1.3 }).mmd2;
    expect(mmd(reversedRows(a, 3), b, 3, { bandwidth: 1.3 }).mmd2).toBeCloseTo(value, 12);
    expect(mmd(b, a, 3, { bandwidth: 1.3 }).mmd2).toBeCloseTo(value, 12);
    const scaled = mmd(
      a.map((x) => 1e4 * x),
      b.map((x) => 1e4 * x),
      3,
      { seed: 2 },
    );
    expect(scaled.mmd2).toBeCloseTo(mmd(a, b, 3, { seed: 2 }).mmd2, 12);
  });

  it('states the subset it used and still tells the sets apart', () => {
    const { mmd2, used } = mmd(gaussian(5000, 2, 5), gaussian(300, 2, 6, 2), 2, { maxPoints: 400 });
    expect(used).toEqual([400, 300]);
    expect(mmd2).toBeGreaterThan(0.2);
  });

  it('survives a collapsed model and refuses single points', () => {
    expect(mmd(new Float32Array(200), gaussian(100, 2, 7), 2).mmd2).toBeGreaterThan(0.3);
    expect(mmd(new Float32Array(200), new Float32Array(100), 2).mmd2).toBeCloseTo(0, 12);
    expect(() => mmd([1, 2], [1, 2, 3, 4], 2)).toThrow(/at least two points/);
    expect(() => mmd([1, 2], [1, 2], 1, { bandwidth: 0 })).toThrow(/bandwidth/);
  });
});

describe('histogram KL', () => {
  it('of perfect samples is its floor, and the floor is (occupied bins − 1) / 2n', () => {
    const law = checkerboardLaw(48);
    const result = histogramKl(checkerboard(64_000, 3), law, { floorDraws: 5 });
    const theory = (48 * 48 * 0.5 - 1) / (2 * 64_000);
    expect(result.floor / theory).toBeGreaterThan(0.9);
    expect(result.floor / theory).toBeLessThan(1.15);
    expect(Math.abs(result.kl - result.floor)).toBeLessThan(0.2 * result.floor);
    expect(result.empty).toBe(0);
    expect(result.offSupport).toBe(0);
  });

  it('agrees with a hand-computed KL', () => {
    // Two of four bins have mass 1/4 and 3/4; the points put 3/4 and 1/8 there, and 1/8 elsewhere.
    const law = { low: 0, high: 2, bins: 2, mass: Float64Array.of(0.25, 0, 0, 0.75) };
    const points = [0.5, 0.5, 0.1, 0.9, 0, 0, 0.5, 0.2, 0.9, 0.9, 0.3, 0.3, 1.5, 1.5, 2, 0.5];
    const { kl, offSupport, empty } = histogramKl(points, law);
    expect(kl).toBeCloseTo(0.25 * Math.log(0.25 / 0.75) + 0.75 * Math.log(0.75 / 0.125), 12);
    expect(offSupport).toBe(1 / 8);
    expect(empty).toBe(0);
  });

  it('stays finite for missing modes, says how many bins are empty, and does not depend on the order of the points', () => {
    const points = checkerboard(4000, 4).map((x, i, all) => (all[i - (i % 2)] > 0 ? x - 2 * (1 - (i % 2)) : x));
    const law = checkerboardLaw(8);
    const result = histogramKl(points, law);
    expect(result.empty).toBe(16);
    expect(result.kl).toBeGreaterThan(2);
    expect(Number.isFinite(result.kl)).toBe(true);
    expect(histogramKl(reversedRows(Float64Array.from(points), 2), law)).toEqual(result);
  });

  it('is exact in the bins of a checkerboard and refuses bins that straddle an edge', () => {
    expect(() => checkerboardLaw(50)).toThrow(/multiple of 4/);
    const { mass } = checkerboardLaw(4);
    // The cell [−2, −1) × [−2, −1) has mass, its neighbours do not.
    expect([...mass.subarray(0, 4)]).toEqual([0.125, 0, 0.125, 0]);
    expect([...mass.subarray(4, 8)]).toEqual([0, 0.125, 0, 0.125]);
  });

  it('takes any density: the bins of a Gaussian follow the normal distribution function', () => {
    const law = gridLaw((x, y) => Math.exp(-(x * x + y * y) / 2), { low: -4, high: 4, bins: 8, points: 16 });
    // Φ(1) − Φ(0), over Φ(4) − Φ(−4) as the law is conditioned on the grid.
    expect(law.mass[4 * 8 + 4]).toBeCloseTo((0.3413447 / 0.9999367) ** 2, 4);
    expect(law.mass.reduce((a, b) => a + b)).toBeCloseTo(1, 12);
    const { kl, floor } = histogramKl(gaussian(20_000, 2, 8), law);
    expect(kl).toBeLessThan(floor + 0.003);
    expect(() => gridLaw(() => 0, { low: 0, high: 1, bins: 2 })).toThrow(/mass 0/);
  });
});

describe('flow-map errors', () => {
  it('are root mean square norms over points', () => {
    expect(rmse([3, 4, 0, 0], [0, 0, 0, 0], 2)).toBeCloseTo(Math.sqrt(12.5), 12);
    expect(relativeRmse([3, 4, 1, 1], [3, 4, 1, 0], 2)).toBeCloseTo(Math.sqrt(1 / 26), 12);
    expect(drift([3, 4, 0, 0], [0, 0, 0, 0], 2)).toBeCloseTo(6.25, 12);
    expect(() => rmse([1, 2], [1, 2, 3, 4], 2)).toThrow(/must be equal/);
    expect(() => rmse([1, NaN], [1, 2], 2)).toThrow(/diverged/);
  });

  it('fall into buckets by |t − s|, the last closed', () => {
    const t = [1, 0.5, 0.05, 0.5, 1];
    const s = [0, 0.4, 0.05, 0.4, 0.5];
    const buckets = rmseByJump([1, 2, 3, 4, 5], [0, 0, 0, 0, 0], 1, t, s, [0, 0.05, 0.5, 0.9, 1]);
    expect(buckets.map((b) => b.count)).toEqual([1, 2, 1, 1]);
    expect(buckets.map((b) => b.rmse)).toEqual([3, Math.sqrt(10), 5, 1]);
    expect(rmseByJump([1], [0], 1, [0.2], [0]).map((b) => b.rmse)).toEqual([NaN, 1, NaN, NaN]);
    expect(() => rmseByJump([1, 2], [0, 0], 1, [0], [0, 0])).toThrow(/1 times t/);
  });

  it('a jump is worth as many Euler steps as have its error', () => {
    // error = 1/steps: log-log interpolation is exact.
    const table = [1, 2, 4, 8, 16].map((steps) => ({ steps, error: 1 / steps }));
    expect(equalEulerSteps(1 / 3, table).steps).toBeCloseTo(3, 12);
    expect(equalEulerSteps(1 / 12.5, table.reverse()).steps).toBeCloseTo(12.5, 12);
    expect(equalEulerSteps(0.25, table)).toEqual({ steps: 4, relation: '=' });
    expect(equalEulerSteps(0.01, table)).toEqual({ steps: 16, relation: '>' });
    expect(equalEulerSteps(2, table)).toEqual({ steps: 1, relation: '<' });
    expect(equalEulerSteps(0.1, [...table.filter((r) => r.steps < 8), { steps: 8, error: 0 }])).toEqual({
      steps: 4,
      relation: '>',
    });
    // The recorded learned-teacher table: .0355 is worth about 32 steps.
    const recorded = [0.793, 0.366, 0.201, 0.111, 0.062, 0.036, 0.021].map((error, k) => ({ steps: 2 ** k, error }));
    expect(equalEulerSteps(0.0355, recorded).steps).toBeGreaterThan(32);
    expect(equalEulerSteps(0.04, recorded).steps).toBeCloseTo(28, 1);
    expect(() => equalEulerSteps(NaN, table)).toThrow(UserError);
    expect(() => equalEulerSteps(1, [])).toThrow(UserError);
  });
});

describe('statistics over seeds', () => {
  /** P(|T| < t) by Simpson's rule over the density, whose constant is a product for whole degrees of freedom. */
  const inside = (t: number, degrees: number): number => {
    let constant = degrees % 2 ? 1 / Math.PI : 1 / 2;
    for (let k = 2 + (degrees % 2); k <= degrees; k += 2) constant *= (k - 1) / (k - 2 || 1);
    const density = (x: number) => (constant / Math.sqrt(degrees)) * (1 + x ** 2 / degrees) ** (-(degrees + 1) / 2);
    const parts = 4000;
    let sum = density(0) + density(t);
    for (let i = 1; i < parts; i++) sum += (i % 2 ? 4 : 2) * density((i / parts) * t);
    return (2 * sum * t) / parts / 3;
  };

  it("Student's quantiles hold what they say, for any number of degrees", () => {
    for (const degrees of [1, 2, 3, 4, 7, 10, 11, 12, 30, 101, 500])
      for (const probability of [0.5, 0.8, 0.95, 0.99])
        expect(inside(studentQuantile(probability, degrees), degrees)).toBeCloseTo(probability, 6);
    // As tables print them.
    for (const [degrees, t] of [
      [1, 12.706],
      [2, 4.303],
      [10, 2.228],
      [11, 2.201],
      [20, 2.086],
      [60, 2.0],
      [1000, 1.962],
    ])
      expect(studentQuantile(0.95, degrees)).toBeCloseTo(t, 3);
  });

  it('an interval is that of Student, none for one value, and covers the mean 95 times in 100', () => {
    const { mean, half } = estimate([1, 2, 4, 9]);
    expect(mean).toBe(4);
    expect(half).toBeCloseTo((studentQuantile(0.95, 3) * Math.sqrt((9 + 4 + 0 + 25) / 3)) / 2, 12);
    expect(estimate([7])).toEqual({ mean: 7, half: null });
    expect(estimate([3, 3, 3])).toEqual({ mean: 3, half: 0 });
    expect(estimate([1, NaN]).mean).toBeNaN();
    const { normal } = random(11);
    for (const n of [2, 5, 13]) {
      const covered = Array.from({ length: 4000 }, () => {
        const { mean: found, half: width } = estimate(Array.from({ length: n }, normal));
        return Number(Math.abs(found) < width!);
      }).reduce((a, b) => a + b);
      expect(Math.abs(covered / 4000 - 0.95)).toBeLessThan(0.015);
    }
  });

  it('a median of what is only bounded is a bound', () => {
    const worth = (...texts: string[]) =>
      texts.map((text) => ({
        relation: (/^[<>]/.exec(text)?.[0] ?? '=') as '=',
        steps: Number(text.replace(/^[<>]/, '')),
      }));
    const median = (...texts: string[]) => summarizeWorth(worth(...texts)).median;
    expect(median('3', '>96', '5')).toEqual({ steps: 5, relation: '=' });
    expect(median('>96', '>96', '5')).toEqual({ steps: 96, relation: '>' });
    expect(median('<1', '<1', '5')).toEqual({ steps: 1, relation: '<' });
    expect(median('4', '6')).toEqual({ steps: 5, relation: '=' });
    expect(median('60', '>96')).toEqual({ steps: 78, relation: '>' });
    expect(median('<1', '3')).toEqual({ steps: 2, relation: '<' });
    expect(median('<1', '>96')).toBeNull();
    expect(median('96', '>96', '>96', '1')).toEqual({ steps: 96, relation: '>' });
    expect(median('>96')).toEqual({ steps: 96, relation: '>' });
    const { least, most } = summarizeWorth(worth('>96', '3', '<1'));
    expect([least, most]).toEqual(worth('<1', '>96'));
    // Whatever lies beyond the bounds, the median is not on their other side.
    const { uniform } = random(12);
    for (let trial = 0; trial < 500; trial++) {
      const true_ = Array.from({ length: 1 + Math.floor(6 * uniform()) }, () => 200 ** uniform() / 2);
      const seen = true_.map((steps) => (steps < 1 ? '<1' : steps > 96 ? '>96' : String(steps)));
      const sorted = [...true_].sort((a, b) => a - b);
      const exact = (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
      const found = median(...seen);
      if (found?.relation === '=') expect(found.steps).toBeCloseTo(exact, 9);
      if (found?.relation === '>') expect(exact).toBeGreaterThanOrEqual(found.steps);
      if (found?.relation === '<') expect(exact).toBeLessThanOrEqual(found.steps);
    }
  });

  it('resampling gives no interval where it has too few items or no number', () => {
    const meanOf = (values: number[]) => (indices: Uint32Array) =>
      indices.reduce((sum, i) => sum + values[i], 0) / indices.length;
    for (const n of [1, 2, 5]) {
      const values = Array.from({ length: n }, (_, i) => i);
      expect(bootstrap(n, meanOf(values), 1)).toEqual({ value: (n - 1) / 2, low: NaN, high: NaN });
    }
    const six = bootstrap(6, meanOf([0, 1, 2, 3, 4, 5]), 1);
    expect(six.low).toBeLessThan(2);
    expect(six.high).toBeGreaterThan(3);
    // All of 0 leave no ratio.
    const mostlyZero = meanOf([0, 0, 0, 0, 0, 0, 0, 1]);
    const ratio = bootstrap(8, (indices) => 1 / mostlyZero(indices), 1);
    expect([ratio.low, ratio.high]).toEqual([NaN, NaN]);
    expect(bootstrap(8, () => 2, 1)).toEqual({ value: 2, low: 2, high: 2 });
  });
});

describe('distances against their definitions', () => {
  const { normal } = random(21);
  const set = (n: number, dim: number) => Float64Array.from({ length: n * dim }, normal);

  it('MMD² and the kernel distance are the unbiased double sums over pairs', () => {
    const pairs = (a: Float64Array, b: Float64Array, dim: number, k: (x: number[], y: number[]) => number) => {
      const rows = (x: Float64Array) =>
        Array.from({ length: x.length / dim }, (_, i) => [...x.subarray(i * dim, (i + 1) * dim)]);
      const [x, y] = [rows(a), rows(b)];
      const mean = (p: number[][], q: number[][], skip: boolean) => {
        let [sum, count] = [0, 0];
        p.forEach((u, i) =>
          q.forEach((v, j) => {
            if (skip && i === j) return;
            sum += k(u, v);
            count++;
          }),
        );
        return sum / count;
      };
      return mean(x, x, true) + mean(y, y, true) - 2 * mean(x, y, false);
    };
    for (const [n, m, dim] of [
      [2, 2, 1],
      [2, 7, 3],
      [17, 5, 2],
      [31, 29, 13],
    ]) {
      const [a, b] = [set(n, dim), set(m, dim)];
      const gaussians = (x: number[], y: number[]) =>
        [0.25, 0.5, 1, 2, 4].reduce(
          (sum, s) => sum + Math.exp(-x.reduce((d, v, i) => d + (v - y[i]) ** 2, 0) / (2 * (1.7 * s) ** 2)) / 5,
          0,
        );
      expect(mmd(a, b, dim, { bandwidth: 1.7 }).mmd2).toBeCloseTo(pairs(a, b, dim, gaussians), 12);
      const cubic = (x: number[], y: number[]) => (x.reduce((d, v, i) => d + v * y[i], 0) / dim + 1) ** 3;
      const expected = pairs(a, b, dim, cubic);
      expect(Math.abs(kernelDistance(a, b, dim) - expected)).toBeLessThan(1e-11 * (1 + Math.abs(expected)));
    }
  });

  it('precision and recall are shares of points in balls, with ties and copies too', () => {
    for (const [n, m, dim, k] of [
      [4, 5, 1, 3],
      [9, 30, 2, 3],
      [40, 11, 5, 1],
    ]) {
      // Values of a coarse grid tie and repeat.
      const [a, b] = [set(n, dim), set(m, dim)].map((x) => x.map((value) => Math.round(2 * value) / 2));
      const distance = (x: Float64Array, i: number, y: Float64Array, j: number) =>
        Math.sqrt(
          Array.from({ length: dim }, (_, d) => (x[i * dim + d] - y[j * dim + d]) ** 2).reduce((p, q) => p + q),
        );
      const share = (points: Float64Array, centres: Float64Array) => {
        const [p, c] = [points.length / dim, centres.length / dim];
        const each = (count: number) => Array.from({ length: count }, (_, i) => i);
        const radius = each(c).map(
          (j) =>
            each(c)
              .filter((i) => i !== j)
              .map((i) => distance(centres, i, centres, j))
              .sort((x, y) => x - y)[k - 1],
        );
        return each(p).filter((i) => each(c).some((j) => distance(points, i, centres, j) <= radius[j])).length / p;
      };
      expect(precisionRecall(a, b, dim, k)).toEqual({ precision: share(a, b), recall: share(b, a) });
    }
    expect(() => precisionRecall(set(3, 2), set(9, 2), 2, 3)).toThrow(/more than 3/);
  });

  it('the sliced distance of unequal counts is that of sets repeated to equal ones', () => {
    for (const [n, m, dim] of [
      [1, 1, 2],
      [1, 5, 3],
      [6, 4, 2],
      [7, 3, 1],
      [12, 18, 5],
    ]) {
      const [a, b] = [set(n, dim), set(m, dim)];
      const repeated = (x: Float64Array, times: number) =>
        Float64Array.from({ length: x.length * times }, (_, i) => x[i % x.length]);
      for (const order of [1, 2] as const)
        expect(slicedWasserstein(a, b, dim, { order, directions: 9 })).toBeCloseTo(
          slicedWasserstein(repeated(a, m), repeated(b, n), dim, { order, directions: 9 }),
          10,
        );
    }
  });
});
