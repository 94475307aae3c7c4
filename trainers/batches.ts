import { UserError } from '../src/errors.js';
import type { Description } from '../src/flow/description.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { gather } from '../src/ops/movement.js';
import { add, greater, mul, toFloat } from '../src/ops/pointwise.js';
import { integers, normal, uniform } from '../src/ops/random.js';
import { sameShape, sizeOf, type Shape } from '../src/tensor/shape.js';
import { fromStorage, tensor, Tensor } from '../src/tensor/tensor.js';
import { streams } from './streams.js';

/** Samples that a run draws from, resident on the device. */
export interface SampleSet {
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
    this.values = fromStorage(new TensorStorage('data', dtype, set.values.length, set.values), [
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

/** Refuses data that a network cannot take, before anything is trained. */
export function checkFit(set: SampleSet, sampleShape: Shape, classes: number, name: string): void {
  if (!sameShape(set.shape, sampleShape)) {
    throw new UserError(
      `${name} holds samples of shape [${set.shape}], the network takes [${sampleShape}]: choose data or a teacher that fit`,
    );
  }
  if (set.labels && classes && set.labels.some((label) => label >= classes)) {
    throw new UserError(`${name} has labels beyond the network's ${classes} classes`);
  }
}

/** z [count, ...shape] from the distribution where a teacher's trajectories start. */
export function drawSource(source: Description['source'], key: Tensor, count: number, shape: Shape): Tensor {
  const z = normal(key, streams.noise, [count, ...shape]);
  if (source.kind === 'normal') return z;
  const centers = tensor(source.centers.flat(), [source.centers.length, ...shape]);
  return add(gather(centers, integers(key, streams.source, [count], source.centers.length)), mul(z, source.std));
}

/** Labels with a share replaced by the class that means none. */
export function dropLabels(labels: Tensor, key: Tensor, share: number, none: number): Tensor {
  if (!share) return labels;
  const dropped = greater(share, uniform(key, streams.dropout, labels.shape));
  return new Tensor(
    'where',
    [dropped, new Tensor('constant', [], { value: none }, labels.shape, 'u32'), labels],
    {},
    labels.shape,
    'u32',
  );
}
