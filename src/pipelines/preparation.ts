import { UserError } from '../errors.js';
import type { Picture } from '../data/picture.js';
import { lanczos } from '../data/lanczos.js';
import type { Sides } from '../data/resample.js';

/** A picture and what of it is to be painted, as an inpainting pipeline sees them. */
export interface PreparedPicture {
  /** [3, height, width] from -1 to 1. */
  readonly image: Float32Array;
  /** [height, width], 1 where it is painted. */
  readonly mask: Float32Array;
  /** The image where it is known, grey elsewhere. */
  readonly masked: Float32Array;
}

/** Weights of red, green and blue in what is grey, in 2^16ths (ITU-R 601). */
const luma = [19595, 38470, 7471];

const greyOf = ({ channels, pixels }: Picture, at: number): number =>
  channels === 1
    ? pixels[at]
    : (luma.reduce((sum, weight, k) => sum + weight * pixels[3 * at + k], 0) + 2 ** 15) >>> 16;

/** A picture at that size as planes [3, height, width] from -1 to 1, as diffusers prepares it. */
export function preparedImage(picture: Picture, [height, width]: Sides): Float32Array {
  const { channels, pixels } = lanczos(picture, [height, width]);
  const area = height * width;
  return Float32Array.from({ length: 3 * area }, (_, i) => {
    const [plane, at] = [Math.floor(i / area), i % area];
    return (pixels[at * channels + (channels === 3 ? plane : 0)] / 255) * 2 - 1;
  });
}

/** A mask at that size [height, width]: 1 where the picture is lighter than half. */
export function preparedMask(picture: Picture, sides: Sides): Float32Array {
  const sized = lanczos(picture, sides);
  return Float32Array.from({ length: sides[0] * sides[1] }, (_, at) => Number(greyOf(sized, at) >= 128));
}

/**
 * A picture and its mask, white where to paint, as diffusers' inpainting pipelines prepare them.
 * @throws UserError where the mask hides nothing, so that nothing would be painted
 */
export function prepared(picture: Picture, mask: Picture, sides: Sides): PreparedPicture {
  const image = preparedImage(picture, sides);
  const hidden = preparedMask(mask, sides);
  if (!hidden.includes(1))
    throw new UserError('it hides nothing, so there is nothing to paint: make it white where to paint', 'mask');
  const area = hidden.length;
  return { image, mask: hidden, masked: image.map((value, i) => (hidden[i % area] ? 0 : value)) };
}

/** A mask of latents: of each cell of `factor` pixels a side the first one. */
export function latentMask(mask: Float32Array, [height, width]: Sides, factor: number): Float32Array {
  const [h, w] = [height / factor, width / factor];
  return Float32Array.from({ length: h * w }, (_, i) => mask[Math.floor(i / w) * factor * width + (i % w) * factor]);
}
