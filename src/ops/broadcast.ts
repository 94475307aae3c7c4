import { UserError } from '../errors.js';
import type { Profile } from '../gpu/profile.js';
import { axisOf, broadcastShapes, sameShape, sizeOf, stridesOf, type Shape } from '../tensor/shape.js';
import { Tensor, withGradient } from '../tensor/tensor.js';
import { about, stored, taken, type Choice } from './choice.js';
import { requireFloats } from './floats.js';
import { concat, reshape, slice } from './movement.js';
import { rowChoice, rowKernel } from './rows.js';
import { emitView, patternOf, simplify, type StridedView } from './strided.js';
import { bool, u32, type IndexRule, type Kernel, type KernelRule } from './rule.js';

/** How axes are reduced. */
export type ReduceKind = 'sum' | 'max';

declare module '../tensor/tensor.js' {
  interface OpAttributes {
    expand: object;
    reduce: { kind: ReduceKind; outer: number; length: number; inner: number };
  }
}

/**
 * Repeats `x` to a larger shape by NumPy's rules. Expansion and summation are each other's gradients.
 * @throws UserError where `x` does not repeat to that shape
 */
export function expand(x: Tensor, shape: Shape): Tensor {
  if (!sameShape(broadcastShapes(x.shape, shape), shape))
    throw new UserError(`a tensor of shape [${x.shape}] does not repeat to [${shape}]`);
  return sameShape(x.shape, shape) ? x : new Tensor('expand', [x], {}, shape, x.dtype);
}

/** Sums over axes (all by default); they vanish unless `keep`. Order of summation is fixed. */
export function sum(x: Tensor, axes?: readonly number[], keep = false): Tensor {
  return reduce(x, 'sum', axes, keep);
}

/** Greatest element over axes (all by default). Elements that share the first place share the gradient evenly. */
export function max(x: Tensor, axes?: readonly number[], keep = false): Tensor {
  const kept = reduce(x, 'max', axes, true);
  const shape = reducedShape(x.shape, axes);
  // By hand, because the maximum may be taken in stages, which would share it out between stages first.
  const value = withGradient(kept, [x], (g) => {
    const first = pointwise('equal', x, expand(kept, x.shape));
    const share = pointwise('div', g, sum(first, axes, true));
    return [pointwise('mul', first, expand(share, x.shape))];
  });
  return keep ? value : reshape(value, shape);
}

/** A shape without the given axes. */
function reducedShape(shape: Shape, axes: readonly number[] = shape.map((_, axis) => axis)): number[] {
  const reduced = new Set(axes.map((axis) => axisOf(axis, shape.length)));
  return shape.filter((_, axis) => !reduced.has(axis));
}

/** Sums whatever broadcasting repeated, so that the result has the shape of an operand. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const lead = x.shape.length - shape.length;
  const axes = x.shape
    .map((_, axis) => axis)
    .filter((axis) => axis < lead || (shape[axis - lead] === 1 && x.shape[axis] > 1));
  return reshape(sum(x, axes), shape);
}

// The operations of pointwise.ts, which builds on this file, without broadcasting.
const pointwise = (op: 'equal' | 'mul' | 'div', a: Tensor, b: Tensor) => new Tensor(op, [a, b], {}, a.shape);

// Beyond this length a reduction is cut in parts that run side by side, then reduced again. Rows in memory are shared by
// several lanes each, so they may be longer than columns.
const longest = (inner: number): number => (inner === 1 ? 16384 : 1024);
const parts = 256;

function reduce(x: Tensor, kind: ReduceKind, axes: readonly number[] | undefined, keep: boolean): Tensor {
  requireFloats(kind, x);
  const rank = x.shape.length;
  const reduced = new Set((axes ?? x.shape.map((_, axis) => axis)).map((axis) => axisOf(axis, rank)));
  const kept = x.shape.filter((_, axis) => !reduced.has(axis));
  const result = keep ? x.shape.map((extent, axis) => (reduced.has(axis) ? 1 : extent)) : kept;
  const length = x.size / sizeOf(kept);
  if (length === 1) return reshape(x, result);
  // Axes that lie together are reduced at once, from the last ones on, so that memory is read in order.
  const shape = [...x.shape];
  let y = x;
  for (let last = rank - 1; last >= 0; last--) {
    if (!reduced.has(last)) continue;
    let first = last;
    while (first > 0 && (reduced.has(first - 1) || shape[first - 1] === 1)) first--;
    const [outer, extent] = [sizeOf(shape.slice(0, first)), sizeOf(shape.slice(first, last + 1))];
    y = reduceMiddle(y, kind, outer, extent, sizeOf(shape.slice(last + 1)));
    shape.fill(1, first, last + 1);
    last = first;
  }
  return reshape(y, result);
}

/** The length of the parts that a reduction of such a length is first cut in; undefined where it is not cut. */
function partOf(length: number, inner: number): number | undefined {
  if (length <= longest(inner)) return undefined;
  const whole = Math.ceil(length / parts);
  if (length % whole === 0 && whole > 1) return whole;
  for (let part = Math.floor(Math.sqrt(length)); part > 1; part--) if (length % part === 0) return part;
  return undefined;
}

/** Reduces [outer, length, inner] to [outer, inner]. */
function reduceMiddle(x: Tensor, kind: ReduceKind, outer: number, length: number, inner: number): Tensor {
  const part = partOf(length, inner);
  if (part === undefined) return new Tensor('reduce', [x], { kind, outer, length, inner }, [outer, inner]);
  const first = reduceMiddle(x, kind, (outer * length) / part, part, inner);
  return reduceMiddle(first, kind, outer, length / part, inner);
}

