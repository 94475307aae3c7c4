import { UserError } from '../errors.js';

/** Points in row-major order: n rows of `dim` coordinates. */
export type Points = ArrayLike<number>;

/** Squared distance of row i of a to row j of b. Four sums at a time, which one alone would wait for. */
export function squaredDistance(a: Points, i: number, b: Points, j: number, dim: number): number {
  let first = 0;
  let second = 0;
  let third = 0;
  let fourth = 0;
  let p = i * dim;
  let q = j * dim;
  const end = p + dim;
  for (; p + 3 < end; p += 4, q += 4) {
    const g = a[p] - b[q];
    const h = a[p + 1] - b[q + 1];
    const k = a[p + 2] - b[q + 2];
    const l = a[p + 3] - b[q + 3];
    first += g * g;
    second += h * h;
    third += k * k;
    fourth += l * l;
  }
  for (; p < end; p++, q++) first += (a[p] - b[q]) ** 2;
  return first + second + (third + fourth);
}

/**
 * The number of rows of `points`.
 * @throws UserError where the set is empty, does not divide into rows, or holds a value that is not finite
 * (a metric of such samples would be a number that means nothing)
 */
export function countRows(points: Points, dim: number, name: string): number {
  if (!Number.isInteger(dim) || dim < 1)
    throw new UserError(`${name}: the dimension is ${dim}, it must be a positive whole number`);
  if (points.length === 0) throw new UserError(`${name}: no points were given, at least one is needed`);
  if (points.length % dim !== 0) {
    throw new UserError(
      `${name}: ${points.length} numbers do not divide into points of ${dim} coordinates, check the dimension`,
    );
  }
  for (let i = 0; i < points.length; i++) {
    if (!Number.isFinite(points[i])) {
      throw new UserError(`${name}: point ${Math.floor(i / dim)} is ${points[i]}, the model that made it has diverged`);
    }
  }
  return points.length / dim;
}
