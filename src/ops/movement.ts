import { UserError } from '../errors.js';
import type { HostArray } from '../gpu/storage.js';
import { axisOf, sameShape, sizeOf, stridesOf, type Shape } from '../tensor/shape.js';
import { Tensor } from '../tensor/tensor.js';
import { requireFloats } from './floats.js';
import { emitView, patternOf, simplify, type StridedView } from './strided.js';
import type { IndexRule, Width } from './rule.js';

declare module '../tensor/tensor.js' {
  interface OpAttributes {
    reshape: object;
    permute: { axes: readonly number[] };
    slice: { start: readonly number[] };
    pad: { before: readonly number[] };
    concat: { axis: number };
    gather: object;
    scatterAdd: { rows: number };
    barrier: { id: number };
    iota: object;
  }
}

/** The same elements in row-major order under another shape; one extent may be -1. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const known = shape.filter((extent) => extent !== -1);
  if (known.length < shape.length - 1) throw new UserError(`[${shape}]: one extent at most may be -1`);
  const full = known.length === shape.length ? shape : shape.map((e) => (e === -1 ? x.size / sizeOf(known) : e));
  if (sizeOf(full) !== x.size) throw new UserError(`a tensor of shape [${x.shape}] cannot be reshaped to [${shape}]`);
  return sameShape(full, x.shape) ? x : new Tensor('reshape', [x], {}, full, x.dtype);
}

/** Reorders axes: axis `i` of the result is axis `axes[i]` of `x`. */
export function permute(x: Tensor, axes: readonly number[]): Tensor {
  const order = axes.map((axis) => axisOf(axis, x.shape.length));
  if (order.length !== x.shape.length || new Set(order).size !== order.length)
    throw new UserError(`[${axes}] does not reorder the axes of [${x.shape}]`);
  // Where all axes with several elements keep their order, nothing moves.
  const long = order.filter((axis) => x.shape[axis] > 1);
  if (long.every((axis, i) => i === 0 || axis > long[i - 1]))
    return reshape(
      x,
      order.map((axis) => x.shape[axis]),
    );
  return new Tensor(
    'permute',
    [x],
    { axes: order },
    order.map((axis) => x.shape[axis]),
    x.dtype,
  );
}

/** Swaps the last two axes. */
export function transpose(x: Tensor): Tensor {
  if (x.shape.length < 2) throw new UserError(`[${x.shape}] has no two axes to swap`);
  const axes = x.shape.map((_, axis) => axis);
  return permute(x, [...axes.slice(0, -2), axes.length - 1, axes.length - 2]);
}

/** Elements `start … end - 1` along one axis. */
export function slice(x: Tensor, axis: number, start: number, end: number): Tensor {
  const along = axisOf(axis, x.shape.length);
  const whole = Number.isInteger(start) && Number.isInteger(end);
  if (!whole || start < 0 || end > x.shape[along] || start >= end) {
    throw new UserError(`slice ${start}:${end} is outside axis ${along} of [${x.shape}]`);
  }
  if (start === 0 && end === x.shape[along]) return x;
  const starts = x.shape.map((_, i) => (i === along ? start : 0));
  return new Tensor(
    'slice',
    [x],
    { start: starts },
    x.shape.map((e, i) => (i === along ? end - start : e)),
    x.dtype,
  );
}

/** Cuts one axis into equal parts. */
export function split(x: Tensor, axis: number, parts: number): Tensor[] {
  const extent = x.shape[axisOf(axis, x.shape.length)] / parts;
  if (!Number.isInteger(extent)) throw new UserError(`axis ${axis} of [${x.shape}] does not split into ${parts} parts`);
  return Array.from({ length: parts }, (_, part) => slice(x, axis, part * extent, (part + 1) * extent));
}

/**
 * Places `x` at `before` in a tensor of zeros.
 * @throws UserError where it does not fit there
 */
export function pad(x: Tensor, before: readonly number[], shape: Shape): Tensor {
  const fits =
    before.length === x.shape.length &&
    shape.length === x.shape.length &&
    before.every((start, axis) => Number.isInteger(start) && start >= 0 && start + x.shape[axis] <= shape[axis]);
  if (!fits) throw new UserError(`[${x.shape}] at [${before}] does not fit [${shape}]`);
  return sameShape(shape, x.shape) ? x : new Tensor('pad', [x], { before }, shape, x.dtype);
}

