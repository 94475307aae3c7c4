import { UserError } from '../errors.js';
import { countRows, type Points } from './points.js';

/** Mean and unbiased covariance of points, in float64. */
export interface Moments {
  mean: Float64Array;
  /** [dim, dim], row by row. */
  covariance: Float64Array;
}

/** @throws UserError for fewer than two points, which have no covariance */
export function momentsOf(points: Points, dim: number): Moments {
  const count = countRows(points, dim, 'moments');
  if (count < 2) throw new UserError('a covariance needs at least two samples');
  const mean = new Float64Array(dim);
  for (let i = 0, at = 0; i < count; i++) for (let k = 0; k < dim; k++, at++) mean[k] += points[at] / count;
  const covariance = new Float64Array(dim * dim);
  const centred = new Float64Array(dim);
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < dim; k++) centred[k] = points[i * dim + k] - mean[k];
    for (let j = 0; j < dim; j++)
      for (let k = j; k < dim; k++) covariance[j * dim + k] += (centred[j] * centred[k]) / (count - 1);
  }
  for (let j = 0; j < dim; j++) for (let k = 0; k < j; k++) covariance[j * dim + k] = covariance[k * dim + j];
  return { mean, covariance };
}
