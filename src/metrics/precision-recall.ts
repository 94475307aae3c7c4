import { UserError } from '../errors.js';
import { onceFor, type SampleFeatures, type SampleMetric } from './metric.js';
import { countRows, squaredDistance, type Points } from './points.js';

/** Balls reach out to this neighbour of their centre unless told otherwise. */
const neighbour = 3;

/** Points with the radius of the ball around each, out to its k-th neighbour. */
export interface Manifold {
  points: Points;
  dim: number;
  radii: Float64Array;
}

/** @throws UserError where there are not more than k points */
export function manifoldOf(points: Points, dim: number, k = neighbour): Manifold {
  const n = countRows(points, dim, 'manifold');
  if (n <= k) throw new UserError(`neighbours number ${k} need more than ${k} samples, there are ${n}`);
  const distances = new Float64Array(n);
  const radii = Float64Array.from({ length: n }, (_, j) => {
    for (let i = 0; i < n; i++) distances[i] = squaredDistance(points, i, points, j, dim);
    // The nearest of all is the point itself.
    return distances.sort()[k];
  });
  return { points, dim, radii };
}

/** Share of points that lie inside a manifold. */
export function coverage(points: Points, { points: centres, dim, radii }: Manifold): number {
  const n = countRows(points, dim, 'coverage');
  let inside = 0;
  for (let i = 0; i < n; i++) {
    if (radii.some((radius, j) => squaredDistance(points, i, centres, j, dim) <= radius)) inside++;
  }
  return inside / n;
}

/**
 * Improved precision and recall (Kynkäänniemi et al., 2019): the share of samples inside the manifold of the data, and of
 * data inside that of the samples. A manifold is the union of balls around each point, each out to its k-th neighbour.
 * @throws UserError where either side has not more than k points
 */
export function precisionRecall(
  samples: Points,
  data: Points,
  dim: number,
  k = neighbour,
): { precision: number; recall: number } {
  return {
    precision: coverage(samples, manifoldOf(data, dim, k)),
    recall: coverage(data, manifoldOf(samples, dim, k)),
  };
}

const manifold = onceFor(({ values, dim }: SampleFeatures) => manifoldOf(values, dim));

export const precisionMetric: SampleMetric = {
  name: 'precision',
  heading: 'precision',
  explanation: 'share of samples inside the manifold of the data, by balls out to the third neighbour in features',
  needs: 'features',
  least: neighbour + 1,
  compute: ({ features, reference }) => coverage(features!.values, manifold(reference.features!)),
};

export const recallMetric: SampleMetric = {
  name: 'recall',
  heading: 'recall',
  explanation: 'share of the data inside the manifold of the samples',
  needs: 'features',
  least: neighbour + 1,
  compute: ({ features, reference }) => coverage(reference.features!.values, manifold(features!)),
};
