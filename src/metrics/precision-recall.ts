import { UserError } from '../errors.js';
import { countRows, type Points } from './points.js';

/**
 * Improved precision and recall (Kynkäänniemi et al., 2019): the share of samples inside the manifold of the data, and of
 * data inside that of the samples. A manifold is the union of balls around each point, each out to its k-th neighbour.
 */
export function precisionRecall(
  samples: Points,
  data: Points,
  dim: number,
  k = 3,
): { precision: number; recall: number } {
  return { precision: covered(samples, data, dim, k), recall: covered(data, samples, dim, k) };
}

/** Share of points that lie inside the manifold of others. */
function covered(points: Points, others: Points, dim: number, k: number): number {
  const n = countRows(points, dim, 'precision and recall, first set');
  const m = countRows(others, dim, 'precision and recall, second set');
  if (m <= k) throw new UserError(`neighbours number ${k} need more than ${k} samples, there are ${m}`);
  const radii = Float64Array.from({ length: m }, (_, j) => {
    const distances = Float64Array.from({ length: m }, (_, i) => squaredDistance(others, i, others, j, dim)).sort();
    // The nearest of all is the point itself.
    return distances[k];
  });
  let inside = 0;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < m; j++) {
      if (squaredDistance(points, i, others, j, dim) > radii[j]) continue;
      inside++;
      break;
    }
  }
  return inside / n;
}

function squaredDistance(a: Points, i: number, b: Points, j: number, dim: number): number {
  let sum = 0;
  for (let k = 0; k < dim; k++) sum += (a[i * dim + k] - b[j * dim + k]) ** 2;
  return sum;
}
