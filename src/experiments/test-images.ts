import type { Samples } from '../data/dataset.js';
import { decode } from '../data/dataset.js';
import { sourceNoise } from '../flow/noise.js';
import type { Network } from '../flow/network.js';
import { sizeOf } from '../tensor/shape.js';
import { hostStreams, seedFor } from '../tensor/streams.js';
import type { Mask } from './masks.js';

/** Images that an experiment is made on, with the noise that every method shares. */
export interface TestImages {
  /** [n, channels, height, width] */
  images: Float32Array;
  labels?: Uint32Array;
  noise: Float32Array;
  count: number;
  /** Values of one image. */
  size: number;
  /** Per value of an image: 1 where it is to be filled. */
  hidden: Uint8Array;
}

/** The first samples of a set with noise by the seed. @param hidden nothing where the experiment masks nothing */
export function testImagesOf(
  teacher: Network,
  samples: Samples,
  range: readonly [number, number],
  count: number,
  seed: number,
  mask?: Mask,
): TestImages {
  const { sampleShape } = teacher.model;
  const size = sizeOf(sampleShape);
  const plane = mask?.hidden.length ?? 0;
  return {
    images: decode(samples.values.subarray(0, count * size), range),
    labels: teacher.model.classes ? samples.labels?.subarray(0, count) : undefined,
    noise: sourceNoise(teacher.description.source, count, size, seedFor(seed, hostStreams.sceneNoise)),
    count,
    size,
    hidden: Uint8Array.from({ length: size }, (_, i) => (mask ? mask.hidden[i % plane] : 1)),
  };
}

/** x_t = (1 - t) x0 + t z of all images, with one time each. */
export function mixed({ images, noise, size }: TestImages, t: Float32Array): Float32Array {
  return images.map((value, i) => {
    const time = t[Math.floor(i / size)];
    return (1 - time) * value + time * noise[i];
  });
}

/** Puts the known region back on the reference trajectory at t, which all methods and budgets share. */
export function lockKnown(test: TestImages, x: Float32Array, t: Float32Array): Float32Array {
  const reference = mixed(test, t);
  return x.map((value, i) => (test.hidden[i % test.size] ? value : reference[i]));
}

/** Mean squared difference of each image over its hidden values. */
export function hiddenErrors(
  { size, hidden }: Pick<TestImages, 'size' | 'hidden'>,
  a: Float32Array,
  b: Float32Array,
): number[] {
  const area = hidden.reduce((sum, value) => sum + value, 0);
  return Array.from({ length: a.length / size }, (_, image) => {
    let sum = 0;
    for (let i = 0; i < size; i++) if (hidden[i]) sum += (a[image * size + i] - b[image * size + i]) ** 2;
    return sum / area;
  });
}

/** One time for every image. */
export const everywhere = (test: Pick<TestImages, 'count'>, time: number): Float32Array =>
  new Float32Array(test.count).fill(time);
