import { Tensor, constant } from '../tensor/tensor.js';
import { add } from './pointwise.js';
import { concat, reshape, slice } from './movement.js';
import type { IndexRule } from './rule.js';

/** Which patches of an image [N, H, W, C] are taken: `before` may be negative, what lies outside reads as 0. */
export interface Patches {
  kernel: readonly [number, number];
  stride: readonly [number, number];
  /** Distance of neighbouring taps. */
  dilation: readonly [number, number];
  /** Rows and columns of zeros above and left of the image. */
  before: readonly [number, number];
}

declare module '../tensor/tensor.js' {
  interface OpAttributes {
    im2col: Patches;
  }
}

/** Rows and columns. */
export type Extents = readonly [number, number];

/** One number for rows and columns, or one each. */
export const pair = (value: number | Extents): Extents => (typeof value === 'number' ? [value, value] : value);

/** Windows that fit in each direction of an image: ⌊(size + 2 padding - dilation (kernel - 1) - 1) / stride⌋ + 1. */
export function windowsIn(size: Extents, { kernel, stride, dilation, before }: Patches): Extents {
  const along = (axis: 0 | 1) =>
    Math.floor((size[axis] + 2 * before[axis] - dilation[axis] * (kernel[axis] - 1) - 1) / stride[axis]) + 1;
  return [along(0), along(1)];
}

/** Patches [N, output rows, output columns, kernel rows · kernel columns · C] of images [N, H, W, C]. */
export function im2col(x: Tensor, patches: Patches, [rows, columns]: Extents): Tensor {
  const [n, h, w, c] = x.shape;
  const { kernel, stride, before } = patches;
  const taps = kernel[0] * kernel[1];
  const still = [...stride, taps].every((extent) => extent === 1) && before.every((extent) => extent === 0);
  return still && rows === h && columns === w ? x : new Tensor('im2col', [x], patches, [n, rows, columns, taps * c]);
}

/** Taps first, first + step, … along one direction of a kernel. */
export interface Taps {
  first: number;
  step: number;
  count: number;
}

/** The numbers of the taps, last one first. */
export const reversed = ({ first, step, count }: Taps): number[] =>
  Array.from({ length: count }, (_, i) => first + step * (count - 1 - i));

/**
 * What flows back to images [n, ...extents, channels] from their patches. With stride s, input rows fall into s phases;
 * each depends on some taps only, and lies in a window of stride 1 over the patches' places that has these taps in
 * reversed order. The phases are then interleaved.
 * @param piece computes one phase, [n, ...extents, channels], from the taps in each direction and the window
 */
export function fromPatches(
  [n, height, width, channels]: readonly [number, number, number, number],
  patches: Patches,
  piece: (taps: readonly [Taps, Taps], window: Patches, extents: Extents) => Tensor,
): Tensor {
  const [down, across] = patches.stride;
  const extents: Extents = [Math.ceil(height / down), Math.ceil(width / across)];
  const phase = (y: number, x: number): Tensor => {
    const [rows, columns] = [phaseOf(patches, 0, y), phaseOf(patches, 1, x)];
    if (!rows.taps.count || !columns.taps.count) return constant(0, [n, ...extents, channels]);
    const window: Patches = {
      kernel: [rows.taps.count, columns.taps.count],
      stride: [1, 1],
      dilation: [rows.dilation, columns.dilation],
      before: [rows.before, columns.before],
    };
    return piece([rows.taps, columns.taps], window, extents);
  };
  const each = (count: number) => Array.from({ length: count }, (_, i) => i);
  const lines = each(down).map((y) =>
    concat(
      each(across).map((x) => reshape(phase(y, x), [n, extents[0], 1, extents[1], 1, channels])),
      4,
    ),
  );
  const whole = reshape(concat(lines, 2), [n, extents[0] * down, extents[1] * across, channels]);
  return slice(slice(whole, 1, 0, height), 2, 0, width);
}

/**
 * Along one direction, the taps k that meet input positions i s + phase: s j + d k = i s + phase + before. With q the
 * greatest common divisor of s and d these are every s / q-th one, from the first that leaves no remainder on; tap m of
 * them belongs to the patch at j = i + shift - m d / q.
 */
function phaseOf({ kernel, stride, dilation, before }: Patches, axis: 0 | 1, phase: number) {
  const [s, d, offset] = [stride[axis], dilation[axis], phase + before[axis]];
  const q = greatestCommonDivisor(s, d);
  const step = s / q;
  let first = 0;
  while (first < step && (offset - d * first) % s) first++;
  const count = first < step ? Math.max(0, Math.ceil((kernel[axis] - first) / step)) : 0;
  const shift = (offset - d * first) / s;
  return { taps: { first, step, count }, dilation: d / q, before: ((count - 1) * d) / q - shift };
}

const greatestCommonDivisor = (a: number, b: number): number => (b ? greatestCommonDivisor(b, a % b) : a);

/** Patches added up where they overlap: the transpose of `im2col`. */
function col2im(g: Tensor, patches: Patches, shape: readonly [number, number, number, number]): Tensor {
  const channels = shape[3];
  return fromPatches(shape, patches, ([rows, columns], { dilation, before }, extents) => {
    const terms = reversed(rows).flatMap((row, u) =>
      reversed(columns).map((column, v) => {
        const start = (row * patches.kernel[1] + column) * channels;
        const shift: Extents = [before[0] - u * dilation[0], before[1] - v * dilation[1]];
        const one: Patches = { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], before: shift };
        return im2col(slice(g, 3, start, start + channels), one, extents);
      }),
    );
    return terms.reduce(add);
  });
}

export const im2colRule: IndexRule<'im2col'> = {
  kind: 'index',
  cost: 0,
  access: 'repeated',
  textual: true,
  vectorizes: ({ inputs: [x] }) => x.shape[3] % 4 === 0,
  emit: ({ inputs: [x], attributes: { kernel, stride, dilation, before }, shape }, emitter, index, width) => {
    const [, h, w, c] = x.shape;
    const [, rows, columns, patch] = shape;
    const one = (i: string, lanes: 1 | 4) => {
      const place = emitter.line(`${i} / ${patch}u`);
      const inPatch = emitter.line(`${i} % ${patch}u`);
      const tap = emitter.line(`${inPatch} / ${c}u`);
      const image = emitter.line(`${place} / ${rows * columns}u`);
      const times = (factor: number) => (factor === 1 ? '' : ` * ${factor}u`);
      const down = emitter.line(
        `${place} / ${columns}u % ${rows}u${times(stride[0])} + ${tap} / ${kernel[1]}u${times(dilation[0])}`,
      );
      const across = emitter.line(
        `${place} % ${columns}u${times(stride[1])} + ${tap} % ${kernel[1]}u${times(dilation[1])}`,
      );
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
  gradient: ({ inputs: [x], attributes }, g) => {
    const [n, h, w, c] = x.shape;
    return [col2im(g, attributes, [n, h, w, c])];
  },
};
