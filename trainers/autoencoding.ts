import { drawLatents, type Autoencoder } from '../src/models/diffusers/autoencoder.js';
import { meanSquares } from '../src/ops/normalization.js';
import { add, exp, mul, square, sub } from '../src/ops/pointwise.js';
import { mean } from '../src/ops/statistics.js';
import type { SampleSource } from './batches.js';
import { streams } from './streams.js';
import type { Loss, LossContext } from './trainer.js';

/** What of a recipe the loss depends on. */
export interface AutoencodingOptions {
  /** What the divergence of latents from N(0, I), a mean over their values, counts beside the squared error of pixels. */
  kl: number;
}

/**
 * The loss of a variational autoencoder (Kingma and Welling, 2014) in means over values: (x - x̂)² of pictures decoded from a
 * draw of their latents, and kl · (μ² + σ² - 1 - ln σ²) / 2.
 */
export function autoencodingLoss(vae: Autoencoder, source: SampleSource, { kl }: AutoencodingOptions) {
  return ({ parameters, rows, profile }: LossContext): Loss => {
    const { x } = source.draw(rows, profile);
    const law = vae.encode(parameters, x);
    const latents = drawLatents(law, rows.normal(streams.noise, law.mean.shape.slice(1)));
    const errors = meanSquares(sub(vae.decode(parameters, latents), x));
    const { mean: centre, logvar } = law;
    if (!logvar) return { total: rows.mean(errors), parts: {} };
    const divergence = mean(sub(add(square(centre), exp(logvar)), add(logvar, 1)), [1, 2, 3]);
    return { total: rows.mean(add(errors, mul(divergence, kl / 2))), parts: {} };
  };
}
