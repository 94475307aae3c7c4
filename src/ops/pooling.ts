import { UserError } from '../errors.js';
import { constant, tensor, withGradient, type Tensor } from '../tensor/tensor.js';
import { max, sum } from './broadcast.js';
import { iota, pad, reshape, slice } from './movement.js';
import { fromPatches, im2col, pair, reversed, windowsIn, type Extents, type Patches } from './patches.js';
import { add, equal, mul, neg, toFloat, where } from './pointwise.js';
import { mapAxis, type AxisMap } from './resampling.js';

/** How a window goes over an image. */
export interface PoolingOptions {
  /** The windows' size; default 2. For rows and columns, as all of these may be. */
  kernel?: number | Extents;
  /** Distance of windows; default the kernel, so that they tile the image. */
  stride?: number | Extents;
  /** Pixels of the window that may lie outside, at most half of it; default 0. */
  padding?: number | Extents;
}

/**
 * Means of windows of images [N, H, W, C]: [N, ⌊(H + 2 padding - kernel) / stride⌋ + 1, …, C].
 * @param countPadding whether what lies outside counts as 0 (PyTorch's default) or not at all
 * @throws UserError when a window does not fit the image or is padded by more than half
 */
export function averagePool(
  x: Tensor,
  { countPadding = true, ...options }: PoolingOptions & { countPadding?: boolean } = {},
): Tensor {
  const { patches, output } = windowsOf(x, options);
  const { kernel, stride, before } = patches;
  const [n, , , c] = x.shape;
  const [rows, columns] = output;
  if ([0, 1].every((axis) => stride[axis] === kernel[axis] && !before[axis])) {
    const tiled = slice(slice(x, 1, 0, rows * kernel[0]), 2, 0, columns * kernel[1]);
    const sums = sum(reshape(tiled, [n, rows, kernel[0], columns, kernel[1], c]), [2, 4]);
    return mul(sums, 1 / (kernel[0] * kernel[1]));
  }
  const along = (axis: 0 | 1): AxisMap =>
    Array.from({ length: output[axis] }, (_, i) => {
      const start = i * stride[axis] - before[axis];
      const [first, end] = [Math.max(0, start), Math.min(x.shape[1 + axis], start + kernel[axis])];
      return range(first, end).map((place) => [place, 1 / (countPadding ? kernel[axis] : end - first)] as const);
    });
  return mapAxis(mapAxis(x, 1, along(0)), 2, along(1));
}

/**
 * Means over bins that cover images [N, H, W, C] evenly: [N, ...output, C]. Bin i is from ⌊i H / output⌋ to
 * ⌈(i + 1) H / output⌉, as PyTorch has it; one bin is the mean of all pixels.
 */
export function adaptiveAveragePool(x: Tensor, output: number | Extents = 1): Tensor {
  const [rows, columns] = pair(output);
  const [, h, w] = x.shape;
  if (rows === 1 && columns === 1) return mul(sum(x, [1, 2], true), 1 / (h * w));
  const bins = (inputs: number, outputs: number): AxisMap =>
    Array.from({ length: outputs }, (_, i) => {
      const [first, end] = [Math.floor((i * inputs) / outputs), Math.ceil(((i + 1) * inputs) / outputs)];
      return range(first, end).map((place) => [place, 1 / (end - first)] as const);
    });
  return mapAxis(mapAxis(x, 1, bins(h, rows)), 2, bins(w, columns));
}

/**
 * Greatest elements of windows of images [N, H, W, C]: [N, ⌊(H + 2 padding - dilation (kernel - 1) - 1) / stride⌋ + 1, …, C].
 * The gradient goes to the first of equal ones. What lies outside is never the greatest.
 * @throws UserError when a window does not fit the image or is padded by more than half
 */
export function maxPool(x: Tensor, options: PoolingOptions & { dilation?: number | Extents } = {}): Tensor {
  const { patches, output } = windowsOf(x, options);
  const [n, h, w, c] = x.shape;
  const [kernelRows, kernelColumns] = patches.kernel;
  const count = kernelRows * kernelColumns;
  const windows = reshape(im2col(bordered(x, patches.before), { ...patches, before: [0, 0] }, output), [
    n,
    ...output,
    count,
    c,
  ]);
  const value = max(windows, [3]);
  return withGradient(value, [x], (g) => {
    // Taps count from 1, as outside of what was pooled im2col reads 0.
    const taps = add(toFloat(iota([count, 1])), 1);
    const found = equal(windows, reshape(value, [n, ...output, 1, c]));
    const chosen = neg(max(neg(where(found, taps, count)), [3]));
    const gradient = fromPatches([n, h, w, c], patches, ([rows, columns], window, extents) => {
      const places = reversed(rows).flatMap((row) =>
        reversed(columns).map((column) => row * kernelColumns + column + 1),
      );
      const [at, flowing] = [chosen, g].map((y) =>
        reshape(im2col(y, window, extents), [n, ...extents, places.length, c]),
      );
      const own = equal(at, tensor(places, [places.length, 1]));
      return sum(where(own, flowing, 0), [3]);
    });
    return [gradient];
  });
}

/** Images with a border that is less than everything. */
function bordered(x: Tensor, [rows, columns]: Extents): Tensor {
  if (!rows && !columns) return x;
  const [n, h, w, c] = x.shape;
  const whole = [n, h + 2 * rows, w + 2 * columns, c];
  const place = (y: Tensor) => pad(y, [0, rows, columns, 0], whole);
  return where(place(constant(1, x.shape)), place(x), lowest);
}
const lowest = -3.4028234e38;

function windowsOf(
  x: Tensor,
  { kernel = 2, stride = kernel, padding = 0, dilation = 1 }: PoolingOptions & { dilation?: number | Extents },
): { patches: Patches; output: Extents } {
  if (x.shape.length !== 4) throw new UserError(`pooling of [${x.shape}]: images are [n, h, w, c]`);
  const patches = { kernel: pair(kernel), stride: pair(stride), dilation: pair(dilation), before: pair(padding) };
  const whole = (values: Extents, least: number) => values.every((v) => Number.isInteger(v) && v >= least);
  const valid = whole(patches.kernel, 1) && whole(patches.stride, 1) && whole(patches.dilation, 1);
  if (!valid || !whole(patches.before, 0) || patches.before.some((p, axis) => 2 * p > patches.kernel[axis])) {
    throw new UserError(
      `pooling by windows of [${patches.kernel}], stride [${patches.stride}] and padding [${patches.before}]: whole numbers, the padding at most half a window`,
    );
  }
  const output = windowsIn([x.shape[1], x.shape[2]], patches);
  if (Math.min(...output) < 1) throw new UserError(`windows of [${patches.kernel}] do not fit images [${x.shape}]`);
  return { patches, output };
}

const range = (first: number, end: number) => Array.from({ length: end - first }, (_, i) => first + i);
