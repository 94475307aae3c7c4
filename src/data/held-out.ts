import { random } from '../tensor/philox.js';
import { sizeOf } from '../tensor/shape.js';
import { hostStreams } from '../tensor/streams.js';
import { decode, takeRows, type Dataset } from './dataset.js';

/** Samples as numbers, [count, ...shape]. */
export interface HeldOut {
  count: number;
  /** Values of one sample. */
  size: number;
  x: Float32Array;
  labels?: Uint32Array;
}

/**
 * The held-out samples of a data set in an order by chance, because files are often sorted by class. The order depends on
 * their number alone, not on a run's seed: whatever is judged by them is judged by the same ones.
 */
export function shuffledHeldOut({ heldOut, shape, range }: Dataset): HeldOut {
  const { count } = heldOut;
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  const draw = random(0, 0, hostStreams.heldOutOrder);
  for (let i = count - 1; i > 0; i--) {
    const j = draw.below(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  const size = sizeOf(shape);
  const { values, labels } = takeRows(heldOut, size, order);
  return { count, size, x: decode(values, range), ...(labels && { labels }) };
}

/**
 * Two sets of samples that share none: `most` at most, and no more than half of them, before the rest.
 * @param most of the first part; the second is all that is left
 */
export function disjoint({ count, size, x, labels }: HeldOut, most: number): [HeldOut, HeldOut] {
  const part = (from: number, to: number): HeldOut => ({
    count: to - from,
    size,
    x: x.subarray(from * size, to * size),
    ...(labels && { labels: labels.subarray(from, to) }),
  });
  const cut = Math.min(most, Math.floor(count / 2));
  return [part(0, cut), part(cut, count)];
}

/** The first samples of a set. */
export const firstOf = (set: HeldOut, count: number): HeldOut => ({
  ...set,
  count,
  x: set.x.subarray(0, count * set.size),
  ...(set.labels && { labels: set.labels.subarray(0, count) }),
});
