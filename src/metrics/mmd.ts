import { UserError } from '../errors.js';
import type { SampleMetric } from './metric.js';
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
  const n = x.length / dim;
  const m = y.length / dim;
  if (n < 2 || m < 2) throw new UserError(`MMD needs at least two points in either set, there are ${n} and ${m}`);
  const bandwidth = options.bandwidth ?? medianDistance(x, y, dim, draw);
  if (!(bandwidth > 0)) throw new UserError(`MMD: the bandwidth is ${bandwidth}, it must be positive`);
  const kernel = multiScaleKernel(bandwidth);
  let xx = 0;
  let yy = 0;
  let xy = 0;
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) xx += kernel(squaredDistance(x, i, x, j, dim));
  for (let i = 0; i < m; i++) for (let j = 0; j < i; j++) yy += kernel(squaredDistance(y, i, y, j, dim));
  for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) xy += kernel(squaredDistance(x, i, y, j, dim));
  const mmd2 = (2 * xx) / (n * (n - 1)) + (2 * yy) / (m * (m - 1)) - (2 * xy) / (n * m);
  return { mmd2, bandwidth, used: [n, m] };
}

/** The widths are powers of two, so one exponential gives all five: halving σ raises the kernel to the fourth power. */
function multiScaleKernel(bandwidth: number): (squared: number) => number {
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

export const mmdMetric: SampleMetric = {
  name: 'mmd2',
  heading: 'MMD²',
  explanation:
    'unbiased squared maximum mean discrepancy under Gaussian kernels of five widths; around 0 no difference is seen',
  needs: 'samples',
  least: 2,
  compute: ({ x, reference, dim }) => mmd(x, reference.x, dim).mmd2,
};
