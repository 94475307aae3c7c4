import { random } from '../tensor/philox.js';
import { hostStreams } from '../tensor/streams.js';

/** A figure with the interval that resampling gives it; the ends are NaN where it gives none. */
export interface Bootstrapped {
  value: number;
  low: number;
  high: number;
}

const resamples = 1000;

/** With fewer items the whole range from the least to the greatest holds the truth less than 95 times in 100: 1 - 2^(1-n). */
const fewestItems = 6;

/**
 * A statistic of `count` independent items with its 95 % percentile interval (Efron, 1979). There is none for fewer than
 * six items, or where a resample gives no finite number.
 * @param statistic of the items at some indices, drawn with replacement
 */
export function bootstrap(
  count: number,
  statistic: (indices: Uint32Array) => number,
  seed: number,
  repeats = resamples,
): Bootstrapped {
  const value = statistic(Uint32Array.from({ length: count }, (_, i) => i));
  const none = { value, low: NaN, high: NaN };
  if (count < fewestItems) return none;
  const draw = random(seed, 0, hostStreams.resampling);
  const values = Float64Array.from({ length: repeats }, () =>
    statistic(Uint32Array.from({ length: count }, () => draw.below(count))),
  ).sort();
  if (!values.every(Number.isFinite)) return none;
  return {
    value,
    low: values[Math.floor(0.025 * (repeats - 1))],
    high: values[Math.ceil(0.975 * (repeats - 1))],
  };
}

/** Slope of the least-squares line through points. */
export function slopeOf(x: readonly number[], y: readonly number[]): number {
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [mx, my] = [mean(x), mean(y)];
  const across = x.reduce((sum, value, i) => sum + (value - mx) * (y[i] - my), 0);
  return across / x.reduce((sum, value) => sum + (value - mx) ** 2, 0);
}
