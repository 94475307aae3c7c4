import { linspace } from './spacing.js';

/** The ratio of noise to data of every timestep, rising. */
export const sigmasOf = (bars: Float64Array): Float64Array => bars.map((bar) => Math.sqrt((1 - bar) / bar));

/** Of a schedule that ends in noise alone the last ᾱ is not zero but small, so that its σ is finite. */
export const withFiniteEnd = (bars: Float64Array): Float64Array =>
  bars[bars.length - 1] === 0 ? bars.with(bars.length - 1, 2 ** -24) : bars;

/** The value at a fraction of a table's index, linearly between entries. */
export function interpolated(table: ArrayLike<number>, place: number): number {
  const below = Math.min(Math.max(0, Math.floor(place)), table.length - 1);
  const above = Math.min(below + 1, table.length - 1);
  return table[below] + (table[above] - table[below]) * (place - below);
}

/** Falling σ at equal distances of σ^(1/7) (Karras et al., 2022, equation 5). */
export const karrasSigmas = (highest: number, lowest: number, count: number): number[] => {
  const [from, to] = [highest ** (1 / 7), lowest ** (1 / 7)];
  return linspace(0, 1, count).map((share) => (from + share * (to - from)) ** 7);
};

/** The fraction of a timestep at which a rising table of σ has that one, linearly in the logarithm. */
export function timestepOf(sigma: number, sigmas: Float64Array): number {
  const log = Math.log(Math.max(sigma, 1e-10));
  const logs = sigmas.map(Math.log);
  const above = logs.findIndex((value) => value > log);
  const low = Math.min(Math.max(0, (above < 0 ? logs.length : above) - 1), logs.length - 2);
  const share = (logs[low] - log) / (logs[low] - logs[low + 1]);
  return low + Math.min(1, Math.max(0, share));
}
