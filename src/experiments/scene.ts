import type { Samples } from '../data/dataset.js';
import { decode } from '../data/dataset.js';
import { sourceNoise } from '../flow/noise.js';
import type { Network } from '../flow/network.js';
import { sizeOf } from '../tensor/shape.js';
import { hostStreams, seedFor } from '../tensor/streams.js';
import type { Mask } from './masks.js';

/** The images that an experiment is made on, with the noise that every method shares. */
export interface Scene {
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

/** The first images of a set with noise by the seed. @param hidden nothing where the experiment masks nothing */
export function sceneOf(
  teacher: Network,
  samples: Samples,
  range: readonly [number, number],
  count: number,
  seed: number,
  mask?: Mask,
): Scene {
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
export function mixed({ images, noise, size }: Scene, t: Float32Array): Float32Array {
  return images.map((value, i) => {
    const time = t[Math.floor(i / size)];
    return (1 - time) * value + time * noise[i];
  });
}

/** Puts the known region back on the reference trajectory at t, which all methods and budgets share. */
export function lockKnown(scene: Scene, x: Float32Array, t: Float32Array): Float32Array {
  const reference = mixed(scene, t);
  return x.map((value, i) => (scene.hidden[i % scene.size] ? value : reference[i]));
}

/** Mean squared difference of each image over its hidden values. */
export function hiddenErrors(
  { size, hidden }: Pick<Scene, 'size' | 'hidden'>,
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
export const everywhere = (scene: Pick<Scene, 'count'>, time: number): Float32Array =>
  new Float32Array(scene.count).fill(time);
