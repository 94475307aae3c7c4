import { encode } from 'fast-png';
import { zipSync } from 'fflate';
import { encodeNpy } from '../checkpoint/npy.js';
import { UserError } from '../errors.js';
import { sizeOf } from '../tensor/shape.js';

/** Samples to be written for other programs. */
export interface SampleBatch {
  /** [n, ...shape] */
  x: Float32Array;
  /** Of one sample. */
  shape: readonly number[];
  labels?: Uint32Array;
  /** The values of black and white, of pictures. Default -1 and 1. */
  range?: readonly [number, number];
}

/** Whether samples are pictures that files can show: grey or of three colours. */
export const arePictures = (shape: readonly number[]): boolean => shape.length === 3 && [1, 3].includes(shape[0]);

/** Pictures as bytes, channels last: [n, h, w, c]. Values are rounded, what lies beyond black and white is clipped. */
export function pixelsOf({ x, shape, range: [low, high] = [-1, 1] }: SampleBatch): Uint8Array {
  const [channels, height, width] = shape;
  const area = height * width;
  const pixels = new Uint8Array(x.length);
  for (let i = 0; i < x.length; i++) {
    const [image, within] = [Math.floor(i / (channels * area)), i % (channels * area)];
    const at = (image * area + (within % area)) * channels + Math.floor(within / area);
    pixels[at] = Math.min(255, Math.max(0, Math.round((255 * (x[i] - low)) / (high - low))));
  }
  return pixels;
}

/**
 * A .npz as evaluation suites of guided diffusion take it: `arr_0` uint8 [n, h, w, c] of pictures, else f32 [n, ...shape],
 * and labels as `arr_1` int64 [n].
 */
export function samplesNpz(batch: SampleBatch): Uint8Array {
  const { x, shape, labels } = batch;
  const count = x.length / sizeOf(shape);
  const [channels, ...sides] = shape;
  const samples = arePictures(shape)
    ? encodeNpy(pixelsOf(batch), [count, ...sides, channels])
    : encodeNpy(x, [count, ...shape]);
  return zipSync(
    {
      'arr_0.npy': samples,
      ...(labels && { 'arr_1.npy': encodeNpy(BigInt64Array.from(labels, BigInt), [count]) }),
    },
    { level: 0 },
  );
}

/**
 * Pictures as PNG files with their names, and labels in a `dataset.json` beside them, which is read as they were.
 * @throws UserError where samples are no pictures
 */
export function* samplePngs(batch: SampleBatch): Generator<[name: string, bytes: Uint8Array]> {
  const { x, shape, labels } = batch;
  if (!arePictures(shape)) throw new UserError(`samples of shape [${shape}] are no pictures: write them to .npz`);
  const [channels, height, width] = shape;
  const size = sizeOf(shape);
  const count = x.length / size;
  const nameOf = (i: number) => `${String(i).padStart(6, '0')}.png`;
  for (let i = 0; i < count; i++) {
    const data = pixelsOf({ ...batch, x: x.subarray(i * size, (i + 1) * size) });
    yield [nameOf(i), encode({ width, height, data, channels: channels as 1 | 3, depth: 8 })];
  }
  if (!labels) return;
  const list = Array.from(labels, (label, i) => [nameOf(i), label]);
  yield ['dataset.json', new TextEncoder().encode(JSON.stringify({ labels: list }))];
}
