import { UserError } from '../errors.js';
import type { NumberArray } from './format.js';

/** Classes of samples, 0, 1, …, and what was done to the labels to get them. */
export interface Classes {
  labels: Uint32Array[];
  count: number;
  notes: string[];
  /** The label that stands for each class, where they were numbered anew. */
  from?: number[];
}

/** Most classes that a network is given a row for. */
const mostClasses = 100_000;

/** As many classes may be empty for each that is not, before labels are taken for names instead of numbers. */
const emptyPerClass = 20;

/**
 * Labels of the parts of a set as classes from 0. Rows with a single one are read as the place of the one; labels that
 * count from 1 or that lie far apart are numbered anew, in their order.
 * @throws UserError where labels are no whole numbers from 0, or not as many as samples
 */
export function classesOf(parts: readonly { labels: NumberArray; samples: number }[], name: string): Classes {
  const notes: string[] = [];
  const given = parts.map(({ labels, samples }) => {
    const [count, ...rest] = labels.shape;
    const width = rest.reduce((product, extent) => product * extent, 1);
    if (count !== samples)
      throw new UserError(`${name}: ${count ?? 0} labels for ${samples} samples; give files of one set`);
    if (width === 1) return labels.values;
    const note = `labels [${labels.shape}] are read as a one in a row of zeros`;
    if (!notes.includes(note)) notes.push(note);
    return oneHot(labels, width, name);
  });
  const seen = new Set<number>();
  for (const values of given) {
    for (let i = 0; i < values.length; i++) {
      if (!Number.isSafeInteger(values[i]) || values[i] < 0)
        throw new UserError(
          `${name}: label ${i} is ${values[i]}: classes are whole numbers from 0 (np.unique(y, return_inverse=True)[1] makes such)`,
        );
      seen.add(values[i]);
    }
  }
  const distinct = [...seen].sort((a, b) => a - b);
  const [lowest, highest] = [distinct[0], distinct.at(-1)!];
  if (distinct.length > mostClasses)
    throw new UserError(`${name}: ${distinct.length} different labels are no classes; leave them out`);
  const fromOne = lowest === 1 && highest === distinct.length && highest > 1;
  if (!fromOne && highest < mostClasses && highest < emptyPerClass * Math.max(distinct.length, 10)) {
    const empty = highest + 1 - distinct.length;
    if (empty) notes.push(`${empty} of ${highest + 1} classes have no samples (${listed(absent(seen, highest))})`);
    return { labels: given.map((values) => Uint32Array.from(values)), count: highest + 1, notes };
  }
  notes.push(
    fromOne
      ? `labels 1 … ${highest} are taken as classes 0 … ${highest - 1}`
      : `${distinct.length} different labels from ${lowest} to ${highest} are taken as classes 0 … ${distinct.length - 1}, in their order`,
  );
  const rank = new Map(distinct.map((label, i) => [label, i]));
  return {
    labels: given.map((values) => Uint32Array.from(values, (label) => rank.get(label)!)),
    count: distinct.length,
    notes,
    from: distinct,
  };
}

function absent(seen: ReadonlySet<number>, highest: number): number[] {
  return Array.from({ length: highest + 1 }, (_, label) => label).filter((label) => !seen.has(label));
}

const listed = (numbers: readonly number[]) => numbers.slice(0, 5).join(', ') + (numbers.length > 5 ? ', …' : '');

function oneHot({ shape, values }: NumberArray, width: number, name: string): Uint32Array {
  return Uint32Array.from({ length: shape[0] }, (_, row) => {
    const cells = Array.from(values.subarray(row * width, (row + 1) * width));
    const place = cells.indexOf(1);
    if (place < 0 || cells.some((cell, i) => cell !== 0 && i !== place))
      throw new UserError(`${name}: labels [${shape}] give no single class to sample ${row}; give one number a sample`);
    return place;
  });
}
