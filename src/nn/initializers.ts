import { normals, uniforms } from '../tensor/philox.js';
import { hostStreams } from '../tensor/streams.js';
import { sizeOf, type Shape } from '../tensor/shape.js';

/** Values for a fresh parameter: a pure function of the run's seed and the parameter's index. */
export type Initializer = (shape: Shape, seed: number, index: number) => Float32Array;

/** All 0. */
export const zeros: Initializer = (shape) => new Float32Array(sizeOf(shape));
/** All 1. */
export const ones: Initializer = (shape) => new Float32Array(sizeOf(shape)).fill(1);

/** Each value in its place by another. */
function changed(values: Float32Array, change: (value: number) => number): Float32Array {
  for (let i = 0; i < values.length; i++) values[i] = change(values[i]);
  return values;
}

/** Normal of mean 0 and a standard deviation. */
export const normal =
  (std: number): Initializer =>
  (shape, seed, index) =>
    changed(normals(sizeOf(shape), seed, index, hostStreams.initialWeights), (value) => value * std);

/** Uniform in ±bound. */
const uniform =
  (bound: (shape: Shape) => number): Initializer =>
  (shape, seed, index) => {
    const scale = bound(shape);
    return changed(
      uniforms(sizeOf(shape), seed, index, hostStreams.initialWeights),
      (value) => (2 * value - 1) * scale,
    );
  };

/** PyTorch's default for weights and biases of a linear layer with `inputs` inputs: uniform in ±1/√inputs. */
export const fanIn = (inputs: number): Initializer => uniform(() => 1 / Math.sqrt(inputs));

/** Glorot and Bengio (2010) for a weight [out, in, ...]. */
export const xavier: Initializer = uniform(([outputs, ...inputs]) => Math.sqrt(6 / (outputs + sizeOf(inputs))));

/**
 * Fixed sine and cosine position embedding of a grid of so many columns, as DiT has it for squares: half of the channels
 * for the column, half for the row, each sines then cosines. Shape [1, rows · columns, width].
 * @param spread what a row and a column count for, where the grid stands for a coarser or finer one
 */
export const gridPositions =
  (columns: number, spread: readonly [number, number] = [1, 1]): Initializer =>
  ([, count, width]) => {
    const quarter = width / 4;
    const values = new Float32Array(count * width);
    for (let position = 0; position < count; position++) {
      const coordinates = [(position % columns) * spread[1], Math.floor(position / columns) * spread[0]];
      coordinates.forEach((coordinate, half) => {
        for (let k = 0; k < quarter; k++) {
          const angle = coordinate / 10000 ** (k / quarter);
          values[position * width + half * 2 * quarter + k] = Math.sin(angle);
          values[position * width + half * 2 * quarter + quarter + k] = Math.cos(angle);
        }
      });
    }
    return values;
  };
