import { UserError } from '../errors.js';
import { constant, Tensor, withGradient, type Patches } from '../tensor/tensor.js';
import { expand, sum } from './broadcast.js';
import { matmul } from './matmul.js';
import { concat, gather, iota, pad, permute, reshape, slice } from './movement.js';
import { add, mul, sub } from './pointwise.js';
import type { IndexRule } from './rule.js';

export interface ConvolutionOptions {
  stride?: number;
  /** Zeros on every side. */
  padding?: number;
}

/**
 * Two-dimensional convolution (cross-correlation, as everywhere in the field) of images [N, H, W, C] with a weight
 * [kernel rows, kernel columns, C, out]: [N, (H + 2 padding - rows) / stride + 1, …, out].
 * It is an implicit GEMM: the patches are a view that the matmul kernels evaluate while loading.
 * @throws UserError when the channels differ or the kernel does not fit the image
 */
export function conv2d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  { stride = 1, padding = 0 }: ConvolutionOptions = {},
): Tensor {
  const [, height, width, channels] = x.shape;
  const [rows, columns, inner] = weight.shape;
  if (x.shape.length !== 4 || weight.shape.length !== 4 || inner !== channels) {
    throw new UserError(`conv2d of [${x.shape}] with a weight [${weight.shape}]: channels come last and must agree`);
  }
  const extent = (size: number, kernel: number) => Math.floor((size + 2 * padding - kernel) / stride) + 1;
  const output = [extent(height, rows), extent(width, columns)] as const;
  if (Math.min(...output) < 1) throw new UserError(`a kernel of ${rows}x${columns} does not fit images [${x.shape}]`);
  const y = correlate(x, weight, stride, [padding, padding], output);
  return bias ? add(y, bias) : y;
}

/** Every pixel repeated to 2 x 2: [N, H, W, C] to [N, 2 H, 2 W, C]. */
export function upsampleNearest(x: Tensor): Tensor {
  const [n, h, w, c] = x.shape;
  return reshape(expand(reshape(x, [n, h, 1, w, 1, c]), [n, h, 2, w, 2, c]), [n, 2 * h, 2 * w, c]);
}

/**
 * Means of 2 x 2 pixels: [N, H, W, C] to [N, H / 2, W / 2, C].
 * @throws UserError when an extent is odd
 */
export function averagePool(x: Tensor): Tensor {
  const [n, h, w, c] = x.shape;
  if (h % 2 || w % 2) throw new UserError(`average pooling halves images, but ${h}x${w} is odd`);
  return mul(sum(reshape(x, [n, h / 2, 2, w / 2, 2, c]), [2, 4]), 0.25);
}

type Extents = readonly [number, number];

/** Convolution with explicit place and size of the output, and with gradients that are convolutions again. */
function correlate(x: Tensor, weight: Tensor, stride: number, before: Extents, output: Extents): Tensor {
  const lanes = (4 - (x.shape[3] % 4)) % 4;
  if (lanes) {
    // Whole vec4s of channels, so that the patches stay a view.
    const [n, h, w, c] = x.shape;
    const [rows, columns, , out] = weight.shape;
    const [zero, wide] = [[0, 0, 0, 0], c + lanes];
    return correlate(
      pad(x, zero, [n, h, w, wide]),
      pad(weight, zero, [rows, columns, wide, out]),
      stride,
      before,
      output,
    );
  }
  const [rows, columns, channels, out] = weight.shape;
  const patches = im2col(x, { kernel: [rows, columns], stride, before }, output);
  const value = matmul(reshape(patches, [-1, rows * columns * channels]), reshape(weight, [-1, out]));
  return withGradient(reshape(value, [x.shape[0], ...output, out]), [x, weight], (g) => [
    inputGradient(g, weight, stride, before, [x.shape[1], x.shape[2]]),
    weightGradient(g, patches, weight),
  ]);
}

/** Patches [N, output rows, output columns, kernel rows · kernel columns · C] of images [N, H, W, C]. */
function im2col(x: Tensor, patches: Patches, [rows, columns]: Extents): Tensor {
  const [n, h, w, c] = x.shape;
  const { kernel, stride, before } = patches;
  const taps = kernel[0] * kernel[1];
  const plain = taps === 1 && stride === 1 && before[0] === 0 && before[1] === 0 && rows === h && columns === w;
  return plain ? x : new Tensor('im2col', [x], patches, [n, rows, columns, taps * c]);
}

