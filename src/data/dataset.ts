import { UserError } from '../errors.js';
import { random } from '../tensor/philox.js';
import { hostStreams } from '../tensor/streams.js';
import type { InputShapes } from '../models/backbone.js';
import type { PictureDecoder } from './picture.js';
import type { Sides } from './resample.js';
import type { StoredSamples } from './shards.js';

/** Samples, a row each. Bytes stand for `range[0] + byte / 255 * (range[1] - range[0])` of their data set. */
export interface Samples {
  count: number;
  values: Float32Array | Uint8Array;
  /** Class of each sample, from 0. */
  labels?: Uint32Array;
  /** What else a network is told of each sample, by name: its shape, and a row a sample. */
  conditions?: ConditionRows;
}

/** Rows of conditions by name, with the shape of one. */
export type ConditionRows = Readonly<Record<string, { shape: readonly number[]; values: Float32Array }>>;

/** Training samples and others of the same law that no training sees. */
export interface Dataset extends Samples {
  name: string;
  kind: 'points' | 'images';
  /** Of one sample: [2], or [channels, height, width]. */
  shape: number[];
  /** What bytes decode to; for points the bounds in which to plot and bin them. */
  range: [number, number];
  /** Number of classes, 0 without labels. */
  classes: number;
  heldOut: Samples;
  /** What guidance leads away from, by the names of conditions: a row for all samples. */
  negative?: ConditionRows;
  /** All training samples, where memory does not hold them: the set itself shows a part of them. */
  stored?: StoredSamples;
  /** What was read, assumed, renumbered or passed over, a phrase each. */
  notes: string[];
  /** A line that says what was read: how many samples, their shape, range and classes, and the notes. */
  summary: string;
}

/** The shapes of samples and of what networks are told of each. */
export const shapesOf = ({ shape, conditions = {} }: Pick<Dataset, 'shape' | 'conditions'>): InputShapes => ({
  sample: shape,
  conditions: Object.fromEntries(Object.entries(conditions).map(([name, { shape }]) => [name, shape])),
});

/** How data are to be read. */
export interface LoadOptions {
  /** Of generated samples and of the split. */
  seed?: number;
  /** Training samples of a generated set. */
  count?: number;
  /** Held-out samples of a generated set or of a file without test files. */
  heldOut?: number;
  /** What the darkest and the brightest pixel stand for in the set that is made; -1 and 1 where it is not said. */
  range?: [number, number];
  /**
   * What the darkest and the brightest pixel stand at in the files, where type and values do not tell; `none` for values
   * that are no pixels, such as latents of three channels, which are taken as they are.
   */
  pixels?: [number, number] | 'none';
  /** Height and width that images are resized and cropped to; without it they keep their own, which must be one. */
  size?: Sides;
  /** Bytes that samples may take; beyond them training reads those files in shards that can be read in parts. Default all. */
  memory?: number;
  /** Reads pictures of other kinds than PNG; `loadDataset` has one, a page brings its own. */
  decoder?: PictureDecoder;
}

/** The samples at `indices`, `size` values each. */
export function takeRows(samples: Samples, size: number, indices: ArrayLike<number>): Samples {
  const { values, labels, conditions } = samples;
  const rows = <T extends Float32Array | Uint8Array>(all: T, width: number, taken: T): T => {
    for (let i = 0; i < indices.length; i++)
      taken.set(all.subarray(indices[i] * width, (indices[i] + 1) * width), i * width);
    return taken;
  };
  const count = indices.length;
  const told = Object.entries(conditions ?? {}).map(([name, { shape, values }]) => {
    const width = shape.reduce((product, extent) => product * extent, 1);
    return [name, { shape, values: rows(values, width, new Float32Array(count * width)) }] as const;
  });
  return {
    count,
    values:
      values instanceof Uint8Array
        ? rows(values, size, new Uint8Array(count * size))
        : rows(values, size, new Float32Array(count * size)),
    ...(labels && { labels: Uint32Array.from(indices, (index) => labels[index]) }),
    ...(conditions && { conditions: Object.fromEntries(told) }),
  };
}

/**
 * Sets `heldOut` samples aside, chosen at random but by the seed alone.
 * @param size values a sample
 * @throws UserError unless at least one sample remains on either side
 */
export function splitHeldOut(
  samples: Samples,
  size: number,
  heldOut: number,
  seed: number,
  name: string,
): { train: Samples; heldOut: Samples } {
  const { count } = samples;
  if (count < 2) throw new UserError(`${name} holds 1 sample; two are needed, one to train on and one to hold out`);
  if (!Number.isInteger(heldOut) || heldOut < 1 || heldOut >= count) {
    throw new UserError(`${name}: ${heldOut} of ${count} samples cannot be held out; hold out 1 to ${count - 1}`);
  }
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  const draw = random(seed, 0, hostStreams.heldOutSplit);
  for (let i = count - 1; i > 0; i--) {
    const j = draw.below(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  // Original order within each part: neighbours in a file stay neighbours.
  const part = (from: number, to: number) => takeRows(samples, size, order.subarray(from, to).sort());
  return { heldOut: part(0, heldOut), train: part(heldOut, count) };
}

/** Bytes as the numbers that they stand for; f32 values as they are. */
export function decode(values: Float32Array | Uint8Array, range: readonly [number, number]): Float32Array {
  if (values instanceof Float32Array) return values;
  const [low, high] = range;
  const table = Float32Array.from({ length: 256 }, (_, byte) => low + (byte / 255) * (high - low));
  return Float32Array.from(values, (byte) => table[byte]);
}
