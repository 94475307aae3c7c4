import { UserError } from '../errors.js';
import type { Runner } from '../flow/runner.js';
import { everywhere, mixed, type TestImages } from './test-images.js';

/** Semigroup violation of a flow map over a grid of times. */
export interface ViolationMap {
  times: readonly number[];
  /** For each pair s < t: the mean squared difference between one jump t → s and two by the middle, over the data's variance. */
  cells: ViolationCell[];
  mean: number;
  worst: ViolationCell;
}

/** The violation at a pair of times. */
export interface ViolationCell {
  t: number;
  s: number;
  violation: number;
}

export const gridTimes = [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1] as const;

/**
 * Violation at every pair of times of the grid.
 * @param go the operator that the flow map is sampled by
 * @param progress hears how many pairs are done, of how many, and the last of them
 * @throws UserError where all samples are alike: their variance, 0, is no unit
 */
export async function violationMap(
  test: TestImages,
  go: (x: Float32Array, t: Float32Array, s: Float32Array) => ReturnType<Runner['jump']>,
  progress: (done: number, total: number, last?: ViolationCell) => void,
): Promise<ViolationMap> {
  const variance = varianceOf(test);
  const alike = test.images.every((value, i) => value === test.images[i % test.size]);
  if (alike)
    throw new UserError(
      "all samples are alike: a violation in units of the data's variance needs samples that differ",
      'data',
    );
  const pairs = gridTimes.flatMap((t) => gridTimes.filter((s) => s < t).map((s) => ({ t, s })));
  const cells: ViolationCell[] = [];
  progress(0, pairs.length);
  for (const { t, s } of pairs) {
    const [from, to, middle] = [t, s, (t + s) / 2].map((time) => everywhere(test, time));
    const x = mixed(test, from);
    const direct = await go(x, from, to);
    const composed = await go(await go(x, from, middle), middle, to);
    const square = direct.reduce((sum, value, i) => sum + (value - composed[i]) ** 2, 0) / direct.length;
    cells.push({ t, s, violation: square / variance });
    progress(cells.length, pairs.length, cells[cells.length - 1]);
  }
  return {
    times: gridTimes,
    cells,
    mean: cells.reduce((sum, { violation }) => sum + violation, 0) / cells.length,
    worst: cells.reduce((most, cell) => (cell.violation > most.violation ? cell : most)),
  };
}

/** Mean over values of the images' unbiased variance. */
function varianceOf({ images, count, size }: TestImages): number {
  if (count < 2) return 0;
  let sum = 0;
  for (let k = 0; k < size; k++) {
    let mean = 0;
    for (let i = 0; i < count; i++) mean += images[i * size + k] / count;
    for (let i = 0; i < count; i++) sum += (images[i * size + k] - mean) ** 2 / (count - 1);
  }
  return sum / size;
}
