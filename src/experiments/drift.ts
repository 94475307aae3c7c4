import { bootstrap, slopeOf, type Bootstrapped } from '../metrics/bootstrap.js';
import { random } from '../tensor/philox.js';
import { hostStreams } from '../tensor/streams.js';
import type { Operator } from './operators.js';
import { hiddenErrors, lockKnown, mixed, type TestImages } from './test-images.js';
import { rounded } from './steps.js';

export const hopCounts = [2, 4, 6, 8] as const;

/** Where jumps start: uniform in this range of times. They end at 0. */
const startRange = [0.5, 1] as const;

export interface DriftResult {
  method: string;
  /** Δ_k of each image: mean squared difference in the hidden region between the direct jump and k hops. */
  drift: { hops: number; values: number[] }[];
  /** Of the first images: the direct jump, the longest chain. */
  shown: { direct: number[]; composed: number[] };
}

/**
 * Starting times of all images, by the seed: the same for every method.
 * @param latest the time of the most noise that networks were trained at
 */
export function startTimes({ count }: TestImages, seed: number, latest = 1): Float32Array {
  const draw = random(seed, 0, hostStreams.startTimes);
  const [low, high] = [startRange[0], Math.min(latest, startRange[1])];
  return Float32Array.from({ length: count }, () => low + (high - low) * draw.uniform());
}

/**
 * Direct jump t → 0 against k equal hops (Exp-II). The known region is locked to one reference trajectory at every time of
 * every chain, so that both see the same surroundings.
 */
export async function driftOf(
  test: TestImages,
  operator: Operator,
  seed: number,
  shown: number,
  progress: (hops: number) => void,
  latest?: number,
): Promise<DriftResult> {
  const start = startTimes(test, seed, latest);
  const compose = async (hops: number) => {
    progress(hops);
    const at = (k: number) => start.map((time) => time * (1 - k / hops));
    let x = mixed(test, start);
    for (let k = 0; k < hops; k++) x = lockKnown(test, await operator.go(x, at(k), at(k + 1), k), at(k + 1));
    return x;
  };
  const direct = await compose(1);
  const drift = [];
  let composed = direct;
  for (const hops of hopCounts) {
    composed = await compose(hops);
    drift.push({ hops, values: hiddenErrors(test, composed, direct) });
  }
  const first = shown * test.size;
  return {
    method: operator.name,
    drift,
    shown: { direct: rounded(direct.subarray(0, first)), composed: rounded(composed.subarray(0, first)) },
  };
}

export interface DriftSummary {
  method: string;
  /** Mean Δ_k. */
  rows: ({ hops: number } & Bootstrapped)[];
  /** Slope of log Δ_k over log k. */
  growth: Bootstrapped;
}

export function summarizeDrift({ method, drift }: DriftResult, seed: number): DriftSummary {
  const count = drift[0].values.length;
  const logs = drift.map(({ hops }) => Math.log(hops));
  return {
    method,
    rows: drift.map(({ hops, values }) => ({ hops, ...bootstrap(count, (indices) => meanAt(values, indices), seed) })),
    growth: bootstrap(
      count,
      (indices) =>
        slopeOf(
          logs,
          drift.map(({ values }) => Math.log(meanAt(values, indices))),
        ),
      seed,
    ),
  };
}

/** By how much one method's mean Δ_k is above another's, for each k. */
export function driftRatios(above: DriftResult, below: DriftResult, seed: number): ({ hops: number } & Bootstrapped)[] {
  return above.drift.map(({ hops, values }, i) => ({
    hops,
    ...bootstrap(values.length, (indices) => meanAt(values, indices) / meanAt(below.drift[i].values, indices), seed),
  }));
}

const meanAt = (values: readonly number[], indices: Uint32Array): number =>
  indices.reduce((sum, i) => sum + values[i], 0) / indices.length;
