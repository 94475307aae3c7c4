import { describe, expect, it } from 'vitest';
import type { Autoencoder } from '../src/models/diffusers/autoencoder.js';
import { add, mul } from '../src/ops/pointwise.js';
import { random } from '../src/tensor/philox.js';
import { constant, tensor, type Tensor } from '../src/tensor/tensor.js';
import { autoencodingLoss } from '../trainers/autoencoding.js';
import type { SampleSource } from '../trainers/batches.js';
import { Rows } from '../trainers/rows.js';
import type { LossContext } from '../trainers/trainer.js';
import { interpret } from './support/interpreter.js';

const shape = [3, 2, 3, 5];
const draw = random(4);
const pictures = Float32Array.from({ length: 90 }, () => draw.normal());
const source = { draw: () => ({ x: tensor(pictures, shape) }) } as unknown as SampleSource;
const context = { rows: new Rows(tensor(Uint32Array.of(1, 0, 2)), [3]) } as unknown as LossContext;

/** An autoencoder whose loss is known: it halves and adds, decodes by doubling, and doubts as much as it is told. */
const coder = (logvar: number | null): Autoencoder => {
  const code = (x: Tensor) => add(mul(x, 0.5), 0.25);
  return {
    parameters: [],
    imageChannels: 2,
    latentChannels: 2,
    factor: 1,
    encode: (_, x) => ({ mean: code(x), ...(logvar !== null && { logvar: constant(logvar, shape) }) }),
    decode: (_, z) => mul(z, 2),
    scaled: (z) => z,
    unscaled: (z) => z,
  };
};
const lossOf = (logvar: number | null, kl: number): number => {
  const { total } = autoencodingLoss(coder(logvar), source, { kl })(context);
  return interpret([total])[0][0];
};
const meanOf = (f: (x: number) => number) => pictures.reduce((sum, x) => sum + f(x), 0) / pictures.length;

describe('the loss of an autoencoder', () => {
  it('is the squared error of what is decoded, where latents are points', () => {
    // Twice (x / 2 + 1 / 4) is 1 / 2 beside x.
    expect(lossOf(null, 1)).toBeCloseTo(0.25, 10);
  });
  it('adds the divergence from N(0, I) in a closed form', () => {
    for (const logvar of [-3, -0.5, 0, 1])
      for (const kl of [1e-3, 0.7]) {
        const divergence = meanOf((x) => ((x / 2 + 0.25) ** 2 + Math.exp(logvar) - 1 - logvar) / 2);
        expect(lossOf(logvar, kl) - lossOf(logvar, 0)).toBeCloseTo(kl * divergence, 6);
      }
  });
  it('decodes a draw, whose noise grows with the deviation', () => {
    // E (2 (x / 2 + 1 / 4 + σ n) - x)² = 1 / 4 + 4 σ², from 90 draws.
    const [small, large] = [-8, 0].map((logvar) => lossOf(logvar, 0));
    expect(small).toBeCloseTo(0.25, 1);
    expect(Math.abs(large / 4.25 - 1)).toBeLessThan(4 * Math.sqrt(2 / 90));
  });
});
