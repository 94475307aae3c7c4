import { UserError } from '../errors.js';
import { withGradient, type Tensor } from '../tensor/tensor.js';
import { sum } from './broadcast.js';
import { matmul } from './matmul.js';
import { gather, iota, pad, permute, reshape, slice } from './movement.js';
import { fromPatches, im2col, pair, windowsIn, type Extents, type Patches, type Taps } from './patches.js';
import { add, mul, sub } from './pointwise.js';

/** How a kernel goes over an image; a number stands for both axes. */
export interface ConvolutionOptions {
  /** Default 1. For rows and columns, as all of these may be. */
  stride?: number | Extents;
  /** Zeros on every side; default 0. */
  padding?: number | Extents;
  /** Distance of the kernel's taps; default 1. */
  dilation?: number | Extents;
  /** Parts of the channels that see only each other; as many as channels make it depthwise. Default 1. */
  groups?: number;
}

/** The same for the transposed form. */
export interface TransposedConvolutionOptions extends ConvolutionOptions {
  /** Added to the result's size at its end, where a stride leaves the size open; default 0. */
  outputPadding?: number | Extents;
}

/**
 * Two-dimensional convolution (cross-correlation, as everywhere in the field) of images [N, H, W, C] with a weight
 * `[kernel rows, kernel columns, C / groups, out]`, of rows ⌊(H + 2 padding - dilation (rows - 1) - 1) / stride⌋ + 1.
 * It is an implicit GEMM: the patches are a view that the matmul kernels evaluate while loading. Depthwise it is a sum
 * over the taps instead.
 * @throws UserError when the channels differ, the groups do not divide them or the kernel does not fit the image
 */
export function conv2d(x: Tensor, weight: Tensor, bias?: Tensor, options: ConvolutionOptions = {}): Tensor {
  const { groups = 1 } = options;
  const [, height, width, channels] = x.shape;
  const [rows, columns, inner, out] = weight.shape;
  if (x.shape.length !== 4 || weight.shape.length !== 4 || inner * groups !== channels) {
    const parts = groups === 1 ? '' : ` in ${groups} groups`;
    throw new UserError(
      `conv2d of [${x.shape}] with a weight [${weight.shape}]${parts}: channels come last and must agree`,
    );
  }
  const patches = windowOf('conv2d', [rows, columns], out, options);
  const output = windowsIn([height, width], patches);
  if (Math.min(...output) < 1) throw new UserError(`a kernel of ${rows}x${columns} does not fit images [${x.shape}]`);
  const [grouped, parts, products] = inGroups(x, weight, groups, inner);
  return withBias(joined(convolve(grouped, parts, patches, output, products), groups, products), bias);
}

/**
 * Transposed convolution: the map from output to images that is the transpose of `conv2d` with the same weight
 * [kernel rows, kernel columns, out / groups, C], on [N, H, W, C]:
 * [N, (H - 1) stride - 2 padding + dilation (rows - 1) + outputPadding + 1, …, out].
 * @throws UserError when the channels differ, the groups do not divide them or nothing is left
 */
export function convTranspose2d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options: TransposedConvolutionOptions = {},
): Tensor {
  const { groups = 1, outputPadding = 0 } = options;
  const [, height, width, channels] = x.shape;
  const [rows, columns, inner, filters] = weight.shape;
  if (x.shape.length !== 4 || weight.shape.length !== 4 || filters !== channels) {
    throw new UserError(
      `convTranspose2d of [${x.shape}] with a weight [${weight.shape}]: channels come last in both and must agree`,
    );
  }
  const patches = windowOf('convTranspose2d', [rows, columns], channels, options);
  const [extra, size] = [pair(outputPadding), [height, width]];
  const { kernel, stride, dilation, before } = patches;
  for (const axis of [0, 1] as const) {
    if (extra[axis] < 0 || extra[axis] >= Math.max(stride[axis], dilation[axis]))
      throw new UserError(`convTranspose2d: outputPadding ${extra[axis]} must be less than the stride or the dilation`);
  }
  const along = (axis: 0 | 1) =>
    (size[axis] - 1) * stride[axis] - 2 * before[axis] + dilation[axis] * (kernel[axis] - 1) + extra[axis] + 1;
  const output: Extents = [along(0), along(1)];
  if (Math.min(...output) < 1)
    throw new UserError(
      `convTranspose2d of [${x.shape}] with a kernel of ${rows}x${columns}: its padding leaves nothing`,
    );
  const [grouped, parts, products] = inGroups(x, weight, groups, inner);
  return withBias(joined(transposed(grouped, parts, patches, output, products), groups, products), bias);
}

