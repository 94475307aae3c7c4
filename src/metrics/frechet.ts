import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import { UserError } from '../errors.js';
import { onceFor, type SampleFeatures, type SampleMetric } from './metric.js';
import { momentsOf, type Moments } from './moments.js';

/**
 * Fréchet distance of two Gaussians, ‖μ_a − μ_b‖² + tr(A + B − 2 (A^½ B A^½)^½) (Heusel et al., 2017). The last trace is
 * the sum of the singular values of A^½ B^½, which treats both sides alike and takes no root of a rounded eigenvalue.
 * Never negative, and 0 where nothing but rounding parts the two; covariances need not have full rank.
 */
export function frechetDistance(a: Moments, b: Moments): number {
  const dim = a.mean.length;
  if (b.mean.length !== dim)
    throw new UserError(`features of ${dim} and of ${b.mean.length} values cannot be compared: use one classifier`);
  const [A, B] = [squareRoot(a), squareRoot(b)];
  const common = singularValueSum(A.root.mmul(B.root));
  const shift = a.mean.reduce((sum, value, k) => sum + (value - b.mean[k]) ** 2, 0);
  const distance = shift + A.trace + B.trace - 2 * common;
  const squares = a.mean.reduce((sum, value, k) => sum + value ** 2 + b.mean[k] ** 2, 0);
  const rounding = traceRounding * dim * (A.trace + B.trace) + meanRounding ** 2 * squares;
  return distance > rounding ? distance : 0;
}

/** Relative error of the traces a dimension: what the decompositions of equal covariances differ by, some times over. */
const traceRounding = 16 * Number.EPSILON;

/** Relative error of a mean that is summed over up to a million points. */
const meanRounding = 1e6 * Number.EPSILON;

/** Fréchet distances are customarily taken of this many samples and more. */
const customaryCount = 2000;

/**
 * What has to be said beside a Fréchet distance from few samples; null where there are enough. Its bias falls as 1 / n, and
 * fewer samples than features have a covariance of lower rank.
 */
export function frechetCaveat(count: number, dim: number): string | null {
  if (count >= Math.max(customaryCount, 2 * dim)) return null;
  const rank = count <= dim ? `, fewer than the ${dim} features` : '';
  return `Fréchet distances from ${count} samples${rank} read high: compare only those from equally many`;
}

/** The root of a covariance by its eigenvectors; what rounding makes of a zero eigenvalue counts as zero. */
function squareRoot({ covariance, mean: { length: dim } }: Moments): { root: Matrix; trace: number } {
  const matrix = new Matrix(
    Array.from({ length: dim }, (_, row) => [...covariance.subarray(row * dim, (row + 1) * dim)]),
  );
  const { eigenvectorMatrix: V, realEigenvalues } = new EigenvalueDecomposition(matrix, { assumeSymmetric: true });
  const least = dim * Number.EPSILON * Math.max(...realEigenvalues);
  const roots = Matrix.diag(realEigenvalues.map((value) => (value > least ? Math.sqrt(value) : 0)));
  return { root: V.mmul(roots).mmul(V.transpose()), trace: matrix.trace() };
}

const mostSweeps = 40;
const rotationTolerance = 1e-14;

/**
 * Sum of the singular values of a square matrix by one-sided Jacobi rotations (Hestenes, 1958), which turn its columns
 * until all are orthogonal. ml-matrix's own decomposition does not end on some matrices of very small values.
 */
function singularValueSum(matrix: Matrix): number {
  const columns = Array.from({ length: matrix.columns }, (_, k) => Float64Array.from(matrix.getColumn(k)));
  // Columns that are rounding errors beside the others would be turned for ever.
  const negligible = (Number.EPSILON * matrix.norm()) ** 2;
  let turned = true;
  for (let sweep = 0; turned && sweep < mostSweeps; sweep++) {
    turned = false;
    for (let p = 1; p < columns.length; p++)
      for (let q = 0; q < p; q++) turned = turn(columns[p], columns[q], negligible) || turned;
  }
  return columns.reduce((sum, column) => sum + Math.sqrt(dot(column, column)), 0);
}

/** Rotates two columns in their plane until they are orthogonal; false where they are already. */
function turn(a: Float64Array, b: Float64Array, negligible: number): boolean {
  const [aa, bb, ab] = [dot(a, a), dot(b, b), dot(a, b)];
  if (Math.min(aa, bb) <= negligible || Math.abs(ab) <= rotationTolerance * Math.sqrt(aa) * Math.sqrt(bb)) return false;
  const zeta = (bb - aa) / (2 * ab);
  const tangent = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
  const cosine = 1 / Math.hypot(1, tangent);
  const sine = cosine * tangent;
  for (let i = 0; i < a.length; i++) {
    const value = a[i];
    a[i] = cosine * value - sine * b[i];
    b[i] = sine * value + cosine * b[i];
  }
  return true;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

const referenceMoments = onceFor(({ values, dim }: SampleFeatures) => momentsOf(values, dim));

export const frechetMetric: SampleMetric = {
  name: 'frechet',
  heading: 'Fréchet',
  explanation:
    'squared distance of the Gaussians with the means and covariances of features; 0 is best, few samples read high',
  needs: 'features',
  least: 2,
  compute: ({ features, reference }) =>
    frechetDistance(
      momentsOf(features!.values, features!.dim),
      reference.moments ?? referenceMoments(reference.allFeatures!),
    ),
  caveat: ({ features }) => frechetCaveat(features!.classes.length, features!.dim),
};
