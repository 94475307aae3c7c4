import { UserError } from '../src/errors.js';
import { sum } from '../src/ops/broadcast.js';
import { concat, slice } from '../src/ops/movement.js';
import { add, mul, sub } from '../src/ops/pointwise.js';
import { integers, normal, uniform } from '../src/ops/random.js';
import type { Shape } from '../src/tensor/shape.js';
import type { Tensor } from '../src/tensor/tensor.js';

/** Which rows of a batch are computed, where these are not all: data, so that one program serves any part of it. */
export interface ChosenRows<T = Tensor, N = T> {
  /** u32 [count]: the place of each in the whole batch. */
  numbers: N;
  /** f32 [count]: 1, or 0 for rows that only make parts equally long. */
  counted: T;
}

/**
 * Rows of a step's batch, and the random numbers that belong to each: the same whatever other rows are computed beside it,
 * so that a batch may be computed in parts, each with its share of every kind of rows.
 */
export class Rows {
  /** Rows that are computed, and those of the whole batch. */
  readonly count: number;
  readonly total: number;

  /**
   * @param key u32 [3]: seed and step
   * @param kinds rows of the whole batch by what they are for, one kind behind the other
   * @param parts in how many the batch is computed
   * @param chosen which rows are computed; all, in order, where it is left out
   */
  constructor(
    private readonly key: Tensor,
    private readonly kinds: readonly number[],
    private readonly parts = 1,
    private readonly chosen?: ChosenRows,
  ) {
    this.count = total(kinds.map((rows) => Math.ceil(rows / parts)));
    this.total = total(kinds);
  }

  /** Uniform in (0, 1), [count]. */
  uniform(stream: number): Tensor {
    return uniform(this.key, stream, [this.count], this.chosen?.numbers);
  }

  /** Standard normal, [count, ...shape]. */
  normal(stream: number, shape: Shape = []): Tensor {
    return normal(this.key, stream, [this.count, ...shape], this.chosen?.numbers);
  }

  /** Whole numbers 0 … bound - 1 as u32, [count]. */
  integers(stream: number, bound: number): Tensor {
    return integers(this.key, stream, [this.count], bound, this.chosen?.numbers);
  }

  /** The mean over the whole batch of what rows have, [count] to []: what the parts of a batch give adds up to it. */
  mean(values: Tensor): Tensor {
    return mul(sum(this.chosen ? mul(values, this.chosen.counted) : values), 1 / this.total);
  }

  /** All rows twice, one time after the other, each with numbers of its own. */
  twice(): Rows {
    const { key, kinds, parts, chosen } = this;
    const both = chosen && {
      numbers: concat([chosen.numbers, add(chosen.numbers, this.total)], 0),
      counted: concat([chosen.counted, chosen.counted], 0),
    };
    return new Rows(key, [...kinds, ...kinds], parts, both);
  }

  /** The rows of each kind as a batch of their own, and these rows of a tensor [count, ...]. */
  byKind(): { rows: Rows; of: (tensor: Tensor) => Tensor }[] {
    const { key, kinds, parts, chosen } = this;
    let [start, before] = [0, 0];
    return kinds.map((whole) => {
      const [from, first] = [start, before];
      start += Math.ceil(whole / parts);
      before += whole;
      const end = start;
      const of = (tensor: Tensor) => slice(tensor, 0, from, end);
      const own = chosen && { numbers: sub(of(chosen.numbers), first), counted: of(chosen.counted) };
      return { rows: new Rows(key, [whole], parts, own), of };
    });
  }

  /** Several batches of the same key and parts as one, behind each other. */
  static joined(batches: readonly Rows[]): Rows {
    const [{ key, parts }] = batches;
    const kinds = batches.flatMap((rows) => rows.kinds);
    let before = 0;
    const chosen = batches.flatMap((rows): ChosenRows[] => {
      const first = before;
      before += rows.total;
      return rows.chosen ? [{ ...rows.chosen, numbers: add(rows.chosen.numbers, first) }] : [];
    });
    const joined = (of: (rows: ChosenRows) => Tensor) => concat(chosen.map(of), 0);
    const all = chosen.length
      ? { numbers: joined(({ numbers }) => numbers), counted: joined(({ counted }) => counted) }
      : undefined;
    return new Rows(key, kinds, parts, all);
  }
}

/**
 * Which rows one of several parts of a batch computes: of each kind as many as any other part, to within one, and what makes
 * them equally long is not counted.
 * @param kinds as `Rows` takes them
 * @param part from 0 on
 */
export function rowsOfPart(
  kinds: readonly number[],
  parts: number,
  part: number,
): ChosenRows<Float32Array, Uint32Array> {
  const numbers: number[] = [];
  const counted: number[] = [];
  let first = 0;
  for (const rows of kinds) {
    const longest = Math.ceil(rows / parts);
    const [from, to] = [part, part + 1].map((k) => Math.floor((k * rows) / parts));
    for (let i = 0; i < longest; i++) {
      const within = from + i < to;
      // Any row of the kind will do where it does not count.
      numbers.push(first + (within ? from + i : 0));
      counted.push(Number(within));
    }
    first += rows;
  }
  return { numbers: Uint32Array.from(numbers), counted: Float32Array.from(counted) };
}

/** @throws UserError where a batch has too few rows for so many parts */
export function checkParts(kinds: readonly number[] | undefined, parts: number, field?: string): void {
  if (parts === 1) return;
  if (!kinds) throw new UserError('what is trained gives no rows that could be computed in parts', field);
  const rows = total(kinds);
  if (rows < parts)
    throw new UserError(
      `a batch of ${rows} cannot be computed in ${parts} parts: raise it, or take fewer parts`,
      field,
    );
}

const total = (counts: readonly number[]): number => counts.reduce((sum, count) => sum + count, 0);