/** Joins tensors along one axis; their other extents agree. */
export function concat(parts: readonly Tensor[], axis: number): Tensor {
  if (!parts.length) throw new UserError('no tensors to be joined');
  if (parts.length === 1) return parts[0];
  const [first] = parts;
  const along = axisOf(axis, first.shape.length);
  for (const { shape, dtype } of parts) {
    if (dtype !== first.dtype) throw new UserError(`${first.dtype} and ${dtype} cannot be joined: convert one of them`);
    if (shape.length !== first.shape.length || shape.some((e, i) => i !== along && e !== first.shape[i])) {
      throw new UserError(`[${shape}] and [${first.shape}] cannot be joined along axis ${along}`);
    }
  }
  const total = parts.reduce((sum, part) => sum + part.shape[along], 0);
  return new Tensor(
    'concat',
    parts,
    { axis: along },
    first.shape.map((e, i) => (i === along ? total : e)),
    first.dtype,
  );
}

/** Images [N, C, H, W] as tokens [N, H/p * W/p, C * p * p], each patch in (channel, row, column) order. */
export function patchify(images: Tensor, patch: number): Tensor {
  const [n, c, h, w] = images.shape;
  if (h % patch || w % patch) throw new UserError(`patches of ${patch} do not tile images of ${h}x${w}`);
  const grid = reshape(images, [n, c, h / patch, patch, w / patch, patch]);
  return reshape(permute(grid, [0, 2, 4, 1, 3, 5]), [n, (h / patch) * (w / patch), c * patch * patch]);
}

/** The inverse of `patchify`. */
export function unpatchify(tokens: Tensor, patch: number, [c, h, w]: Shape): Tensor {
  const grid = reshape(tokens, [tokens.shape[0], h / patch, w / patch, c, patch, patch]);
  return reshape(permute(grid, [0, 3, 1, 4, 2, 5]), [tokens.shape[0], c, h, w]);
}

let barriers = 0;

/** The values of `x`; what is computed from them is never merged with the same computation elsewhere. */
export function barrier(x: Tensor): Tensor {
  return new Tensor('barrier', [x], { id: barriers++ }, x.shape, x.dtype);
}

/** 0, 1, 2, … as u32 in row-major order. */
export function iota(shape: Shape): Tensor {
  return new Tensor('iota', [], {}, shape, 'u32');
}

export const reshapeRule: IndexRule<'reshape'> = {
  kind: 'index',
  cost: 0,
  access: 'same',
  emit: ({ inputs: [x] }, emitter, index, width) => emitter.value(x, index, width),
  gradient: ({ inputs: [x] }, g) => [reshape(g, x.shape)],
};

function permutedView({ inputs: [x], attributes }: Tensor<'permute'>): StridedView {
  const strides = stridesOf(x.shape);
  return simplify({
    axes: attributes.axes.map((axis) => ({ extent: x.shape[axis], stride: strides[axis] })),
  });
}

export const permuteRule: IndexRule<'permute'> = {
  kind: 'index',
  cost: 0,
  access: 'moved',
  emit: (node, emitter, index, width) => emitView(emitter, node.inputs[0], permutedView(node), index, width),
  vectorizes: (node) => patternOf(permutedView(node)) !== 'scatter',
  gradient: ({ attributes }, g) => {
    const inverse = new Array<number>(attributes.axes.length);
    attributes.axes.forEach((axis, i) => (inverse[axis] = i));
    return [permute(g, inverse)];
  },
};

function slicedView({ inputs: [x], attributes, shape }: Tensor<'slice'>): StridedView {
  const strides = stridesOf(x.shape);
  return simplify({
    axes: shape.map((extent, axis) => ({ extent, stride: strides[axis] })),
    offset: attributes.start.reduce((sum, start, axis) => sum + start * strides[axis], 0),
  });
}

export const sliceRule: IndexRule<'slice'> = {
  kind: 'index',
  cost: 0,
  access: 'moved',
  emit: (node, emitter, index, width) => emitView(emitter, node.inputs[0], slicedView(node), index, width),
  vectorizes: (node) => patternOf(slicedView(node)) !== 'scatter',
  // A part of a part is one part.
  decompose: ({ attributes: { start }, shape }, [x]) => {
    if (x.op !== 'slice') return null;
    const inner = (x as Tensor<'slice'>).attributes.start;
    const whole = start.map((from, axis) => from + inner[axis]);
    return { value: new Tensor('slice', x.inputs, { start: whole }, shape, x.dtype) };
  },
  gradient: ({ inputs: [x], attributes }, g) => [pad(g, attributes.start, x.shape)],
};

/** Whether runs of 4 are cut nowhere: the axes that are padded, with all that lies within them, decide. */
function padsWhole({ inputs: [x], attributes: { before }, shape }: Tensor<'pad'>): boolean {
  const padded = shape.findLastIndex((extent, axis) => extent !== x.shape[axis]);
  const run = sizeOf(shape.slice(padded + 1));
  return [before[padded], x.shape[padded], shape[padded]].every((extent) => (extent * run) % 4 === 0);
}

