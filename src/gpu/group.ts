import { UserError } from '../errors.js';

/**
 * Processes that compute one thing together, each with a device of its own: the ranks of an MPI job, or one process alone.
 * All run the same program on the same inputs and come by the same calls in the same order; only the first one writes files.
 */
export interface Group {
  /** Which of them this is, from 0 on. */
  readonly rank: number;
  readonly size: number;
  /** Replaces values by their sum over all ranks, the same bits on each. */
  sum(values: Float32Array): Promise<void>;
  /** What every rank gives, in their order. */
  gather(bytes: Uint8Array): Promise<Uint8Array[]>;
  /** Gives each rank one of `size` blocks of equally many bytes, and returns what each gave this one, in their order. */
  swap(blocks: Uint8Array): Promise<Uint8Array>;
}

/** One process. */
export const alone: Group = {
  rank: 0,
  size: 1,
  sum: async () => {},
  gather: async (bytes) => [bytes],
  swap: async (blocks) => blocks,
};

/** What the first rank says, on every rank: for decisions that hang on time or files. @param value what JSON can hold */
export async function ofFirst<T>(group: Group, value: T): Promise<T> {
  if (group.size === 1) return value;
  const bytes = group.rank ? new Uint8Array() : new TextEncoder().encode(JSON.stringify(value));
  const [first] = await group.gather(bytes);
  return JSON.parse(new TextDecoder().decode(first)) as T;
}

/** Whether any rank says so. */
export async function ofAny(group: Group, yes: boolean): Promise<boolean> {
  const all = Float32Array.of(Number(yes));
  await group.sum(all);
  return all[0] > 0;
}

/**
 * Which of a number of rows a rank computes: one run of them, about as many as the others.
 * @returns the first, and the first that is not among them
 */
export const shareOf = (count: number, { rank, size }: Pick<Group, 'rank' | 'size'>): [from: number, to: number] => [
  Math.floor((rank * count) / size),
  Math.floor(((rank + 1) * count) / size),
];

/**
 * Refuses ranks that are not about to do the same.
 * @param what by a name that says what it is, such as `version of semiflow`; short texts
 * @throws UserError on every rank, naming the first that differs from rank 0, and in what
 */
export async function agree(group: Group, what: Readonly<Record<string, string>>): Promise<void> {
  if (group.size === 1) return;
  const texts = await group.gather(new TextEncoder().encode(JSON.stringify(what)));
  const [first, ...others] = texts.map((bytes) => JSON.parse(new TextDecoder().decode(bytes)) as typeof what);
  for (const [i, other] of others.entries())
    for (const name of new Set([...Object.keys(first), ...Object.keys(other)])) {
      const [a, b] = [first[name], other[name]];
      if (a !== b)
        throw new UserError(
          `rank ${i + 1} has another ${name} than rank 0 (${brief(b)}, not ${brief(a)}): give all ranks the same`,
        );
    }
}

/** A text as it fits a line: of a fingerprint the beginning is enough. */
const brief = (text = 'none'): string => (text.length > 48 ? `${text.slice(0, 12)}…` : text);
