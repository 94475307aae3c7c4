import type { ConditionRows } from '../src/data/dataset.js';
import { UserError } from '../src/errors.js';
import type { Description } from '../src/flow/description.js';
import { fingerprint } from '../src/files/fingerprint.js';
import type { StoredSamples } from '../src/data/shards.js';
import type { Device } from '../src/gpu/device.js';
import type { Profile } from '../src/gpu/profile.js';
import { TensorStorage } from '../src/gpu/storage.js';
import type { Conditions, Model } from '../src/models/model.js';
import { expand } from '../src/ops/broadcast.js';
import { gather, reshape } from '../src/ops/movement.js';
import { add, greater, mul, sub, toFloat, where } from '../src/ops/pointwise.js';
import { sameShape, sizeOf, type Shape } from '../src/tensor/shape.js';
import { fromStorage, tensor, Tensor } from '../src/tensor/tensor.js';
import type { Rows as BatchRows } from './rows.js';
import { shardFeed } from './shards.js';
import { streams } from './streams.js';
import type { Feed } from './trainer.js';

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
  /** All samples, where these are those that memory holds at a time. */
  stored?: StoredSamples;
  /** What else a network is told of each sample, by name: its shape, and a row a sample. */
  conditions?: ConditionRows;
  /** The same where guidance leads away from: one row for all samples. */
  negative?: ConditionRows;
}

/** Rows of values on the device, in as many storages as a binding's limit asks for. */
class Rows {
  private readonly pages = new Map<number, Tensor<'storage'>[]>();

  /** @param fixed whether they stay what they are; else `write` brings them */
  constructor(
    private readonly name: string,
    private readonly values: Float32Array | Uint8Array,
    private readonly count: number,
    private readonly fixed = true,
  ) {}

  /** Other rows in place of all, wherever a program reads them. */
  write(device: Device, values: Float32Array | Uint8Array): void {
    for (const { storage, first } of this.storages())
      if (storage.owner) device.write(storage, values.subarray(first, first + storage.length));
  }

  dispose(): void {
    for (const { storage } of this.storages()) storage.dispose();
  }

  private *storages(): Generator<{ storage: TensorStorage; first: number }> {
    for (const pages of this.pages.values()) {
      let first = 0;
      for (const { attributes } of pages) {
        yield { storage: attributes.storage, first };
        first += attributes.storage.length;
      }
    }
  }

  /** The rows of u32 indices [n]: [n, values of a row]. Which pages they lie in changes no bit of them. */
  at(index: Tensor, { maxBindingBytes }: Pick<Profile, 'maxBindingBytes'>): Tensor {
    const size = this.values.length / this.count;
    const each = Math.max(1, Math.floor(maxBindingBytes / (size * this.values.BYTES_PER_ELEMENT)));
    const [first, ...rest] = this.cut(each);
    const column = reshape(index, [index.size, 1]);
    return rest.reduce(
      (rows, page, i) => {
        const start = (i + 1) * each;
        // An index before the page wraps round to one far behind it, whose row reads as zeros.
        return where(greater(start, column), rows, gather(page, sub(index, start)));
      },
      gather(first, index),
    );
  }

  /** Pages of so many rows, made once. */
  private cut(each: number): Tensor<'storage'>[] {
    const known = this.pages.get(each);
    if (known) return known;
    const size = this.values.length / this.count;
    const dtype = this.values instanceof Uint8Array ? 'u8' : 'f32';
    const pages = Array.from({ length: Math.ceil(this.count / each) }, (_, i) => {
      const rows = Math.min(each, this.count - i * each);
      const part = this.values.subarray(i * each * size, (i * each + rows) * size);
      const initial = this.fixed ? part : undefined;
      return fromStorage(new TensorStorage(this.name, dtype, part.length, initial, this.fixed), [rows, size]);
    });
    this.pages.set(each, pages);
    return pages;
  }
}

/** Draws data and labels by random index. */
export class SampleSource {
  private readonly values: Rows;
  private readonly labels: Tensor<'storage'> | null;
  /** Brings samples that memory does not hold all. */
  readonly feed?: Feed;
  private readonly conditions: readonly (readonly [name: string, shape: Shape, rows: Rows])[];

  /** @param order what the shards of a set that is read in such follow from */
  constructor(
    readonly set: SampleSet,
    order: { seed: number; batch: number },
  ) {
    const { stored, labels } = set;
    this.values = new Rows('data', set.values, set.count, !stored);
    const changing = stored && labels ? new TensorStorage('labels', 'u32', labels.length) : null;
    this.labels = changing ? fromStorage(changing) : labels ? tensor(labels) : null;
    if (stored)
      this.feed = shardFeed(
        stored,
        { size: set.count, ...order },
        {
          write: (device, shard) => {
            this.values.write(device, shard.values);
            if (changing?.owner) device.write(changing, shard.labels!);
          },
          dispose: () => {
            this.values.dispose();
            changing?.dispose();
          },
        },
      );
    this.conditions = Object.entries(set.conditions ?? {}).map(
      ([name, { shape, values }]) => [name, shape, new Rows(name, values, set.count)] as const,
    );
  }

