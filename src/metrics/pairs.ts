import { evaluate } from '../autodiff/eager.js';
import type { Device } from '../gpu/device.js';
import { matmul } from '../ops/matmul.js';
import { tensor } from '../tensor/tensor.js';
import type { Points } from './points.js';

/** Squared distances of all rows of a [n, dim] to all rows of b [m, dim], [n, m]. */
export type PairDistances = (a: Points, b: Points, dim: number) => Promise<Float64Array>;

/**
 * The same with the products on a device: ‖a‖² + ‖b‖² - 2 a·b, the norms in float64 on the host. It is worth it where
 * there are many dimensions; a distance errs by some 1e-7 of the norms.
 */
export const pairsOn =
  (device: Device): PairDistances =>
  async (a, b, dim) => {
    const [n, m] = [a.length / dim, b.length / dim];
    const [left, right] = [tensor(Float32Array.from(a), [n, dim]), tensor(Float32Array.from(b), [m, dim])];
    const products = await evaluate(device, matmul(left, right, { transposeB: true }));
    const [ofA, ofB] = [squaredNorms(a, dim), squaredNorms(b, dim)];
    return Float64Array.from({ length: n * m }, (_, i) =>
      Math.max(0, ofA[Math.floor(i / m)] + ofB[i % m] - 2 * products[i]),
    );
  };

const squaredNorms = (points: Points, dim: number): Float64Array =>
  Float64Array.from({ length: points.length / dim }, (_, row) => {
    let sum = 0;
    for (let k = 0; k < dim; k++) sum += points[row * dim + k] ** 2;
    return sum;
  });
