import { seededNormal, seededUniform } from '../metrics/random.js';
import type { Description } from './description.js';

/** Noise [count, size] from where a teacher's trajectories start, a pure function of the seed. */
export function sourceNoise(source: Description['source'], count: number, size: number, seed: number): Float32Array {
  const normal = seededNormal(seed);
  const z = Float32Array.from({ length: count * size }, () => normal());
  if (source.kind === 'normal') return z;
  const uniform = seededUniform(seed + 1);
  for (let i = 0; i < count; i++) {
    const center = source.centers[Math.floor(uniform() * source.centers.length)];
    for (let k = 0; k < size; k++) z[i * size + k] = center[k] + source.std * z[i * size + k];
  }
  return z;
}
