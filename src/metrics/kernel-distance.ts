import { UserError } from '../errors.js';
import type { SampleMetric } from './metric.js';
import { countRows, type Points } from './points.js';

/**
 * Kernel Inception Distance: the unbiased squared MMD of features under k(x, y) = (x·y / dim + 1)³ (Bińkowski et al.,
 * 2018). Zero in the mean for equal laws, so small negative values mean that no difference was seen.
 */
export function kernelDistance(a: Points, b: Points, dim: number): number {
  const [n, m] = [countRows(a, dim, 'kernel distance, first set'), countRows(b, dim, 'kernel distance, second set')];
  if (n < 2 || m < 2) throw new UserError('the kernel distance needs at least two samples on either side');
  const kernel = (x: Points, i: number, y: Points, j: number) => {
    let dot = 0;
    for (let k = 0; k < dim; k++) dot += x[i * dim + k] * y[j * dim + k];
    return (dot / dim + 1) ** 3;
  };
  const within = (x: Points, count: number) => {
    let sum = 0;
    for (let i = 0; i < count; i++) for (let j = 0; j < i; j++) sum += kernel(x, i, x, j);
    return (2 * sum) / (count * (count - 1));
  };
  let across = 0;
  for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) across += kernel(a, i, b, j);
  return within(a, n) + within(b, m) - (2 * across) / (n * m);
}

export const kernelMetric: SampleMetric = {
  name: 'kernel',
  heading: 'kernel distance',
  explanation:
    'unbiased squared distance of the means of features under a cubic kernel (KID); around 0 no difference is seen',
  needs: 'features',
  least: 2,
  compute: ({ features, reference }) => kernelDistance(features!.values, reference.features!.values, features!.dim),
};
