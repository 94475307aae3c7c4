import { UserError } from '../src/errors.js';
import type { Description } from '../src/flow/description.js';
import { fingerprint } from '../src/files/fingerprint.js';
import { TensorStorage } from '../src/gpu/storage.js';
import type { Model } from '../src/models/model.js';
import { gather } from '../src/ops/movement.js';
import { add, greater, mul, toFloat } from '../src/ops/pointwise.js';
import { integers, normal, uniform } from '../src/ops/random.js';
import { sameShape, sizeOf, type Shape } from '../src/tensor/shape.js';
import { fromStorage, tensor, Tensor } from '../src/tensor/tensor.js';
import { streams } from './streams.js';

/** Samples that a run draws from, resident on the device. */
export interface SampleSet {
  /** How messages call it. */
  name?: string;
  shape: Shape;
  count: number;
  /** A row per sample; bytes stand for `range[0] + byte / 255 * (range[1] - range[0])`. */
  values: Float32Array | Uint8Array;
  range: readonly [number, number];
  labels?: Uint32Array;
}

/** Draws data and labels by random index. */
export class SampleSource {
  private readonly values: Tensor;
  private readonly labels: Tensor | null;

  constructor(private readonly set: SampleSet) {
    const dtype = set.values instanceof Uint8Array ? 'u8' : 'f32';
    this.values = fromStorage(new TensorStorage('data', dtype, set.values.length, set.values, true), [
      set.count,
      sizeOf(set.shape),
    ]);
    this.labels = set.labels ? tensor(set.labels) : null;
  }

  /** x0 [count, ...shape], and labels [count] of the same samples where there are any. */
  draw(key: Tensor, count: number): { x: Tensor; labels: Tensor | null } {
    const index = integers(key, streams.data, [count], this.set.count);
    const rows = gather(this.values, index);
    const [low, high] = this.set.range;
    const scaled = rows.dtype === 'f32' ? rows : add(mul(toFloat(rows), (high - low) / 255), low);
    const x = new Tensor('reshape', [scaled], {}, [count, ...this.set.shape]);
    return { x, labels: this.labels ? gather(this.labels, index) : null };
  }
}

/**
 * Refuses data that a network cannot learn from, before anything is trained.
 * @param labelDropout share of labels that the recipe hides
 * @returns what a user should know of the labels, in a line; null where all is plain
 * @throws UserError naming what does not fit, or the first row that holds no number, and the mend
 */
export function checkFit(
  set: SampleSet,
  { sampleShape, classes, nullClass }: Pick<Model, 'sampleShape' | 'classes' | 'nullClass'>,
  labelDropout: number,
): string | null {
  const { name = 'the data', values } = set;
  if (!sameShape(set.shape, sampleShape))
    throw new UserError(
      `${name} holds samples of shape [${set.shape}], the network takes [${sampleShape}]: choose data or a network that fit`,
      'data',
    );
  const wrong = values instanceof Uint8Array ? -1 : values.findIndex((value) => !Number.isFinite(value));
  if (wrong >= 0)
    throw new UserError(
      `${name}: row ${Math.floor(wrong / sizeOf(sampleShape))} of the ${set.count} training samples holds ${values[wrong]}: mend it or leave it out`,
      'data',
    );
  if (!classes) return null;
  if (labelDropout && !nullClass)
    throw new UserError('this network has no class that means none, so no label can be hidden: 0', 'labelDropout');
  // Where every label is hidden, none is needed.
  if (labelDropout === 1) return null;
  if (!set.labels)
    throw new UserError(
      `${name} has no labels, and the network's ${classes} classes could not be told apart: give labelled data${nullClass ? ', or hide all labels (a label dropout of 1) to train what it does without a class' : ''}`,
      'data',
    );
  const seen = new Set(set.labels);
  const beyond = [...seen].filter((label) => label >= classes);
  if (beyond.length)
    throw new UserError(
      `${name} has labels up to ${beyond.reduce((most, label) => (label > most ? label : most))}, the network knows ${classes} classes, 0 to ${classes - 1}`,
      'data',
    );
  if (seen.size === classes) return null;
  const missing = Array.from({ length: classes }, (_, label) => label).filter((label) => !seen.has(label));
  const shown =
    missing.length > 8 ? `${missing.slice(0, 8).join(', ')} and ${missing.length - 8} more` : missing.join(', ');
  return `${name} holds ${seen.size} of the network's ${classes} classes: without samples of ${shown}, these are not trained`;
}

/** What a run remembers of its data, to know them again. */
export const sampleFingerprint = ({ shape, values, range, labels }: SampleSet): Promise<string> =>
  fingerprint([JSON.stringify({ shape, range }), values, ...(labels ? [labels] : [])]);

/** z [count, ...shape] from the distribution where a teacher's trajectories start. */
export function drawSource(source: Description['source'], key: Tensor, count: number, shape: Shape): Tensor {
  const z = normal(key, streams.noise, [count, ...shape]);
  if (source.kind === 'normal') return z;
  const centers = tensor(source.centers.flat(), [source.centers.length, ...shape]);
  return add(gather(centers, integers(key, streams.source, [count], source.centers.length)), mul(z, source.std));
}

/**
 * The labels that a network is shown: a share of them replaced by the class that means none, so that it can also be asked
 * without one; undefined where it knows no classes or there are no labels.
 * @param labels u32 [B]
 */
export function shownLabels(
  { classes, nullClass }: Model,
  labels: Tensor | null,
  key: Tensor,
  dropout: number,
): Tensor | undefined {
  if (!classes || !labels) return undefined;
  if (!nullClass || !dropout) return labels;
  const dropped = greater(dropout, uniform(key, streams.dropout, labels.shape));
  const none = new Tensor('constant', [], { value: classes }, labels.shape, 'u32');
  return new Tensor('where', [dropped, none, labels], {}, labels.shape, 'u32');
}
