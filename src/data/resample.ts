/** Height and width. */
export type Sides = readonly [number, number];

/** How sizes are changed, for the line that says so. */
export const filterName = 'an antialiased bicubic filter';

/**
 * Images of another size [height, width], from the largest centred part of that form: the shorter side fits, what is beyond
 * is cut off. Keys' bicubic kernel (1981) with a = -0.5, as wide as what it reduces, so that nothing aliases: what Pillow's
 * BICUBIC and torchvision's antialias=True do. Values may overshoot those of the images.
 * @param values [outer, rows, columns, inner]
 */
export function resample(
  values: ArrayLike<number>,
  outer: number,
  [rows, columns]: Sides,
  inner: number,
  [height, width]: Sides,
): Float32Array {
  const step = Math.min(rows / height, columns / width);
  const across = taps(columns, width, step);
  const wide = new Float32Array(outer * rows * width * inner);
  for (let line = 0; line < outer * rows; line++)
    for (let x = 0; x < width; x++) {
      const { first, weights } = across[x];
      for (let k = 0; k < inner; k++) {
        let sum = 0;
        for (let i = 0; i < weights.length; i++) sum += weights[i] * values[(line * columns + first + i) * inner + k];
        wide[(line * width + x) * inner + k] = sum;
      }
    }
  const down = taps(rows, height, step);
  const run = width * inner;
  const result = new Float32Array(outer * height * run);
  for (let image = 0; image < outer; image++)
    for (let y = 0; y < height; y++) {
      const { first, weights } = down[y];
      const to = (image * height + y) * run;
      for (let i = 0; i < weights.length; i++) {
        const from = (image * rows + first + i) * run;
        for (let k = 0; k < run; k++) result[to + k] += weights[i] * wide[from + k];
      }
    }
  return result;
}

/** For each output along a side the inputs that it is a sum of, in a row, and their weights, which sum to 1. */
function taps(inputs: number, outputs: number, step: number): { first: number; weights: number[] }[] {
  const [start, spread] = [(inputs - outputs * step) / 2, Math.max(1, step)];
  return Array.from({ length: outputs }, (_, output) => {
    const centre = start + (output + 0.5) * step;
    const first = Math.max(0, Math.round(centre - 2 * spread));
    const end = Math.min(inputs, Math.round(centre + 2 * spread));
    const raw = Array.from({ length: end - first }, (_, i) => keys((first + i + 0.5 - centre) / spread));
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: raw.map((weight) => weight / total) };
  });
}

/** Keys' cubic convolution kernel. */
function keys(distance: number): number {
  const d = Math.abs(distance);
  if (d < 1) return (1.5 * d - 2.5) * d * d + 1;
  return d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
}