export const padRule: IndexRule<'pad'> = {
  kind: 'index',
  cost: 1,
  access: 'moved',
  vectorizes: padsWhole,
  emit: (node, emitter, index, width) => {
    const {
      inputs: [x],
      attributes: { before },
      shape,
    } = node;
    const outer = stridesOf(shape);
    const inner = stridesOf(x.shape);
    const place = (i: string) => {
      const tests: string[] = [];
      const terms: string[] = [];
      shape.forEach((extent, axis) => {
        // One sample is found as several are, by the same kernel.
        if (extent === 1 && axis > 0) return;
        const whole = outer[axis] === 1 ? i : `${i} / ${outer[axis]}u`;
        // The first axis is what is left.
        const own = outer[axis] * extent === sizeOf(shape) ? whole : `(${whole}) % ${extent}u`;
        const coordinate = emitter.line(`${own} - ${before[axis]}u`);
        // An index before the start wraps round to a huge one, so that one comparison bounds both sides.
        if (x.shape[axis] !== extent) tests.push(`${coordinate} < ${x.shape[axis]}u`);
        terms.push(`${coordinate} * ${inner[axis]}u`);
      });
      const inside = emitter.line(tests.join(' && '));
      return { inside, at: emitter.line(`select(0u, ${terms.join(' + ')}, ${inside})`) };
    };
    const zero = x.dtype === 'f32' ? '0f' : '0u';
    const one = (i: string) => {
      const { inside, at } = place(i);
      return emitter.line(`select(${zero}, ${emitter.value(x, at, 1)}, ${inside})`);
    };
    if (width === 1) return one(index);
    const type = x.dtype === 'f32' ? 'vec4f' : 'vec4u';
    if (padsWhole(node)) {
      const { inside, at } = place(index);
      return emitter.line(`select(${type}(), ${emitter.value(x, at, 4)}, ${inside})`);
    }
    const lanes = [0, 1, 2, 3].map((lane) => one(lane ? emitter.line(`${index} + ${lane}u`) : index));
    return emitter.line(`${type}(${lanes.join(', ')})`);
  },
  gradient: ({ inputs: [x], attributes: { before } }, g) => [
    before.reduce((part, start, axis) => slice(part, axis, start, start + x.shape[axis]), g),
  ],
};

/** Whether runs of 4 are cut nowhere; of samples one after another, whatever their number. */
const joinsWhole = ({ inputs, attributes: { axis }, shape }: Tensor<'concat'>): boolean => {
  const run = sizeOf(shape.slice(axis + 1));
  const samples = axis === 0 && shape.length > 1;
  return samples ? run % 4 === 0 : inputs.every((part) => (part.shape[axis] * run) % 4 === 0);
};

export const concatRule: IndexRule<'concat'> = {
  kind: 'index',
  cost: 2,
  access: 'moved',
  vectorizes: joinsWhole,
  // More parts than a kernel may bind beside its output are joined in several rounds.
  decompose: ({ attributes: { axis } }, inputs, { maxBindings }) => {
    if (inputs.length < maxBindings) return null;
    let parts = [...inputs];
    while (parts.length > 1) {
      const groups = Array.from(
        { length: Math.ceil(parts.length / (maxBindings - 1)) },
        (_, i) => i * (maxBindings - 1),
      );
      parts = groups.map((first) => concat(parts.slice(first, first + maxBindings - 1), axis));
    }
    return { value: parts[0] };
  },
  emit: (node, emitter, index, width) => {
    const {
      inputs,
      attributes: { axis },
      shape,
      dtype,
    } = node;
    const run = sizeOf(shape.slice(axis + 1));
    const row = shape[axis] * run;
    const single = axis === 0;
    const scalar = dtype === 'f32' ? 'f32' : 'u32';
    const choose = (i: string, w: Width) => {
      const outer = single ? '0u' : emitter.line(`${i} / ${row}u`);
      const within = single ? i : emitter.line(`${i} % ${row}u`);
      const type = w === 4 ? (dtype === 'f32' ? 'vec4f' : 'vec4u') : scalar;
      let start = 0;
      let chosen = `${type}()`;
      for (const part of inputs) {
        const extent = part.shape[axis] * run;
        const local = emitter.line(`${within} - ${start}u`);
        const inside = emitter.line(`${local} < ${extent}u`);
        const place = single ? local : `${outer} * ${extent}u + ${local}`;
        const at = emitter.line(`select(0u, ${place}, ${inside})`);
        chosen = emitter.line(`select(${chosen}, ${emitter.value(part, at, w)}, ${inside})`);
        start += extent;
      }
      return chosen;
    };
    if (width === 1 || joinsWhole(node)) return choose(index, width);
    const lanes = [0, 1, 2, 3].map((lane) => choose(lane ? emitter.line(`${index} + ${lane}u`) : index, 1));
    return emitter.line(`vec4<${scalar}>(${lanes.join(', ')})`);
  },
  gradient: ({ inputs, attributes: { axis } }, g) => {
    let start = 0;
    return inputs.map((part) => {
      const end = start + part.shape[axis];
      const piece = slice(g, axis, start, end);
      start = end;
      return piece;
    });
  },
};

