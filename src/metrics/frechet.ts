import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
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
  const n = countRows(points, dim, 'moments');
  if (n < 2) throw new UserError('a covariance needs at least two samples');
  const mean = new Float64Array(dim);
  for (let i = 0, at = 0; i < n; i++) for (let k = 0; k < dim; k++, at++) mean[k] += points[at] / n;
  const covariance = new Float64Array(dim * dim);
  const centred = new Float64Array(dim);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < dim; k++) centred[k] = points[i * dim + k] - mean[k];
    for (let j = 0; j < dim; j++)
      for (let k = j; k < dim; k++) covariance[j * dim + k] += (centred[j] * centred[k]) / (n - 1);
  }
  for (let j = 0; j < dim; j++) for (let k = 0; k < j; k++) covariance[j * dim + k] = covariance[k * dim + j];
  return { mean, covariance };
}

/**
 * Fréchet distance of two Gaussians, ‖μ_a − μ_b‖² + tr(A + B − 2 (A^½ B A^½)^½) (Heusel et al., 2017). A^½ comes from A's
 * eigenvectors, so covariances need not have full rank; what rounding makes negative counts as zero.
 */
export function frechetDistance(a: Moments, b: Moments): number {
  const dim = a.mean.length;
  if (b.mean.length !== dim)
    throw new UserError(`features of ${dim} and of ${b.mean.length} values cannot be compared: use one classifier`);
  const matrix = ({ covariance }: Moments) =>
    new Matrix(Array.from({ length: dim }, (_, row) => [...covariance.subarray(row * dim, (row + 1) * dim)]));
  const [A, B] = [matrix(a), matrix(b)];
  const root = squareRoot(A);
  const product = symmetric(root.mmul(B).mmul(root));
  const roots = new EigenvalueDecomposition(product, { assumeSymmetric: true }).realEigenvalues.map((value) =>
    Math.sqrt(Math.max(0, value)),
  );
  const shift = a.mean.reduce((sum, value, k) => sum + (value - b.mean[k]) ** 2, 0);
  return shift + A.trace() + B.trace() - 2 * roots.reduce((sum, value) => sum + value, 0);
}

function squareRoot(A: Matrix): Matrix {
  const { eigenvectorMatrix: V, realEigenvalues } = new EigenvalueDecomposition(A, { assumeSymmetric: true });
  const roots = Matrix.diag(realEigenvalues.map((value) => Math.sqrt(Math.max(0, value))));
  return V.mmul(roots).mmul(V.transpose());
}

const symmetric = (A: Matrix): Matrix => Matrix.add(A, A.transpose()).mul(0.5);
