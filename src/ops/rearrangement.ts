import { UserError } from '../errors.js';
import { axisOf, sizeOf } from '../tensor/shape.js';
import { tensor, withGradient, type Tensor } from '../tensor/tensor.js';
import { expand } from './broadcast.js';
import { concat, gather, iota, permute, reshape, slice } from './movement.js';
import { add, mul, sub } from './pointwise.js';

/** Without the given axes, or all, of extent 1. @throws UserError when a given one is longer */
export function squeeze(x: Tensor, axes?: readonly number[]): Tensor {
  const rank = x.shape.length;
  const gone = new Set(
    axes?.map((axis) => axisOf(axis, rank)) ?? x.shape.flatMap((e, axis) => (e === 1 ? [axis] : [])),
  );
  for (const axis of gone)
    if (x.shape[axis] !== 1) throw new UserError(`squeeze of axis ${axis} of [${x.shape}], which is longer than 1`);
  return reshape(
    x,
    x.shape.filter((_, axis) => !gone.has(axis)),
  );
}

/** With a new axis of extent 1 at the given place of the result. */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  const shape = [...x.shape];
  shape.splice(axisOf(axis, x.shape.length + 1), 0, 1);
  return reshape(x, shape);
}

/** Tensors of one shape side by side along a new axis of the result. @throws UserError when their shapes differ */
export function stack(parts: readonly Tensor[], axis = 0): Tensor {
  return concat(
    parts.map((part) => unsqueeze(part, axis)),
    axis < 0 ? axis + parts[0].shape.length + 1 : axis,
  );
}

/** The whole tensor `counts[i]` times along axis i, aligned at the back: PyTorch's `repeat`, NumPy's `tile`. */
export function tile(x: Tensor, counts: readonly number[]): Tensor {
  const rank = Math.max(counts.length, x.shape.length);
  const times = [...Array<number>(rank - counts.length).fill(1), ...counts];
  const shape = [...Array<number>(rank - x.shape.length).fill(1), ...x.shape];
  const apart = shape.flatMap((extent) => [1, extent]);
  const each = shape.flatMap((extent, axis) => [times[axis], extent]);
  return reshape(
    expand(reshape(x, apart), each),
    shape.map((extent, axis) => extent * times[axis]),
  );
}

/** Each element `count` times in a row along an axis: PyTorch's `repeat_interleave`, NumPy's `repeat`. */
export function repeat(x: Tensor, count: number, axis: number): Tensor {
  const after = axisOf(axis, x.shape.length) + 1;
  const [outer, inner] = [x.shape.slice(0, after), x.shape.slice(after)];
  return reshape(
    expand(reshape(x, [...outer, 1, ...inner]), [...outer, count, ...inner]),
    x.shape.map((extent, i) => (i === after - 1 ? extent * count : extent)),
  );
}

/** Elements in reverse order along axes. */
export function flip(x: Tensor, axes: readonly number[]): Tensor {
  return [...new Set(axes.map((axis) => axisOf(axis, x.shape.length)))].reduce(flipAxis, x);
}

function flipAxis(x: Tensor, axis: number): Tensor {
  const extent = x.shape[axis];
  if (extent === 1) return x;
  const [outer, inner] = [sizeOf(x.shape.slice(0, axis)), sizeOf(x.shape.slice(axis + 1))];
  const rows = add(mul(iota([outer, 1]), extent), sub(extent - 1, iota([1, extent])));
  const value = gather(reshape(x, [outer * extent, inner]), rows);
  return withGradient(reshape(value, x.shape), [x], (g) => [flipAxis(g, axis)]);
}

/** Elements moved on by `shift` places along an axis, those beyond its end to its start. */
export function roll(x: Tensor, shift: number, axis: number): Tensor {
  const extent = x.shape[axisOf(axis, x.shape.length)];
  const start = (((-shift % extent) + extent) % extent) as number;
  return start ? concat([slice(x, axis, start, extent), slice(x, axis, 0, start)], axis) : x;
}

/** Slices at the given places of an axis, in their order: `gather` along any axis. */
export function take(x: Tensor, indices: Tensor | readonly number[], axis: number): Tensor {
  const along = axisOf(axis, x.shape.length);
  const places = 'op' in indices ? indices : tensor(Uint32Array.from(indices));
  if (places.shape.length !== 1) throw new UserError(`take at places of shape [${places.shape}]: they have one axis`);
  const order = [along, ...x.shape.flatMap((_, i) => (i === along ? [] : [i]))];
  const back = x.shape.map((_, i) => order.indexOf(i));
  return permute(gather(permute(x, order), places), back);
}

/** What continues a tensor beyond its edge: the mirror image without the edge itself, the edge, or the other end. */
export type EdgeMode = 'reflect' | 'replicate' | 'circular';

/**
 * Continues an axis by `before` and `after` elements.
 * @throws UserError when a mirror image or the other end is too short for it
 */
export function padEdges(x: Tensor, axis: number, [before, after]: readonly [number, number], mode: EdgeMode): Tensor {
  const extent = x.shape[axisOf(axis, x.shape.length)];
  const most = { reflect: extent - 1, replicate: Infinity, circular: extent }[mode];
  if (Math.max(before, after) > most)
    throw new UserError(`${mode} padding of [${before}, ${after}] of axis ${axis} of [${x.shape}]: at most ${most}`);
  const piece = (start: number, count: number) => slice(x, axis, start, start + count);
  const ends = {
    reflect: () => [before && flip(piece(1, before), [axis]), after && flip(piece(extent - 1 - after, after), [axis])],
    replicate: () => [before && repeat(piece(0, 1), before, axis), after && repeat(piece(extent - 1, 1), after, axis)],
    circular: () => [before && piece(extent - before, before), after && piece(0, after)],
  }[mode]();
  return concat(
    [ends[0], x, ends[1]].filter((part) => part !== 0),
    axis,
  );
}

/** Channels to pixels (Shi et al., 2016): [N, H, W, C · factor²], C first as in PyTorch, to [N, H factor, W factor, C]. */
export function pixelShuffle(x: Tensor, factor: number): Tensor {
  const [n, h, w, c] = x.shape;
  if (c % factor ** 2) throw new UserError(`${c} channels of [${x.shape}] do not make pixels of ${factor}x${factor}`);
  const apart = reshape(x, [n, h, w, c / factor ** 2, factor, factor]);
  return reshape(permute(apart, [0, 1, 4, 2, 5, 3]), [n, h * factor, w * factor, c / factor ** 2]);
}

/** The inverse of `pixelShuffle`. */
export function pixelUnshuffle(x: Tensor, factor: number): Tensor {
  const [n, h, w, c] = x.shape;
  if (h % factor || w % factor) throw new UserError(`pixels of ${factor}x${factor} do not tile images [${x.shape}]`);
  const apart = reshape(x, [n, h / factor, factor, w / factor, factor, c]);
  return reshape(permute(apart, [0, 1, 3, 5, 2, 4]), [n, h / factor, w / factor, c * factor ** 2]);
}
