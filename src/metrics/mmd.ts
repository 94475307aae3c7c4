import { UserError } from '../errors.js';
import { onceFor, type Reference, type SampleMetric } from './metric.js';
import type { PairDistances } from './pairs.js';
import { countRows, squaredDistance, type Points } from './points.js';
import { random, type Random } from '../tensor/philox.js';
import { hostStreams } from '../tensor/streams.js';

export interface MmdOptions {
  /** At most this many points of either set are used (a seeded subset): the cost is O(maxPoints²·dim). Default 2000. */
  maxPoints?: number;
  /** The kernel's length; default the median distance between points of the pooled sets. */
  bandwidth?: number;
  seed?: number;
}

export interface MmdResult {
  /** Unbiased estimate: zero in the mean for equal laws, so small negative values occur and mean "no difference seen". */
  mmd2: number;
  bandwidth: number;
  /** Points used of the first and of the second set. */
  used: [number, number];
}

/** Pairs from which the median distance is taken. */
const MEDIAN_PAIRS = 20_000;

/**
 * Unbiased squared maximum mean discrepancy (Gretton et al. 2012, eq. 3) between a [n, dim] and b [m, dim]. The kernel
 * is the mean of five Gaussians exp(−‖x−y‖²/2σ²) with σ = ¼, ½, 1, 2 and 4 times the median distance.
 * @throws UserError for a set of fewer than two points, a wrong dimension or points that are not finite
 */
export function mmd(a: Points, b: Points, dim: number, options: MmdOptions = {}): MmdResult {
  const { maxPoints = 2000, seed = 0 } = options;
  const draw = random(seed, 0, hostStreams.kernelSubsets);
  const x = subset(a, dim, countRows(a, dim, 'MMD, first set'), maxPoints, draw);
  const y = subset(b, dim, countRows(b, dim, 'MMD, second set'), maxPoints, draw);
  const bandwidth = options.bandwidth ?? medianDistance(x, y, dim, draw);
  if (!(bandwidth > 0)) throw new UserError(`MMD: the bandwidth is ${bandwidth}, it must be positive`);
  const kernel = multiScaleKernel(bandwidth);
  return {
    mmd2: meanWithin(x, dim, kernel) + meanWithin(y, dim, kernel) - 2 * meanBetween(x, y, dim, kernel),
    bandwidth,
    used: [x.length / dim, y.length / dim],
  };
}

type Kernel = (squared: number) => number;

/** The mean of the kernel over pairs of different points. */
function meanWithin(x: Float64Array, dim: number, kernel: Kernel): number {
  const n = x.length / dim;
  if (n < 2) throw new UserError(`MMD needs at least two points in either set, there is ${n} in one`);
  let sum = 0;
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) sum += kernel(squaredDistance(x, i, x, j, dim));
  return (2 * sum) / (n * (n - 1));
}

function meanBetween(x: Float64Array, y: Float64Array, dim: number, kernel: Kernel): number {
  const [n, m] = [x.length / dim, y.length / dim];
  let sum = 0;
  for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) sum += kernel(squaredDistance(x, i, y, j, dim));
  return sum / (n * m);
}

/** The widths are powers of two, so one exponential gives all five: halving σ raises the kernel to the fourth power. */
function multiScaleKernel(bandwidth: number): Kernel {
  const widest = 1 / (2 * (4 * bandwidth) ** 2);
  return (squared) => {
    let k = Math.exp(-squared * widest);
    let sum = k;
    for (let scale = 0; scale < 4; scale++) {
      k *= k;
      k *= k;
      sum += k;
    }
    return sum / 5;
  };
}

/** `count` rows drawn without replacement (a partial Fisher-Yates shuffle), or all of them where there are no more. */
function subset(points: Points, dim: number, rows: number, count: number, { below }: Random): Float64Array {
  if (rows <= count) return Float64Array.from(points);
  const order = Uint32Array.from({ length: rows }, (_, i) => i);
  const out = new Float64Array(count * dim);
  for (let i = 0; i < count; i++) {
    const pick = i + below(rows - i);
    const row = order[pick];
    order[pick] = order[i];
    for (let k = 0; k < dim; k++) out[i * dim + k] = points[row * dim + k];
  }
  return out;
}

function medianDistance(x: Float64Array, y: Float64Array, dim: number, { below }: Random): number {
  const n = x.length / dim;
  const total = n + y.length / dim;
  const pick = (): [Float64Array, number] => {
    const row = below(total);
    return row < n ? [x, row] : [y, row - n];
  };
  const squared: number[] = [];
  for (let i = 0; i < MEDIAN_PAIRS; i++) {
    const [a, p] = pick();
    const [b, q] = pick();
    // A point's distance to itself says nothing about the scale.
    if (a !== b || p !== q) squared.push(squaredDistance(a, p, b, q, dim));
  }
  squared.sort((p, q) => p - q);
  const median = Math.sqrt(squared[squared.length >> 1] ?? 0);
  // More than half of the pairs coincide (a collapsed model): any length separates the sets, take the largest seen.
  return median > 0 ? median : Math.sqrt(squared.at(-1) ?? 0) || 1;
}

const mostPoints = 2000;

/** Real samples, the kernel of their own median distance by which all others are compared with them. */
const realPoints = onceFor(({ x }: Reference, dim: number) => {
  const draw = random(0, 0, hostStreams.kernelSubsets);
  const y = subset(x, dim, countRows(x, dim, 'MMD, real samples'), mostPoints, draw);
  return { y, kernel: multiScaleKernel(medianDistance(y, new Float64Array(), dim, draw)) };
});

/** The mean of the kernel between them. */
const realMean = onceFor((reference: Reference, dim: number) => {
  const { y, kernel } = realPoints(reference, dim);
  return meanWithin(y, dim, kernel);
});
const realMeanOf = onceFor(async (reference: Reference, dim: number, pairs: PairDistances) => {
  const { y, kernel } = realPoints(reference, dim);
  return meanOfPairs(await pairs(y, y, dim), kernel, y.length / dim);
});

/**
 * The mean of the kernel over squared distances.
 * @param within where rows are columns too: so many, none of which is compared with itself
 */
function meanOfPairs(squared: Float64Array, kernel: Kernel, within?: number): number {
  let sum = 0;
  for (let i = 0; i < squared.length; i++) sum += kernel(squared[i]);
  if (within === undefined) return sum / squared.length;
  for (let i = 0; i < within; i++) sum -= kernel(squared[i * (within + 1)]);
  return sum / (within * (within - 1));
}

export const mmdMetric: SampleMetric = {
  name: 'mmd2',
  heading: 'MMD²',
  explanation:
    "unbiased squared maximum mean discrepancy under Gaussian kernels of five widths around the data's median distance; around 0 no difference is seen",
  needs: 'samples',
  least: 2,
  compute({ x: samples, reference, dim, pairs }) {
    const { y, kernel } = realPoints(reference, dim);
    const draw = random(1, 0, hostStreams.kernelSubsets);
    const x = subset(samples, dim, countRows(samples, dim, 'MMD, samples'), mostPoints, draw);
    if (!pairs) return meanWithin(x, dim, kernel) + realMean(reference, dim) - 2 * meanBetween(x, y, dim, kernel);
    return (async () => {
      const own = meanOfPairs(await pairs(x, x, dim), kernel, x.length / dim);
      return own + (await realMeanOf(reference, dim, pairs)) - 2 * meanOfPairs(await pairs(x, y, dim), kernel);
    })();
  },
};