export const barrierRule: IndexRule<'barrier'> = {
  kind: 'index',
  cost: 0,
  access: 'same',
  emit: ({ inputs: [x] }, emitter, index, width) => emitter.value(x, index, width),
  gradient: (_, g) => [g],
};

export const iotaRule: IndexRule<'iota'> = {
  kind: 'index',
  cost: 0,
  access: 'same',
  emit: (_, emitter, index, width) => (width === 1 ? index : emitter.line(`vec4u(${index}) + vec4u(0u, 1u, 2u, 3u)`)),
  gradient: null,
};

/**
 * Rows of a table: `table[indices[i]]`, u32 indices of any shape; the gradient adds up rows in a fixed order. A row that
 * the table does not have reads as zeros and has no gradient.
 * @throws UserError where indices that the host knows are outside the table
 */
export function gather(table: Tensor, indices: Tensor): Tensor {
  if (!table.shape.length) throw new UserError('a table to gather from has one axis at least');
  checkIndices(indices, table.shape[0]);
  return new Tensor('gather', [table, indices], {}, [...indices.shape, ...table.shape.slice(1)], table.dtype);
}

/**
 * Sums rows of `values` [...indices.shape, …] into a table [rows, …] by u32 `indices`; those of rows that the table does
 * not have are left out.
 * @throws UserError where indices that the host knows are outside the table
 */
export function scatterAdd(values: Tensor, indices: Tensor, rows: number): Tensor {
  checkIndices(indices, rows);
  requireFloats('scatterAdd', values);
  if (!sameShape(values.shape.slice(0, indices.shape.length), indices.shape))
    throw new UserError(`values of shape [${values.shape}] are no rows for indices of shape [${indices.shape}]`);
  const row = values.shape.slice(indices.shape.length);
  return new Tensor('scatterAdd', [values, indices], { rows }, [rows, ...row]);
}

function checkIndices(indices: Tensor, rows: number): void {
  if (indices.dtype !== 'u32') throw new UserError('indices are u32: toIndex makes them of f32');
  const wrong = knownValues(indices)?.find((index) => index >= rows);
  if (wrong !== undefined) throw new UserError(`index ${wrong} is outside a table of ${rows} rows`);
}

/** The values of a literal, in any order, also when it was moved as a whole. */
function knownValues(node: Tensor): HostArray | undefined {
  if (node.op === 'reshape' || node.op === 'permute') return knownValues(node.inputs[0]);
  if (node.op !== 'storage') return undefined;
  const { storage, offset } = (node as Tensor<'storage'>).attributes;
  return storage.fixed ? storage.initial?.subarray(offset, offset + node.size) : undefined;
}

export const gatherRule: IndexRule<'gather'> = {
  kind: 'index',
  cost: 1,
  access: 'repeated',
  vectorizes: ({ inputs: [table] }) => sizeOf(table.shape.slice(1)) % 4 === 0,
  emit: ({ inputs: [table, indices] }, emitter, index, width) => {
    const [row, rows] = [sizeOf(table.shape.slice(1)), table.shape[0]];
    const [one, four] = table.dtype === 'f32' ? ['f32', 'vec4f'] : ['u32', 'vec4u'];
    const read = (i: string, w: Width) => {
      const chosen = emitter.value(indices, emitter.line(`${i} / ${row}u`), 1);
      const bounded = emitter.line(`min(${chosen}, ${rows - 1}u)`);
      const value = emitter.value(table, emitter.line(`${bounded} * ${row}u + ${i} % ${row}u`), w);
      return emitter.line(`select(${w === 4 ? four : one}(), ${value}, ${chosen} < ${rows}u)`);
    };
    if (width === 1 || row % 4 === 0) return read(index, width);
    const lanes = [0, 1, 2, 3].map((lane) => read(lane ? emitter.line(`${index} + ${lane}u`) : index, 1));
    return emitter.line(`${four}(${lanes.join(', ')})`);
  },
  gradient: ({ inputs: [table, indices] }, g) => [scatterAdd(g, indices, table.shape[0]), null],
};
