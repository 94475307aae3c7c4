import type { Dataset, Samples } from '../data/dataset.js';
import { shuffledHeldOut } from '../data/held-out.js';
import { UserError } from '../errors.js';
import type { Network } from '../flow/network.js';
import { batchFor, Runner } from '../flow/runner.js';
import { drawSamples, samplerOf } from '../flow/sampling.js';
import type { Device } from '../gpu/device.js';
import { isPoints } from '../models/model.js';
import { sameShape } from '../tensor/shape.js';
import { hostStreams, seedFor } from '../tensor/streams.js';
import { endpointJump, jump } from './operators.js';
import { testImagesOf } from './test-images.js';
import { violationMap, type ViolationMap } from './violation.js';

/** How the semigroup law is checked; all of it optional. */
export interface SemigroupOptions {
  /** Samples of it that were held out; by default the flow map's own stand for them. */
  data?: Dataset | null;
  /** How many; by default `semigroupSamples`. */
  samples?: number;
  seed?: number;
  /** Pairs of times that are done, and all. */
  onProgress?: (done: number, total: number) => void;
}

/** What the law was checked of, and where it breaks. */
export interface SemigroupReport extends ViolationMap {
  /** The operator that the flow map is sampled by. */
  operator: string;
  samples: number;
  seed: number;
}

/** How many samples a flow map is checked on by default. */
export const semigroupSamples = ({ model }: Network): number => (isPoints(model.sampleShape) ? 4096 : 256);

/**
 * Refuses what the law cannot be checked of, before any work.
 * @throws UserError where the network is no flow map, or the data are others than it makes or too few
 */
export function assertCheckable(network: Network, samples: number, data: Dataset | null): void {
  const { sampleShape } = network.model;
  if (network.description.role !== 'flow-map')
    throw new UserError('this is a teacher: the semigroup law is checked of flow maps', 'model');
  if (!(Number.isInteger(samples) && samples > 1))
    throw new UserError('the law is checked on a whole number of samples from 2', 'samples');
  if (data && !sameShape(data.shape, sampleShape))
    throw new UserError(
      `${data.name} holds samples of shape [${data.shape}], the flow map makes [${sampleShape}]`,
      'data',
    );
  if (data && data.heldOut.count < samples)
    throw new UserError(`${samples} are more than the ${data.heldOut.count} held-out ones of ${data.name}`, 'samples');
}

/**
 * The semigroup law: how far f(f(x, t, m), m, s) with m between s and t is from f(x, t, s), over a grid of times.
 * @throws UserError as `assertCheckable` and `violationMap` do
 */
export async function checkSemigroup(
  device: Device,
  flowMap: Network,
  { data = null, samples = semigroupSamples(flowMap), seed = 0, onProgress = () => {} }: SemigroupOptions = {},
): Promise<SemigroupReport> {
  assertCheckable(flowMap, samples, data);
  const { dataRange = [-1, 1] as const } = flowMap.description;
  const set = data ? heldOutOf(data) : await ownSamples(device, flowMap, samples, seed);
  const test = testImagesOf(flowMap, set, dataRange, samples, seed);
  const runner = new Runner(device, flowMap, batchFor(flowMap.model.sampleShape, samples));
  try {
    const operator =
      samplerOf(flowMap).name === 'consistency'
        ? endpointJump('endpoint jump', runner, test.labels, () => test.noise)
        : jump('jump', runner, test.labels);
    const map = await violationMap(test, (x, t, s) => operator.go(x, t, s, 0), onProgress);
    return { operator: operator.name, samples, seed, ...map };
  } finally {
    runner.dispose();
  }
}

function heldOutOf(data: Dataset): Samples {
  const { count, x, labels } = shuffledHeldOut(data);
  return { count, values: x, labels };
}

async function ownSamples(device: Device, flowMap: Network, count: number, seed: number): Promise<Samples> {
  const { x, labels } = await drawSamples(device, flowMap, {
    count,
    seed: seedFor(seed, hostStreams.sceneImages),
    randomLabels: true,
    steps: 1,
  });
  return { count, values: x, labels };
}
