import type { Moments } from './moments.js';
import type { PairDistances } from './pairs.js';

/** What a classifier sees in samples. */
export interface SampleFeatures {
  /** [n, dim] */
  values: Float32Array;
  dim: number;
  /** The likeliest class of each. */
  classes: Uint32Array;
}

/** Real samples that others are compared with, and their features where there is a classifier. */
export interface Reference {
  /** As many as there are samples, [n, dim]. */
  x: Float32Array;
  features?: SampleFeatures;
  /** Features of all that is left for reference, which may be more. */
  allFeatures?: SampleFeatures;
  /** Mean and covariance of features that were published, in place of those of `allFeatures`. */
  moments?: Moments;
}

/** Samples beside real ones. */
export interface Comparison {
  /** Values of one sample. */
  dim: number;
  x: Float32Array;
  /** The classes that samples were asked to be of. */
  labels?: Uint32Array;
  features?: SampleFeatures;
  reference: Reference;
  /** Where it pays, distances between many points as a device computes them. */
  pairs?: PairDistances;
}

/**
 * A figure of how far samples are from real ones. A metric is one such entry in a file of its own and a line in
 * `metrics/index.ts`; tables, reports and their floors (real samples beside other real ones) follow.
 */
export interface SampleMetric {
  /** Its key in files. */
  name: string;
  /** Its column in tables. */
  heading: string;
  /** One line for people who meet it. */
  explanation: string;
  /** What has to be there: the samples alone, a classifier's features of them, or also the classes they were asked to be of. */
  needs: 'samples' | 'features' | 'labels';
  /** With fewer samples on either side it is not computed. */
  least: number;
  /** The figure. */
  compute(comparison: Comparison): number | Promise<number>;
  /** What has to be said beside a figure from so many samples; null where nothing. */
  caveat?(comparison: Comparison): string | null;
}

/** A function of what many samples are compared with, computed once for each; what follows the key belongs to it. */
export function onceFor<K extends object, V, Rest extends unknown[]>(
  compute: (key: K, ...rest: Rest) => V,
): (key: K, ...rest: Rest) => V {
  const known = new WeakMap<K, V>();
  return (key, ...rest) => {
    if (!known.has(key)) known.set(key, compute(key, ...rest));
    return known.get(key)!;
  };
}
