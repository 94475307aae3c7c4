import { random } from '../tensor/philox.js';
import { hostStreams } from '../tensor/streams.js';
import type { Description } from './description.js';

/** Noise [count, size] from where a teacher's trajectories start, a pure function of the seed. */
export function sourceNoise(source: Description['source'], count: number, size: number, seed: number): Float32Array {
  const draw = random(seed, 0, hostStreams.sourceNoise);
  const z = Float32Array.from({ length: count * size }, () => draw.normal());
  if (source.kind === 'normal') return z;
  for (let i = 0; i < count; i++) {
    const center = source.centers[draw.below(source.centers.length)];
    for (let k = 0; k < size; k++) z[i * size + k] = center[k] + source.std * z[i * size + k];
  }
  return z;
}