/** `ConvolutionOptions` along one axis. */
export interface LineOptions {
  stride?: number;
  padding?: number;
  dilation?: number;
  groups?: number;
}

/** `conv2d` along one axis: [N, L, C] with a weight [kernel, C / groups, out]. @throws UserError as `conv2d` */
export function conv1d(x: Tensor, weight: Tensor, bias?: Tensor, options: LineOptions = {}): Tensor {
  return flat(conv2d(...upright('conv1d', x, weight), bias, upright2d(options)));
}

/** `convTranspose2d` along one axis: [N, L, C] with a weight [kernel, out / groups, C]. @throws UserError as it */
export function convTranspose1d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options: LineOptions & { outputPadding?: number } = {},
): Tensor {
  const { outputPadding = 0 } = options;
  const whole = { ...upright2d(options), outputPadding: [0, outputPadding] as const };
  return flat(convTranspose2d(...upright('convTranspose1d', x, weight), bias, whole));
}

function upright(name: string, x: Tensor, weight: Tensor): [Tensor, Tensor] {
  if (x.shape.length !== 3 || weight.shape.length !== 3)
    throw new UserError(`${name} of [${x.shape}] with a weight [${weight.shape}]: both need three axes`);
  return [reshape(x, [x.shape[0], 1, ...x.shape.slice(1)]), reshape(weight, [1, ...weight.shape])];
}

const upright2d = ({ stride = 1, padding = 0, dilation = 1, groups }: LineOptions): ConvolutionOptions => ({
  stride: [1, stride],
  padding: [0, padding],
  dilation: [1, dilation],
  groups,
});

const flat = (y: Tensor) => reshape(y, [y.shape[0], y.shape[2], y.shape[3]]);
const withBias = (y: Tensor, bias: Tensor | undefined) => (bias ? add(y, bias) : y);

