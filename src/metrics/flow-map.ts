import { UserError } from '../errors.js';
import { countRows, type Points } from './points.js';

/** Root of the mean over points of ‖a_i − b_i‖², the L² operator error: a and b are [n, dim]. */
export function rmse(a: Points, b: Points, dim: number): number {
  return Math.sqrt(meanSquare(squaredErrors(a, b, dim)));
}

/** rmse(a, truth) over the root mean square norm of the truth: free of the dimension and of the data's scale. */
export function relativeRmse(a: Points, truth: Points, dim: number): number {
  return rmse(a, truth, dim) / rmse(truth, new Float64Array(truth.length), dim);
}

/** The error of jumps whose lengths lie between two. */
export interface Bucket {
  from: number;
  to: number;
  count: number;
  /** NaN where the bucket is empty. */
  rmse: number;
}

/**
 * RMSE by the length |t − s| of the jump: bucket k holds edges[k] ≤ |t − s| < edges[k+1], the last its upper edge too.
 * a and truth are [n, dim], t and s [n].
 */
export function rmseByJump(
  a: Points,
  truth: Points,
  dim: number,
  t: Points,
  s: Points,
  edges: readonly number[] = [0, 0.1, 0.3, 0.6, 1],
): Bucket[] {
  const errors = squaredErrors(a, truth, dim);
  if (t.length !== errors.length || s.length !== errors.length) {
    throw new UserError(`there are ${errors.length} points, but ${t.length} times t and ${s.length} times s`);
  }
  return edges.slice(0, -1).map((from, k) => {
    const to = edges[k + 1];
    const last = k === edges.length - 2;
    const inside = errors.filter((_, i) => {
      const jump = Math.abs(t[i] - s[i]);
      return jump >= from && (jump < to || (last && jump === to));
    });
    return { from, to, count: inside.length, rmse: Math.sqrt(meanSquare(inside)) };
  });
}

/**
 * Semigroup drift Δ_k: the mean squared difference, over points and coordinates, between the direct jump and the same
 * jump in k hops, both [n, dim]. Zero drift is no proof of a right map (a constant has none): read it beside an error.
 */
export function drift(direct: Points, hops: Points, dim: number): number {
  return meanSquare(squaredErrors(direct, hops, dim)) / dim;
}

export interface SolverError {
  steps: number;
  error: number;
}

/** How many solver steps one jump is worth. */
export interface EqualSteps {
  steps: number;
  /** '=' inside the table; '>' or '<' where the student is better or worse than every row, `steps` being the last or first. */
  relation: '=' | '>' | '<';
}

/**
 * By how many solver steps one student jump is worth: the step count at which the solver's error equals the student's,
 * interpolated linearly in log steps and log error at the first crossing.
 */
export function equalEulerSteps(studentError: number, table: readonly SolverError[]): EqualSteps {
  const rows = [...table].sort((p, q) => p.steps - q.steps);
  if (rows.length === 0) throw new UserError('no solver errors were given to compare the student with');
  for (const { steps, error } of [{ steps: 1, error: studentError }, ...rows]) {
    if (!(steps > 0 && error >= 0 && Number.isFinite(error))) {
      throw new UserError(
        `an error of ${error} at ${steps} steps cannot be compared: both must be finite and not negative`,
      );
    }
  }
  const crossing = rows.findIndex((row) => row.error <= studentError);
  if (crossing < 0) return { steps: rows[rows.length - 1].steps, relation: '>' };
  const after = rows[crossing];
  if (after.error === studentError) return { steps: after.steps, relation: '=' };
  if (crossing === 0) return { steps: after.steps, relation: '<' };
  const before = rows[crossing - 1];
  // An exact solver (error 0) has no logarithm: the crossing is then somewhere in the gap, and its start is the safe claim.
  if (after.error === 0) return { steps: before.steps, relation: '>' };
  const share = Math.log(before.error / studentError) / Math.log(before.error / after.error);
  return { steps: before.steps * (after.steps / before.steps) ** share, relation: '=' };
}

/** What several students are worth together. */
export interface WorthSummary {
  /** Null where it lies between two values that are only known to be outside of the table, at either end of it. */
  median: EqualSteps | null;
  least: EqualSteps;
  most: EqualSteps;
}

/**
 * Median and range of step counts of which some are only known to lie beyond the table. A mean would take the table's end
 * for their value; their rank, and with it the median, is known. Between two middle values of which one is such a bound the
 * median is a bound as well.
 */
export function summarizeWorth(values: readonly EqualSteps[]): WorthSummary {
  const side = { '<': -1, '=': 0, '>': 1 };
  const sorted = [...values].sort((a, b) => a.steps - b.steps || side[a.relation] - side[b.relation]);
  const [least, most] = [sorted[0], sorted[sorted.length - 1]];
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  const relations = new Set([low.relation, high.relation]);
  if (relations.has('<') && relations.has('>')) return { median: null, least, most };
  const relation = relations.has('<') ? '<' : relations.has('>') ? '>' : '=';
  return { median: { steps: (low.steps + high.steps) / 2, relation }, least, most };
}

function squaredErrors(a: Points, b: Points, dim: number): Float64Array {
  if (a.length !== b.length)
    throw new UserError(`the point sets to compare hold ${a.length} and ${b.length} numbers, they must be equal`);
  const rows = countRows(a, dim, 'flow-map error, first set');
  countRows(b, dim, 'flow-map error, second set');
  const errors = new Float64Array(rows);
  for (let i = 0, at = 0; i < rows; i++) {
    for (let k = 0; k < dim; k++, at++) errors[i] += (a[at] - b[at]) ** 2;
  }
  return errors;
}

const meanSquare = (squares: Float64Array): number => squares.reduce((sum, e) => sum + e, 0) / squares.length;
