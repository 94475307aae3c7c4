import { random } from '../tensor/philox.js';
import { hostStreams } from '../tensor/streams.js';
import type { Samples } from './dataset.js';

/**
 * Training samples of which memory holds a part at a time, a _shard_: files are read again for each. The data set that has
 * them shows the first of these shards in place of all samples.
 */
export interface StoredSamples {
  /** All of them. */
  readonly count: number;
  /** What a run knows them by. */
  readonly mark: string;
  /** Some of them by rising indices, in the form that the data set has. @throws UserError where a file cannot be read */
  read(rows: Uint32Array): Promise<Samples>;
}

/** Samples that stay together: what is read at a time lies in runs. */
const run = 64;

/**
 * The rows of a shard, rising: runs of samples in an order by chance, all of them once before any comes again. A function
 * of its arguments alone, so that a resumed run reads what it would have read.
 * @param size rows of a shard
 * @param shard counts from 0 through all passes over the set
 */
export function shardRows(count: number, size: number, seed: number, shard: number): Uint32Array {
  const [runs, each] = [Math.ceil(count / run), Math.max(1, Math.floor(size / run))];
  const shards = Math.ceil(runs / each);
  const [pass, place] = [Math.floor(shard / shards), shard % shards];
  const order = Uint32Array.from({ length: runs }, (_, i) => i);
  const draw = random(seed, pass, hostStreams.shards);
  for (let i = runs - 1; i > 0; i--) {
    const j = draw.below(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  const rows: number[] = [];
  // The last shard of a pass goes on with the first runs, and a short run with the next: all are of one size.
  for (let k = place * each; rows.length < size; k++) {
    const first = order[k % runs] * run;
    for (let row = first; row < Math.min(first + run, count) && rows.length < size; row++) rows.push(row);
  }
  return Uint32Array.from(rows).sort();
}

/** Rising rows as runs without a gap, [first, behind the last] each. */
export function runsOf(rows: Uint32Array): [number, number][] {
  const runs: [number, number][] = [];
  for (const row of rows) {
    const last = runs.at(-1);
    if (last && last[1] === row) last[1]++;
    else runs.push([row, row + 1]);
  }
  return runs;
}