function windowOf(name: string, kernel: Extents, filters: number, options: ConvolutionOptions): Patches {
  const { stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
  const [steps, distances, zeros] = [pair(stride), pair(dilation), pair(padding)];
  const positive = (values: Extents, least: number) => values.every((v) => Number.isInteger(v) && v >= least);
  if (!positive(steps, 1) || !positive(distances, 1) || !positive(zeros, 0)) {
    throw new UserError(
      `${name}: stride [${steps}] and dilation [${distances}] are whole numbers from 1 on, padding [${zeros}] from 0 on`,
    );
  }
  if (!positive([groups, 1], 1) || filters % groups)
    throw new UserError(`${name}: ${groups} groups do not divide ${filters} channels`);
  return { kernel, stride: steps, dilation: distances, before: zeros };
}

/**
 * How patches and weights are multiplied. Weights are [groups, rows, columns, C, out] here, images of all groups
 * [groups · N, H, W, C].
 */
interface Products {
  /** [n, H, W, C] and a weight to [n, ...output, out]. */
  forward(x: Tensor, weight: Tensor, patches: Patches, output: Extents): Tensor;
  /** The same from `out` to C: patches of [n, H, W, out] to [n, ...output, C]. */
  backward(g: Tensor, weight: Tensor, patches: Patches, output: Extents): Tensor;
  /** Σ over all places of patches of x times g, of the weight's shape. */
  weight(x: Tensor, g: Tensor, weight: Tensor, patches: Patches): Tensor;
}

function inGroups(x: Tensor, weight: Tensor, groups: number, inner: number): [Tensor, Tensor, Products] {
  const [rows, columns, , out] = weight.shape;
  // Its weight is [1, rows, columns, C, out / C]: a group is a channel, and stays where it is.
  if (groups > 1 && inner === 1) return [x, reshape(weight, [1, rows, columns, groups, out / groups]), depthwise];
  const [n, h, w, c] = x.shape;
  const images = permute(reshape(x, [n, h, w, groups, c / groups]), [3, 0, 1, 2, 4]);
  const parts = permute(reshape(weight, [rows, columns, inner, groups, out / groups]), [3, 0, 1, 2, 4]);
  return [reshape(images, [groups * n, h, w, c / groups]), parts, dense];
}

/** Groups side by side again. */
function joined(y: Tensor, groups: number, products: Products): Tensor {
  if (products === depthwise || groups === 1) return y;
  const [n, h, w, c] = y.shape;
  const apart = reshape(y, [groups, n / groups, h, w, c]);
  return reshape(permute(apart, [1, 2, 3, 0, 4]), [n / groups, h, w, groups * c]);
}

/** Convolution with explicit size of the output, and with gradients that are convolutions again. */
function convolve(x: Tensor, weight: Tensor, patches: Patches, output: Extents, products: Products): Tensor {
  return withGradient(products.forward(x, weight, patches, output), [x, weight], (g) => [
    transposed(g, weight, patches, [x.shape[1], x.shape[2]], products),
    products.weight(x, g, weight, patches),
  ]);
}

/** The gradient of the images of `convolve`, which `extents` says the size of: a convolution of g for each phase of the stride. */
function transposed(g: Tensor, weight: Tensor, patches: Patches, extents: Extents, products: Products): Tensor {
  const value = fromPatches([g.shape[0], ...extents, weight.shape[3]], patches, ([rows, columns], window, output) =>
    products.backward(g, everyTap(everyTap(weight, 1, rows), 2, columns), window, output),
  );
  return withGradient(value, [g, weight], (u) => [
    convolve(u, weight, patches, [g.shape[1], g.shape[2]], products),
    products.weight(u, g, weight, patches),
  ]);
}

/** Some taps along an axis of a weight, last one first. */
function everyTap(weight: Tensor, axis: 1 | 2, { first, step, count }: Taps): Tensor {
  if (count === 1 && weight.shape[axis] === 1) return weight;
  const order = axis === 1 ? [1, 0, 2, 3, 4] : [2, 1, 0, 3, 4];
  const places = add(mul(sub(count - 1, iota([count])), step), first);
  return permute(gather(permute(weight, order), places), order);
}

const dense: Products = {
  forward(x, weight, patches, output) {
    const [whole, wide] = [wholeLanes(x, 3), wholeLanes(weight, 3)];
    const [groups, rows, columns, channels, out] = wide.shape;
    const inner = rows * columns * channels;
    const value = matmul(
      reshape(im2col(whole, patches, output), [groups, -1, inner]),
      reshape(wide, [groups, inner, out]),
    );
    return reshape(value, [x.shape[0], ...output, out]);
  },
  backward(g, weight, patches, output) {
    const [groups, rows, columns, channels, out] = weight.shape;
    if (rows * columns > 1) return this.forward(g, permute(weight, [0, 1, 2, 4, 3]), patches, output);
    // Of one tap the weight is read as it lies.
    const places = reshape(im2col(g, patches, output), [groups, -1, out]);
    const value = matmul(places, reshape(weight, [groups, channels, out]), { transposeB: true });
    return reshape(value, [g.shape[0], ...output, channels]);
  },
  /** Summed image by image first: the split keeps many workgroups busy, in a fixed order. */
  weight(x, g, weight, patches) {
    const [groups, rows, columns, channels, out] = weight.shape;
    const whole = wholeLanes(x, 3);
    const [n, height, width] = g.shape;
    const positions = height * width;
    // Short sums are joined, as long as images divide evenly.
    let images = 1;
    while (images * positions < shortestSum && (n / groups) % (images * 2) === 0) images *= 2;
    const parts = [groups, n / groups / images, images * positions];
    const products = matmul(
      reshape(im2col(whole, patches, [height, width]), [...parts, -1]),
      reshape(g, [...parts, out]),
      { transposeA: true },
    );
    return slice(reshape(sum(products, [1]), [groups, rows, columns, -1, out]), 3, 0, channels);
  },
};
const shortestSum = 1024;

/** Zeros up to whole vec4s of channels, so that the patches stay a view. */
function wholeLanes(x: Tensor, axis: number): Tensor {
  const shape = x.shape.map((extent, i) => (i === axis ? Math.ceil(extent / 4) * 4 : extent));
  return pad(
    x,
    x.shape.map(() => 0),
    shape,
  );
}

/** Each channel c by itself, to the `out` channels that are its multiples: weights [1, rows, columns, C, multiples]. */
const depthwise: Products = {
  forward(x, weight, patches, output) {
    const [, rows, columns, channels, multiples] = weight.shape;
    const taps = reshape(im2col(x, patches, output), [-1, rows * columns, channels, 1]);
    const value = sum(mul(taps, reshape(weight, [rows * columns, channels, multiples])), [1]);
    return reshape(value, [x.shape[0], ...output, channels * multiples]);
  },
  backward(g, weight, patches, output) {
    const [, rows, columns, channels, multiples] = weight.shape;
    const taps = reshape(im2col(g, patches, output), [-1, rows * columns, channels, multiples]);
    const value = sum(mul(taps, reshape(weight, [rows * columns, channels, multiples])), [1, 3]);
    return reshape(value, [g.shape[0], ...output, channels]);
  },
  weight(x, g, weight, patches) {
    const [, rows, columns, channels, multiples] = weight.shape;
    const taps = im2col(x, patches, [g.shape[1], g.shape[2]]);
    const products = mul(reshape(taps, [-1, rows * columns, channels, 1]), reshape(g, [-1, 1, channels, multiples]));
    return reshape(sum(products, [0]), weight.shape);
  },
};
