import { UserError } from '../errors.js';
import { random } from '../tensor/philox.js';
import { hostStreams } from '../tensor/streams.js';
import type { Dataset, LoadOptions, Samples } from './dataset.js';
import { distributions, samplePoints } from './distributions.js';
import { sampleShapes, shapeNames, shapeSets } from './shapes.js';
import { summarize } from './summary.js';

/** Data sets that are generated. */
export type DatasetName = keyof typeof distributions | keyof typeof shapeSets;
export const datasetNames = [...Object.keys(distributions), ...Object.keys(shapeSets)];

/** A generated data set; null where none has this name. @throws UserError where no sample is asked for */
export function namedDataset(name: DatasetName, options?: LoadOptions): Dataset;
export function namedDataset(name: string, options?: LoadOptions): Dataset | null;
export function namedDataset(name: string, options: LoadOptions = {}): Dataset | null {
  if (Object.hasOwn(distributions, name)) return pointSet(name as keyof typeof distributions, options);
  if (Object.hasOwn(shapeSets, name)) return shapeSet(name as keyof typeof shapeSets, options);
  return null;
}

function pointSet(
  name: keyof typeof distributions,
  { seed = 0, count = 131072, heldOut = 32768 }: LoadOptions,
): Dataset {
  const distribution = distributions[name];
  const samples = (n: number, stream: number): Samples => ({
    count: n,
    values: samplePoints(distribution, n, random(seed, 0, stream)),
  });
  const { extent } = distribution;
  return summarize({
    name,
    kind: 'points',
    shape: [2],
    range: [-extent, extent],
    classes: 0,
    ...samples(positive(count, 'count'), hostStreams.generatedSamples),
    heldOut: samples(positive(heldOut, 'heldOut'), hostStreams.generatedHeldOut),
    notes: ['generated'],
  });
}

function shapeSet(
  name: keyof typeof shapeSets,
  { seed = 0, range = [-1, 1], count = 10000, heldOut = 1000 }: LoadOptions,
): Dataset {
  const shape = [...shapeSets[name].shape];
  return summarize({
    name,
    kind: 'images',
    shape,
    range,
    classes: shapeNames.length,
    ...sampleShapes(shape, positive(count, 'count'), seed, hostStreams.generatedSamples),
    heldOut: sampleShapes(shape, positive(heldOut, 'heldOut'), seed, hostStreams.generatedHeldOut),
    notes: ['generated'],
  });
}

const fieldNames = { count: 'count', heldOut: 'held-out' };

function positive(count: number, field: keyof typeof fieldNames): number {
  if (!Number.isInteger(count) || count < 1)
    throw new UserError(`the ${fieldNames[field]} number of samples is ${count}; give a whole number from 1`, field);
  return count;
}
