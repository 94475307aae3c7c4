import * as z from 'zod';
import { concat } from '../../ops/movement.js';
import type { Shape } from '../../tensor/shape.js';
import type { Tensor } from '../../tensor/tensor.js';
import type { InputShapes } from '../backbone.js';
import type { ConditionLaw, NetworkInputs } from '../model.js';
import { sides, sidesOf, statedSides } from '../sides.js';

/** Sides of pictures: what a network was trained at. Its weights take other sides as well. */
export const sampleSize = sides.nullable().default(null);

/** Sides where a configuration names none. */
const usual = 64;

/** What of a configuration says which pictures a network takes and gives. */
interface PictureOptions {
  sample_size: z.infer<typeof sampleSize>;
  in_channels: number;
  out_channels: number;
}

/**
 * The samples of a network of pictures. Channels of its input beyond those of its output are a condition, `channels`, such
 * as mask and masked picture of inpainting, behind those of the sample; channels of its output beyond those of its input
 * say something else than the sample.
 */
export function pictureInputs({ sample_size, in_channels: inputs, out_channels: outputs }: PictureOptions): {
  sampleShape: Shape;
  conditions: Record<string, ConditionLaw>;
  /** All channels of the input, [B, in_channels, H, W]. */
  pictures(inputs: NetworkInputs): Tensor;
} {
  const size = sidesOf(sample_size ?? usual);
  const further = inputs - outputs;
  return {
    sampleShape: [Math.min(inputs, outputs), ...size],
    conditions: further > 0 ? { channels: { shape: [further, ...size] } } : {},
    pictures: ({ x, conditions }) => (further > 0 ? concat([x, conditions!.channels], 1) : x),
  };
}

/** The configuration for pictures of other sides; null for other channels. */
export function fitSides<C extends PictureOptions>(config: C, { sample }: InputShapes): C | null {
  const { sampleShape } = pictureInputs(config);
  if (sample.length !== 3 || sample[0] !== sampleShape[0]) return null;
  return { ...config, sample_size: statedSides(sample[1], sample[2]) };
}
