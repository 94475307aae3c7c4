import { exp, add, mul } from '../../ops/pointwise.js';
import type { ComponentParts } from '../component.js';
import type { Parameters } from '../../nn/parameters.js';
import type { Tensor } from '../../tensor/tensor.js';

/** What an encoder says of latents: a Gaussian [B, C, h, w], or a point where there is no variance. */
export interface LatentLaw {
  /** Also its mode. */
  readonly mean: Tensor;
  /** Logarithm of the variance. */
  readonly logvar?: Tensor;
}

/** Pictures to latents and back, without weights. Pictures are [B, C, H, W] with values from -1 to 1. */
export interface Autoencoder extends ComponentParts {
  readonly imageChannels: number;
  readonly latentChannels: number;
  /** Pixels along a side of a picture for one of its latent. */
  readonly factor: number;
  /** Where latents of pictures lie. */
  encode(p: Parameters, images: Tensor): LatentLaw;
  /** Pictures, which may exceed -1 to 1, of latents as the encoder gives them. */
  decode(p: Parameters, latents: Tensor): Tensor;
  /** Latents at the scale that networks over them are trained at, from those of the encoder. */
  scaled(latents: Tensor): Tensor;
  /** The inverse of `scaled`. */
  unscaled(latents: Tensor): Tensor;
}

/** Standard deviation of latents; only of a law that has one. */
export const deviation = (logvar: Tensor): Tensor => exp(mul(logvar, 0.5));

/** A draw of latents, from noise N(0, 1) of their shape. */
export const drawLatents = ({ mean, logvar }: LatentLaw, noise: Tensor): Tensor =>
  logvar ? add(mean, mul(deviation(logvar), noise)) : mean;

/** What people want to know of an autoencoder. */
export const factsOf = (
  { imageChannels, latentChannels, factor }: Pick<Autoencoder, 'imageChannels' | 'latentChannels' | 'factor'>,
  scale: number,
): Record<string, string> => ({
  pictures: `${imageChannels} channels, values from -1 to 1`,
  latents: `${latentChannels} channels, sides of 1 / ${factor}, ${scale} times those of the encoder for networks over them`,
});