  /**
   * x0 [count, ...shape] for the rows of a batch; labels [count] of the same samples where there are any, and their
   * conditions.
   * @param profile of the device that the set lies on
   */
  draw(
    batch: BatchRows,
    profile: Pick<Profile, 'maxBindingBytes'>,
  ): { x: Tensor; labels: Tensor | null; conditions: Conditions; negative: Conditions } {
    const { count } = batch;
    const index = batch.integers(streams.data, this.set.count);
    const rows = this.values.at(index, profile);
    const [low, high] = this.set.range;
    const scaled = rows.dtype === 'f32' ? rows : add(mul(toFloat(rows), (high - low) / 255), low);
    const x = new Tensor('reshape', [scaled], {}, [count, ...this.set.shape]);
    const told = this.conditions.map(([name, shape, values]) => [
      name,
      reshape(values.at(index, profile), [count, ...shape]),
    ]);
    const against = Object.entries(this.set.negative ?? {}).map(([name, { shape, values }]) => [
      name,
      expand(tensor(values, [1, ...shape]), [count, ...shape]),
    ]);
    return {
      x,
      labels: this.labels ? gather(this.labels, index) : null,
      conditions: Object.fromEntries(told) as Conditions,
      negative: Object.fromEntries(against) as Conditions,
    };
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
  { sampleShape, classes, nullClass, conditions }: Pick<Model, 'sampleShape' | 'classes' | 'nullClass' | 'conditions'>,
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
  for (const [told, { shape, optional }] of Object.entries(conditions)) {
    const [given, against] = [set.conditions?.[told], set.negative?.[told]];
    const refusal = (what: string) =>
      new UserError(`${name} holds ${what}, which the network is told of each sample as [${shape}]`, 'data');
    if (!given && !optional) throw refusal(`no ${told}`);
    if (given && (!sameShape(given.shape, shape) || given.values.length !== set.count * sizeOf(shape)))
      throw refusal(`${told} of [${given.shape}]`);
    if (against && !sameShape(against.shape, shape)) throw refusal(`negative.${told} of [${against.shape}]`);
  }
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
export const sampleFingerprint = ({ shape, values, range, labels, stored, ...told }: SampleSet): Promise<string> =>
  fingerprint([
    JSON.stringify({ shape, range }),
    values,
    ...(labels ? [labels] : []),
    ...(stored ? [`${stored.count} ${stored.mark}`] : []),
    ...[told.conditions, told.negative].flatMap((conditions = {}) =>
      Object.entries(conditions).flatMap(([name, { shape, values }]) => [`${name} [${shape}]`, values]),
    ),
  ]);

/** z [count, ...shape] for the rows of a batch, from the distribution where a teacher's trajectories start. */
export function drawSource(
  source: Description['source'],
  rows: BatchRows,
  shape: Shape,
  of: { noise: number; source: number } = streams,
): Tensor {
  const z = rows.normal(of.noise, shape);
  if (source.kind === 'normal') return z;
  const centers = tensor(source.centers.flat(), [source.centers.length, ...shape]);
  return add(gather(centers, rows.integers(of.source, source.centers.length)), mul(z, source.std));
}

/**
 * What a network is told of each sample beside time and class: for a share of the samples that which guidance leads away
 * from, where there is such, so that the network can also be asked that.
 * @param told of all samples of a batch, and `negative` the same in its place, by name
 */
export function shownConditions(told: Conditions, negative: Conditions, rows: BatchRows, dropout: number): Conditions {
  if (!dropout || !Object.keys(negative).length) return told;
  const dropped = greater(dropout, rows.uniform(streams.dropout));
  const shown = Object.entries(told).map(([name, given]) => [
    name,
    Object.hasOwn(negative, name)
      ? where(reshape(dropped, [rows.count, ...given.shape.slice(1).map(() => 1)]), negative[name], given)
      : given,
  ]);
  return Object.fromEntries(shown) as Conditions;
}

/**
 * The labels that a network is shown: a share of them replaced by the class that means none, so that it can also be asked
 * without one; undefined where it knows no classes or there are no labels.
 * @param labels u32 [B], of the rows of a batch
 */
export function shownLabels(
  { classes, nullClass }: Model,
  labels: Tensor | null,
  rows: BatchRows,
  dropout: number,
): Tensor | undefined {
  if (!classes || !labels) return undefined;
  if (!nullClass || !dropout) return labels;
  const dropped = greater(dropout, rows.uniform(streams.dropout));
  const none = new Tensor('constant', [], { value: classes }, labels.shape, 'u32');
  return new Tensor('where', [dropped, none, labels], {}, labels.shape, 'u32');
}
