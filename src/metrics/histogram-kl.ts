import { UserError } from '../errors.js';
import { countRows, type Points } from './points.js';
import { random } from '../tensor/philox.js';
import { hostStreams } from '../tensor/streams.js';

/** A 2-D law seen through a square grid: `mass[row·bins + column]` is the probability of the bin, rows along y. */
export interface GridLaw {
  low: number;
  high: number;
  bins: number;
  mass: Float64Array;
}

export interface HistogramKl {
  /** KL(true ‖ histogram of the points), in nats. */
  kl: number;
  /** The same for perfect samples: the mean over redrawn histograms of as many points from the true law. */
  floor: number;
  /** Bins that have mass and received no point; each is counted as half a point, or the KL would be infinite. */
  empty: number;
  /** Share of the points in bins without mass or outside the grid: where the law has no business. */
  offSupport: number;
}

/**
 * The bin masses of `density` (need not be normalised), by a midpoint rule with `points`² nodes a bin: exact for a
 * density that is constant within each bin.
 */
export function gridLaw(
  density: (x: number, y: number) => number,
  { low, high, bins, points = 4 }: { low: number; high: number; bins: number; points?: number },
): GridLaw {
  const mass = new Float64Array(bins * bins);
  const step = (high - low) / (bins * points);
  const node = (i: number): number => low + (i + 0.5) * step;
  for (let i = 0; i < bins * points; i++) {
    for (let j = 0; j < bins * points; j++) {
      mass[Math.floor(i / points) * bins + Math.floor(j / points)] += density(node(j), node(i));
    }
  }
  const total = mass.reduce((sum, p) => sum + p, 0);
  if (!(total > 0 && Number.isFinite(total))) {
    throw new UserError(`the density has mass ${total} on [${low}, ${high}]², choose a grid that covers it`);
  }
  return { low, high, bins, mass: mass.map((p) => p / total) };
}

/**
 * The checkerboard on [−2, 2]²: uniform on the 8 of 16 unit cells with ⌊x⌋ + ⌊y⌋ even.
 * @throws UserError unless `bins` is a multiple of 4: a bin that straddles an edge blurs the law, and the KL of perfect
 * samples then does not go to zero (0.056 for 50 bins, however many samples)
 */
export function checkerboardLaw(bins: number): GridLaw {
  if (bins < 4 || bins % 4 !== 0) {
    throw new UserError(
      `the checkerboard needs a multiple of 4 bins, there are ${bins}: others straddle the edges of its squares`,
    );
  }
  const even = (x: number, y: number): number => ((Math.floor(x) + Math.floor(y)) % 2 === 0 ? 1 : 0);
  return gridLaw(even, { low: -2, high: 2, bins, points: 1 });
}

/**
 * KL from a known law to the histogram of `points` [n, 2], with its own floor. The floor is about
 * (occupied bins − 1) / 2n, so that a KL means something only where it stands well above it.
 */
export function histogramKl(
  points: Points,
  law: GridLaw,
  options: { seed?: number; floorDraws?: number } = {},
): HistogramKl {
  const { seed = 0, floorDraws = 3 } = options;
  const n = countRows(points, 2, 'histogram KL');
  const counts = histogram(points, law);
  const { uniform } = random(seed, 0, hostStreams.histograms);
  const cumulative = cumulate(law.mass);
  let floor = 0;
  for (let draw = 0; draw < floorDraws; draw++) floor += klFromCounts(law.mass, multinomial(cumulative, n, uniform), n);
  let empty = 0;
  let onSupport = 0;
  law.mass.forEach((mass, bin) => {
    if (mass > 0 && counts[bin] === 0) empty++;
    if (mass > 0) onSupport += counts[bin];
  });
  return { kl: klFromCounts(law.mass, counts, n), floor: floor / floorDraws, empty, offSupport: 1 - onSupport / n };
}

/** Counts of points [n, 2] in the bins of the grid, which are closed below and open above; the others are left out. */
export function histogram(points: Points, { low, high, bins }: Omit<GridLaw, 'mass'>): Float64Array {
  const counts = new Float64Array(bins * bins);
  const scale = bins / (high - low);
  for (let i = 0; i < points.length; i += 2) {
    const column = Math.floor((points[i] - low) * scale);
    const row = Math.floor((points[i + 1] - low) * scale);
    if (column >= 0 && column < bins && row >= 0 && row < bins) counts[row * bins + column]++;
  }
  return counts;
}

function klFromCounts(mass: Float64Array, counts: Float64Array, n: number): number {
  let kl = 0;
  for (let bin = 0; bin < mass.length; bin++) {
    if (mass[bin] > 0) kl += mass[bin] * Math.log((mass[bin] * n) / (counts[bin] || 0.5));
  }
  return kl;
}

function cumulate(mass: Float64Array): Float64Array {
  let sum = 0;
  return mass.map((p) => (sum += p));
}

/** The histogram of n perfect samples is multinomial: no sampler of the law is needed, only its bin masses. */
function multinomial(cumulative: Float64Array, n: number, uniform: () => number): Float64Array {
  const counts = new Float64Array(cumulative.length);
  const total = cumulative[cumulative.length - 1];
  for (let i = 0; i < n; i++) {
    const target = uniform() * total;
    let low = 0;
    let high = cumulative.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (cumulative[middle] > target) high = middle;
      else low = middle + 1;
    }
    counts[low]++;
  }
  return counts;
}
