import type { Extractor } from '../features/extractor.js';
import { sourceNoise } from '../flow/noise.js';
import type { Network } from '../flow/network.js';
import { accuracy } from '../metrics/accuracy.js';
import type { Operator } from './operators.js';
import { hostStreams, seedFor } from '../tensor/streams.js';
import { everywhere, hiddenErrors, type TestImages } from './test-images.js';
import { rounded } from './steps.js';

/** What is left of images after each round of a chain. */
export interface ChainResult {
  method: string;
  /** Root mean squared difference to the originals, a value, after each round. */
  error: number[];
  /** Share of images that are still classified as the originals are. */
  retention: number[];
  /** The first images after the last round. */
  shown: number[];
}

export const rounds = 8;

/** How far the rounds of editing go towards noise. */
export const editingTime = 0.5;

/** Images with the noise of a round to time t, which all methods share. */
export function renoised(
  { count, size }: TestImages,
  { description: { source } }: Network,
  x: Float32Array,
  t: number,
  seed: number,
  round: number,
): Float32Array {
  const z = sourceNoise(source, count, size, seedFor(seed, hostStreams.editingNoise, round));
  return x.map((value, i) => (1 - t) * value + t * z[i]);
}

/** n times: noise to t, by noise that all methods share, and a jump back. */
export function renoisingChain(
  test: TestImages,
  teacher: Network,
  operator: Operator,
  extractor: Extractor,
  seed: number,
  shown: number,
): Promise<ChainResult> {
  return chain(test, operator.name, extractor, shown, (x, round) => {
    const noisy = renoised(test, teacher, x, editingTime, seed, round);
    return operator.go(noisy, everywhere(test, editingTime), everywhere(test, 0), round);
  });
}

/** n times: from data to noise and back, with no fresh noise at all. @param start the smallest time that is answered */
export function roundTripChain(
  test: TestImages,
  operator: Operator,
  extractor: Extractor,
  start: number,
  shown: number,
): Promise<ChainResult> {
  const [low, high] = [everywhere(test, start), everywhere(test, 1)];
  return chain(test, operator.name, extractor, shown, async (x, round) =>
    operator.go(await operator.go(x, low, high, 2 * round), high, low, 2 * round + 1),
  );
}

async function chain(
  test: TestImages,
  method: string,
  extractor: Extractor,
  shown: number,
  edit: (x: Float32Array, round: number) => Promise<Float32Array>,
): Promise<ChainResult> {
  const whole = { size: test.size, hidden: new Uint8Array(test.size).fill(1) };
  const before = await extractor.see(test.images);
  const result: ChainResult = { method, error: [], retention: [], shown: [] };
  let x = test.images;
  for (let round = 0; round < rounds; round++) {
    x = await edit(x, round);
    const errors = hiddenErrors(whole, x, test.images);
    result.error.push(Math.sqrt(errors.reduce((sum, value) => sum + value, 0) / errors.length));
    result.retention.push(accuracy((await extractor.see(x)).classes, before.classes));
  }
  return { ...result, shown: rounded(x.subarray(0, shown * test.size)) };
}
