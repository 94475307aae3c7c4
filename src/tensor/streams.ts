import { keyOf, philox } from './philox.js';

/**
 * Streams of random numbers on the host, one a purpose, so that what is drawn for one never depends on another and
 * neighbouring seeds share nothing. Streams of a training step on the device: trainers/streams.ts.
 */
export const hostStreams = {
  /** Generated data sets and the split of files keep the streams that published weights were trained on. */
  generatedSamples: 0,
  generatedHeldOut: 1,
  heldOutSplit: 0x5e1d,
  initialWeights: 1000,

  sourceNoise: 2000,
  sampleLabels: 2001,
  samplerNoise: 2002,
  /** Samples of a teacher that a student learns from where no data is given. */
  pool: 2003,

  testData: 2010,
  testTimes: 2011,
  testNoise: 2012,
  pathNoise: 2013,
  hops: 2014,
  testLabels: 2015,
  /** The order in which held-out samples are used. */
  heldOutOrder: 2016,
  /** The order in which shards of a data set are read. */
  shards: 2020,
  qualitySamples: 2017,
  densitySamples: 2018,
  pictures: 2019,

  projections: 2030,
  kernelSubsets: 2031,
  histograms: 2032,
  resampling: 2033,

  sceneImages: 2040,
  sceneNoise: 2041,
  startTimes: 2042,
  maskStrokes: 2043,
  editingNoise: 2044,
  endpointNoise: 2045,
  ancestralNoise: 2046,

  /** Of latents: where pipelines start, and what their autoencoders draw of a picture, whole and masked. */
  latentNoise: 2050,
  pictureLatents: 2051,
  maskedLatents: 2052,
} as const;

/**
 * A seed for what takes one of its own, such as a sampler, made from a user's seed and a purpose. Two purposes, steps or
 * seeds agree by chance alone, once in 2³².
 * @param seed a whole number from 0 to 2^53 - 1
 * @param step counts what is drawn for the purpose: rounds, hops
 */
export function seedFor(seed: number, stream: number, step = 0): number {
  // The last word of the counter sets these apart from all numbers that are drawn.
  return philox([0, step, stream, 1], keyOf(seed))[0];
}
