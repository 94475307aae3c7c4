import { UserError } from '../errors.js';

/** Points in row-major order: n rows of `dim` coordinates. */
export type Points = ArrayLike<number>;

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