/**
 * Σ x² over flat tensors laid end to end, [1]: to the bit `sum(square(concat(pages)))`, while no kernel reads more than
 * two neighbours, or a few where pages are shorter than the rows that sums are made of.
 */
export function sumOfSquares(pages: readonly Tensor[]): Tensor {
  const squares = (x: Tensor) => pointwise('mul', x, x);
  const length = pages.reduce((total, { size }) => total + size, 0);
  // From the whole down to the rows that are summed first.
  const lengths = [length];
  for (let part = partOf(length, 1); part !== undefined; part = partOf(part, 1)) lengths.push(part);
  const row = lengths.at(-1)!;
  const starts = pages.map((_, i) => pages.slice(0, i).reduce((total, { size }) => total + size, 0));
  /** Rows `from` to before `to`, which may begin and end in different pages. */
  const rows = (from: number, to: number) => {
    const pieces = pages.flatMap((page, i) => {
      const [first, last] = [Math.max(0, from * row - starts[i]), Math.min(page.size, to * row - starts[i])];
      return first < last ? [slice(page, 0, first, last)] : [];
    });
    return reduceMiddle(squares(concat(pieces, 0)), 'sum', to - from, row, 1);
  };
  const sums: Tensor[] = [];
  for (let from = 0; from < length / row;) {
    const page = starts.findLastIndex((start) => start <= from * row);
    // All rows that end in this page, or the one that goes on in the next.
    const to = Math.max(from + 1, Math.floor((starts[page] + pages[page].size) / row));
    sums.push(reshape(rows(from, to), [to - from]));
    from = to;
  }
  let total = concat(sums, 0);
  for (let i = lengths.length - 1; i > 0; i--)
    total = reduceMiddle(total, 'sum', length / lengths[i - 1], lengths[i - 1] / lengths[i], 1);
  return reshape(total, [1]);
}

function expandedView({ inputs: [x], shape }: Tensor<'expand'>): StridedView {
  const strides = stridesOf(x.shape);
  const lead = shape.length - x.shape.length;
  // One sample is found as several are.
  const repeats = (axis: number) => (x.shape[axis - lead] ?? 1) === 1 && !(axis === 0 && lead === 0 && shape[0] === 1);
  return simplify({
    axes: shape.map((extent, axis) => ({ extent, stride: repeats(axis) ? 0 : strides[axis - lead] })),
  });
}

export const expandRule: IndexRule<'expand'> = {
  kind: 'index',
  cost: 0,
  access: 'repeated',
  emit: (node, emitter, index, width) => emitView(emitter, node.inputs[0], expandedView(node), index, width),
  vectorizes: (node) => patternOf(expandedView(node)) !== 'scatter',
  gradient: ({ inputs: [x] }, g) => [sumTo(g, x.shape)],
};

type Reduction = Tensor<'reduce'>;

const rowsShape = ({ attributes: { outer, length } }: Reduction): Shape => [outer, 1, length];

/** How many invocations share the rows of a column. */
function columnChoice(
  { attributes: { outer, length, inner } }: Reduction,
  profile: Profile,
): Choice<{ lanes: number }> {
  return {
    key: `reduce-columns ${[outer, length, inner].map(about).join('x')}${stored(profile)}`,
    candidates: (profile.family === 'plain' ? [1] : [8, 1, 4, 16]).map((lanes) => ({ lanes })),
  };
}

export const reduceRule: KernelRule<'reduce'> = {
  kind: 'kernel',
  precise: true,
  choices: (node, profile) => [
    node.attributes.inner > 1 ? columnChoice(node, profile) : rowChoice('reduce-rows', profile, rowsShape(node), 1),
  ],
  kernel: (node, profile): Kernel => {
    const {
      inputs: [x],
      attributes: { kind, outer, length, inner },
    } = node;
    const constants = { MAXIMUM: bool(kind === 'max') };
    if (inner > 1) {
      const { lanes } = taken(columnChoice(node, profile), profile);
      return {
        source: 'reduce-columns',
        library: lanes > 1 ? 'columns-workgroup' : 'columns-invocation',
        constants: { ...constants, ...(lanes > 1 && { LANES: u32(lanes) }) },
        numbers: { OUTER: outer, LENGTH: length, INNER: inner },
        operands: [{ name: 'x', tensor: x, fusion: 'any', run: inner }],
        workgroups: Math.ceil((outer * Math.ceil(inner / 4) * lanes) / 64),
        run: inner,
      };
    }
    const kernel = rowKernel('reduce-rows', profile, rowsShape(node), 1, { x });
    return { ...kernel, constants: { ...kernel.constants, ...constants }, run: 1 };
  },
  // Such as the gradients of a norm's scale and shift.
  beside: (node, other, profile) => {
    const { kind, outer, length, inner } = node.attributes;
    if (other.op !== 'reduce' || inner === 1) return null;
    const { attributes: its, inputs } = other as Reduction;
    if (its.kind !== kind || its.outer !== outer || its.length !== length || its.inner !== inner) return null;
    const kernel = reduceRule.kernel(node, profile);
    const y = { ...kernel.operands[0], name: 'y', tensor: inputs[0] };
    return { ...kernel, source: 'reduce-columns-pair', operands: [...kernel.operands, y], secondary: outer * inner };
  },
  gradient: (node, g) => {
    const {
      inputs: [x],
      attributes: { kind, outer, inner },
    } = node;
    // That of a maximum is written where it is asked for, as it may be taken in stages.
    if (kind === 'max') return [null];
    return [reshape(expand(reshape(g, [outer, 1, inner]), [outer, x.size / outer / inner, inner]), x.shape)];
  },
};
