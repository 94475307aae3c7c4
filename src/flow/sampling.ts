import type { Device } from '../gpu/device.js';
import { random } from '../tensor/philox.js';
import { hostStreams, seedFor } from '../tensor/streams.js';
import type { Description } from './description.js';
import { sourceNoise } from './noise.js';
import {
  excess,
  MemoryError,
  savingOf,
  shortage,
  type AvailableMemory,
  type MemoryNeeds,
  type Saving,
} from './memory.js';
import type { Network } from './network.js';
import { batchFor, equalSteps, Runner, type ConditionValues } from './runner.js';
import { samplerEntry, type Sampler } from './samplers.js';

/** What is drawn, and how. */
export interface SampleOptions {
  count: number;
  seed: number;
  /** One class for all samples; by default classes take turns, or are drawn where `randomLabels` is set. */
  label?: number;
  randomLabels?: boolean;
  /** What else the network is told, for all samples alike or for each. */
  conditions?: ConditionValues;
  /** The same where guidance of a teacher leads away from. */
  negative?: ConditionValues;
  /** How samples are drawn; by default as `samplerOf` says. */
  sampler?: Sampler;
  /** Equal steps of it, or falling times from 1 to where the path ends. */
  steps: number | readonly number[];
  /** Scale of classifier-free guidance. */
  guidance?: number;
  /** Samples that the device handles at a time. */
  batch?: number;
}

/** Samples that were drawn, and how. */
export interface DrawnSamples {
  /** Where they started and where they ended, [count, ...sampleShape]. */
  noise: Float32Array;
  x: Float32Array;
  labels?: Uint32Array;
  /** Calls of the network that each took. */
  evaluations: number;
}

/** How a network is meant to be sampled: a teacher by Euler steps, a flow map by its jumps unless it says otherwise. */
export const samplerOf = ({ description: { role, sampler } }: Network): Sampler => ({
  name: role === 'teacher' ? 'euler' : (sampler ?? 'jump'),
});

/**
 * What `drawSamples` needs, computed without any of it.
 * @throws MemoryError where it is more than there is
 */
export function planSampling(
  device: Device,
  network: Network,
  options: Pick<SampleOptions, 'count' | 'guidance' | 'batch' | 'sampler'>,
  available: AvailableMemory = {},
): MemoryNeeds {
  const { guidance, batch, sampler = samplerOf(network) } = options;
  const needsOf = (count: number): MemoryNeeds => {
    const most = Math.min(count, batch ?? batchFor(network.model.sampleShape, count));
    const runner = new Runner(device, network, most, guidance);
    // All samples are on the host at once: what they start from, what they come to, and where they are now.
    const samples = 3 * 4 * count * runner.sampleSize;
    const needs = runner.needs(sampler);
    runner.dispose();
    return { ...needs, host: needs.host + samples };
  };
  const { count } = options;
  const needs = needsOf(count);
  if (!excess(needs, available)) return needs;
  const savings: Saving[] = [];
  for (let fewer = count >> 1; fewer >= 1 && !savings.at(-1)?.enough; fewer >>= 1) {
    const less = needsOf(fewer);
    savings.splice(0, 1, savingOf({ n: String(fewer) }, less, available));
  }
  throw new MemoryError(shortage(needs, available), savings);
}

/** Samples from noise to data. */
export async function drawSamples(device: Device, network: Network, options: SampleOptions): Promise<DrawnSamples> {
  const { count, guidance, batch, sampler = samplerOf(network) } = options;
  // Several ranks share the samples; those with fresh noise, batch by batch.
  const { stochastic, measured } = samplerEntry(sampler.name);
  const each = stochastic || measured ? count : Math.ceil(count / device.group.size);
  const most = Math.min(each, batch ?? batchFor(network.model.sampleShape, each));
  const runner = new Runner(device, network, most, guidance);
  try {
    return await drawSamplesBy(runner, options);
  } finally {
    runner.dispose();
  }
}

/** The same by a network that is ready to be asked, for those who draw several times: each sampler compiles once. */
export async function drawSamplesBy(
  runner: Runner,
  options: Omit<SampleOptions, 'guidance' | 'batch'>,
): Promise<DrawnSamples> {
  const { count, seed, steps, sampler = samplerOf(runner.network), conditions, negative } = options;
  const { model, description } = runner.network;
  const noise = sourceNoise(description.source, count, runner.sampleSize, seed);
  const labels = model.classes ? labelsFor(options, model.classes) : undefined;
  const times = timesOf(steps, description);
  const [first, last] = [times[0], times[times.length - 1]];
  const [t, s] = [first, last].map((time) => new Float32Array(count).fill(time));
  const batch = { x: noise, t, s, labels, conditions, negative };
  const grid = times.map((time) => (first - time) / (first - last));
  const { x, evaluations } = await runner.count(batch, grid, sampler, seedFor(seed, hostStreams.samplerNoise));
  return { noise, x, labels, evaluations };
}

/** The times from noise to data of so many equal steps, which a description may want closer in noise; or those that are given. */
export const timesOf = (steps: number | readonly number[], { timeShift = 1 }: Description): readonly number[] =>
  typeof steps === 'number'
    ? equalSteps(steps).map((done) => (timeShift * (1 - done)) / (1 + (timeShift - 1) * (1 - done)))
    : steps;

function labelsFor({ count, seed, label, randomLabels }: Omit<SampleOptions, 'steps'>, classes: number): Uint32Array {
  if (label !== undefined) return new Uint32Array(count).fill(label);
  if (!randomLabels) return Uint32Array.from({ length: count }, (_, i) => i % classes);
  const draw = random(seed, 0, hostStreams.sampleLabels);
  return Uint32Array.from({ length: count }, () => draw.below(classes));
}