/** Σ patches ᵀ g, summed image by image first: the split keeps many workgroups busy, in a fixed order. */
function weightGradient(g: Tensor, patches: Tensor, weight: Tensor): Tensor {
  const [n, rows, columns, out] = g.shape;
  const positions = rows * columns;
  // Short sums are joined, as long as images divide evenly.
  let images = 1;
  while (images * positions < shortestSum && n % (images * 2) === 0) images *= 2;
  const parts = [n / images, images * positions];
  const products = matmul(reshape(patches, [...parts, -1]), reshape(g, [...parts, out]), { transposeA: true });
  return reshape(sum(products, [0]), weight.shape);
}
const shortestSum = 1024;

/**
 * Gradient of the images. With stride s, input rows fall into s phases; each depends on every s-th tap only and is a
 * convolution of g with these, of stride 1. The phases are then interleaved.
 */
function inputGradient(g: Tensor, weight: Tensor, stride: number, before: Extents, [height, width]: Extents): Tensor {
  const [n] = g.shape;
  const [rows, columns, channels] = weight.shape;
  const extents: Extents = [Math.ceil(height / stride), Math.ceil(width / stride)];
  const phase = (y: number, x: number): Tensor => {
    const [down, across] = [tapsOf(rows, stride, y + before[0]), tapsOf(columns, stride, x + before[1])];
    if (!down.count || !across.count) return constant(0, [n, ...extents, channels]);
    const taps = everyTap(everyTap(weight, 0, down, stride), 1, across, stride);
    const flipped = permute(taps, [0, 1, 3, 2]);
    return correlate(g, flipped, 1, [down.count - 1 - down.shift, across.count - 1 - across.shift], extents);
  };
  const each = Array.from({ length: stride }, (_, i) => i);
  const lines = each.map((y) =>
    concat(
      each.map((x) => reshape(phase(y, x), [n, extents[0], 1, extents[1], 1, channels])),
      4,
    ),
  );
  const whole = reshape(concat(lines, 2), [n, extents[0] * stride, extents[1] * stride, channels]);
  return slice(slice(whole, 1, 0, height), 2, 0, width);
}

/** Taps k = first + m s that meet input positions of a phase, where `offset` is phase + padding; g's row is j + shift - m. */
function tapsOf(kernel: number, stride: number, offset: number) {
  const first = offset % stride;
  return { first, count: Math.max(0, Math.ceil((kernel - first) / stride)), shift: (offset - first) / stride };
}

/** Every `stride`-th tap along an axis, last one first. */
function everyTap(
  weight: Tensor,
  axis: 0 | 1,
  { first, count }: { first: number; count: number },
  stride: number,
): Tensor {
  if (count === 1 && weight.shape[axis] === 1) return weight;
  const order = axis ? permute(weight, [1, 0, 2, 3]) : weight;
  const reversed = mul(sub(count - 1, iota([count])), stride);
  const taken = gather(order, add(reversed, first));
  return axis ? permute(taken, [1, 0, 2, 3]) : taken;
}

export const im2colRule: IndexRule<'im2col'> = {
  kind: 'index',
  cost: 0,
  vectorizes: ({ inputs: [x] }) => x.shape[3] % 4 === 0,
  emit: ({ inputs: [x], attributes: { kernel, stride, before }, shape }, emitter, index, width) => {
    const [, h, w, c] = x.shape;
    const [, rows, columns, patch] = shape;
    const one = (i: string, lanes: 1 | 4) => {
      const place = emitter.line(`${i} / ${patch}u`);
      const inPatch = emitter.line(`${i} % ${patch}u`);
      const tap = emitter.line(`${inPatch} / ${c}u`);
      const image = emitter.line(`${place} / ${rows * columns}u`);
      const down = emitter.line(`${place} / ${columns}u % ${rows}u * ${stride}u + ${tap} / ${kernel[1]}u`);
      const across = emitter.line(`${place} % ${columns}u * ${stride}u + ${tap} % ${kernel[1]}u`);
      // Unsigned: what lies before the image wraps round to beyond it.
      const y = emitter.line(`${down} - ${before[0] >>> 0}u`);
      const xx = emitter.line(`${across} - ${before[1] >>> 0}u`);
      const inside = emitter.line(`${y} < ${h}u && ${xx} < ${w}u`);
      const at = emitter.line(
        `select(0u, ((${image} * ${h}u + ${y}) * ${w}u + ${xx}) * ${c}u + ${inPatch} % ${c}u, ${inside})`,
      );
      const zero = lanes === 4 ? 'vec4f()' : '0f';
      return emitter.line(`select(${zero}, ${emitter.value(x, at, lanes)}, ${inside})`);
    };
    if (width === 1 || c % 4 === 0) return one(index, width);
    const lanes = [0, 1, 2, 3].map((lane) => one(lane ? emitter.line(`${index} + ${lane}u`) : index, 1));
    return emitter.line(`vec4f(${lanes.join(', ')})`);
  },
  // Only convolutions take patches, and they bring their own gradients.
  gradient: null,
};
