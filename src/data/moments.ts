import { UserError } from '../errors.js';
import { bytesSource } from '../files/source.js';
import { isZip, openZip } from '../files/zip.js';
import type { Moments } from '../metrics/moments.js';
import { parseNpy } from './npy.js';

/**
 * Statistics of features as they are published for Fréchet distances: a .npz with `mu` [d] and `sigma` [d, d].
 * @throws UserError where it is none, or holds what is no covariance
 */
export async function parseMoments(bytes: Uint8Array, name: string): Promise<Moments> {
  if (!isZip(bytes)) throw new UserError(`${name} is no .npz of statistics, mu and sigma`);
  const entries = await openZip(bytesSource(bytes, name));
  const read = async (key: string) => {
    const entry = entries.get(`${key}.npy`);
    if (!entry)
      throw new UserError(
        `${name} holds ${[...entries.keys()].slice(0, 6).join(', ') || 'nothing'}, and no ${key}.npy`,
      );
    const { shape, values } = parseNpy(await entry.read(), `${name}, ${key}`);
    return { shape, values: Float64Array.from(values) };
  };
  const [mu, sigma] = [await read('mu'), await read('sigma')];
  const [dim] = mu.shape;
  if (mu.shape.length !== 1 || sigma.shape.join() !== `${dim},${dim}`)
    throw new UserError(`${name}: mu [${mu.shape}] and sigma [${sigma.shape}] are no mean [d] and covariance [d, d]`);
  const largest = sigma.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  for (let j = 0; j < dim; j++)
    for (let k = 0; k <= j; k++) {
      const [a, b] = [sigma.values[j * dim + k], sigma.values[k * dim + j]];
      if (!(Math.abs(a - b) <= 1e-6 * largest) || !Number.isFinite(mu.values[j]) || (j === k && a < 0))
        throw new UserError(`${name}: sigma is no covariance, or mu no mean, at ${j}, ${k}; fetch it again`);
    }
  return { mean: mu.values, covariance: sigma.values };
}
