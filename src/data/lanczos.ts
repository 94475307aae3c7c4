import type { Picture } from './picture.js';
import type { Sides } from './resample.js';

/** Bits behind the point of weights. */
const precision = 22;

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
/** Lanczos' kernel of three lobes. */
const kernel = (x: number): number => (x > -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0);

/** For each output along a side the first input, and the weights of it and those after it in whole 2^-22ths. */
function taps(inputs: number, outputs: number): { first: number; weights: number[] }[] {
  const step = inputs / outputs;
  const spread = Math.max(1, step);
  const reach = 3 * spread;
  return Array.from({ length: outputs }, (_, output) => {
    const centre = (output + 0.5) * step;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(inputs, Math.trunc(centre + reach + 0.5));
    const raw = Array.from({ length: end - first }, (_, i) => kernel((i + first - centre + 0.5) / spread));
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: raw.map((weight) => roundAway((weight / total) * 2 ** precision)) };
  });
}

/** Halves away from zero, as C rounds by adding one half. */
const roundAway = (value: number): number => Math.trunc(value < 0 ? value - 0.5 : value + 0.5);

const byteOf = (sum: number): number =>
  Math.min(255, Math.max(0, Math.floor((sum + 2 ** (precision - 1)) / 2 ** precision)));

/**
 * A picture stretched to [height, width], byte for byte as Pillow's LANCZOS does it, which other people's pipelines prepare
 * pictures by: an antialiased kernel of three lobes, weights in fixed point, bytes between the passes over rows and columns.
 */
export function lanczos(picture: Picture, [height, width]: Sides): Picture {
  const { channels } = picture;
  let { pixels } = picture;
  if (picture.width !== width) {
    const across = taps(picture.width, width);
    const wide = new Uint8Array(picture.height * width * channels);
    for (let y = 0; y < picture.height; y++)
      for (let x = 0; x < width; x++)
        for (let k = 0; k < channels; k++) {
          const { first, weights } = across[x];
          let sum = 0;
          for (let i = 0; i < weights.length; i++)
            sum += weights[i] * pixels[(y * picture.width + first + i) * channels + k];
          wide[(y * width + x) * channels + k] = byteOf(sum);
        }
    pixels = wide;
  }
  if (picture.height !== height) {
    const down = taps(picture.height, height);
    const run = width * channels;
    const sized = new Uint8Array(height * run);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < run; x++) {
        const { first, weights } = down[y];
        let sum = 0;
        for (let i = 0; i < weights.length; i++) sum += weights[i] * pixels[(first + i) * run + x];
        sized[y * run + x] = byteOf(sum);
      }
    pixels = sized;
  }
  return { width, height, channels, pixels };
}
