import { UserError } from '../errors.js';
import type { OpName, Tensor } from '../tensor/tensor.js';
import { elementTypes } from './onnx-file.js';
import type { Extent, GraphBuilder } from './onnx-graph.js';

/** Adds an operation in ONNX's form, and returns the name of its value. */
type Form<K extends OpName> = (node: Tensor<K>, graph: GraphBuilder) => string;

const inputs = (node: Tensor, graph: GraphBuilder) => node.inputs.map((input) => graph.name(input));
const same: Form<OpName> = (node, graph) => graph.name(node.inputs[0]);
/** An operation that ONNX has under the same meaning. */
const plain =
  (op: string): Form<OpName> =>
  (node, graph) =>
    graph.node(op, graph.broadcast(node));
/** A comparison, whose 1 and 0 are f32 to us. */
const compared =
  (op: string): Form<OpName> =>
  (node, graph) =>
    graph.node('Cast', [graph.node(op, graph.broadcast(node))], { to: elementTypes.f32 });

/** a + sign · b */
const sum = (a: Extent, b: Extent, sign: 1 | -1): Extent => ({
  fixed: a.fixed + sign * b.fixed,
  perSample: a.perSample + sign * b.perSample,
});

const fixed = (extent: number): Extent => ({ fixed: extent, perSample: 0 });

/** Longest row of whole numbers that the file holds instead of the rule by which they are made. */
const longestList = 65536;

/** A row for each operation: its form in ONNX, null where it is none of a network's forward pass. */
const table: { [K in OpName]: Form<K> | null } = {
  storage: (node, graph) => {
    const { storage, offset } = node.attributes;
    const given = graph.storage(storage);
    if (given !== undefined) return given;
    if (!storage.initial) throw new Error(`storage ${storage.name} has no values`);
    const extents = graph.extents(node);
    const values = storage.initial.subarray(offset, offset + node.size);
    if (!extents.some(({ perSample }) => perSample)) return graph.literal(values, node.shape);
    // One for each sample: the same for all.
    if (values.some((value) => value !== values[0])) throw new Error('a literal differs from sample to sample');
    return graph.node('Expand', [graph.literal(values.slice(0, 1), []), graph.shape(extents)]);
  },
  constant: (node, graph) =>
    node.shape.length
      ? graph.node('Expand', [graph.scalar(node), graph.shape(graph.extents(node))])
      : graph.scalar(node),
  secondary: null,
  custom: same,
  add: plain('Add'),
  sub: plain('Sub'),
  mul: plain('Mul'),
  div: plain('Div'),
  maximum: plain('Max'),
  minimum: plain('Min'),
  greater: compared('Greater'),
  equal: compared('Equal'),
  where: (node, graph) => {
    const [condition, a, b] = graph.broadcast(node);
    return graph.node('Where', [graph.node('Cast', [condition], { to: elementTypes.bool }), a, b]);
  },
  neg: plain('Neg'),
  exp: plain('Exp'),
  log: plain('Log'),
  sqrt: plain('Sqrt'),
  sin: plain('Sin'),
  cos: plain('Cos'),
  tanh: plain('Tanh'),
  erf: plain('Erf'),
  abs: plain('Abs'),
  floor: plain('Floor'),
  toFloat: (node, graph) =>
    node.inputs[0].dtype === 'f32'
      ? graph.name(node.inputs[0])
      : graph.node('Cast', inputs(node, graph), { to: elementTypes.f32 }),
  toIndex: (node, graph) =>
    graph.node('Cast', [graph.node('Max', [...inputs(node, graph), graph.reals([0], [])])], { to: elementTypes.i64 }),
  stopGradient: same,
  barrier: same,
  iota: (node, graph) => {
    const extents = graph.extents(node);
    if (node.size <= longestList && !extents.some(({ perSample }) => perSample))
      return graph.integers(
        Array.from({ length: node.size }, (_, i) => i),
        node.shape,
      );
    const count = graph.node('ReduceProd', [graph.shape(extents)], { keepdims: 0 });
    return graph.reshape(graph.node('Range', [graph.integers([0], []), count, graph.integers([1], [])]), extents);
  },
  reshape: (node, graph) => graph.reshape(graph.name(node.inputs[0]), graph.extents(node)),
  permute: (node, graph) => graph.node('Transpose', inputs(node, graph), { perm: node.attributes.axes }),
  slice: (node, graph) => {
    const [x] = node.inputs;
    const axes = node.shape.flatMap((extent, axis) => (extent === x.shape[axis] ? [] : [axis]));
    const starts = graph.numbers(node, ({ attributes }) => attributes.start);
    const ends = graph.extents(node).map((extent, axis) => sum(starts[axis], extent, 1));
    const chosen = (extents: readonly Extent[]) => graph.shape(axes.map((axis) => extents[axis]));
    return graph.node('Slice', [graph.name(x), chosen(starts), chosen(ends), graph.integers(axes)]);
  },
  pad: (node, graph) => {
    const [x] = node.inputs;
    const before = graph.numbers(node, ({ attributes }) => attributes.before);
    const [outer, inner] = [graph.extents(node), graph.extents(x)];
    const after = outer.map((extent, axis) => sum(sum(extent, before[axis], -1), inner[axis], -1));
    return graph.node('Pad', [graph.name(x), graph.shape([...before, ...after]), zero(node, graph)]);
  },
  concat: (node, graph) => graph.node('Concat', inputs(node, graph), { axis: node.attributes.axis }),
  gather: (node, graph) => {
    const [tensor, indices] = node.inputs;
    const [table, at] = inputs(node, graph);
    if (!computed(indices)) return graph.node('Gather', [table, at], { axis: 0 });
    // A row that the table does not have reads as zeros.
    const last = graph.integers([tensor.shape[0] - 1], []);
    const rows = graph.node('Gather', [table, graph.node('Min', [at, last])], { axis: 0 });
    const row = tensor.shape.slice(1).map(() => fixed(1));
    const inside = graph.reshape(graph.node('LessOrEqual', [at, last]), [...graph.extents(indices), ...row]);
    return graph.node('Where', [inside, rows, zero(node, graph)]);
  },
  im2col: (node, graph) => {
    const [x] = node.inputs;
    const [, height, width] = x.shape;
    const [, rows, columns] = node.shape;
    const { kernel, stride, dilation, before } = node.attributes;
    // Zeros as far as the taps reach beyond the image.
    const reach = ([size, count]: [number, number], axis: 0 | 1) =>
      Math.max(0, (count - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] - before[axis] - size + 1);
    const [top, left] = before.map((zeros) => Math.max(0, zeros));
    const [bottom, right] = [reach([height, rows], 0), reach([width, columns], 1)];
    const name = graph.name(x);
    const whole = [top, left, bottom, right].some((zeros) => zeros)
      ? graph.node('Pad', [name, graph.integers([0, top, left, 0, 0, bottom, right, 0]), zero(node, graph)])
      : name;
    const taps = Array.from({ length: kernel[0] * kernel[1] }, (_, tap) => {
      const y = Math.floor(tap / kernel[1]) * dilation[0] - before[0] + top;
      const z = (tap % kernel[1]) * dilation[1] - before[1] + left;
      const ends = [y + (rows - 1) * stride[0] + 1, z + (columns - 1) * stride[1] + 1];
      return graph.node('Slice', [
        whole,
        graph.integers([y, z]),
        graph.integers(ends),
        graph.integers([1, 2]),
        graph.integers(stride),
      ]);
    });
    return taps.length === 1 ? taps[0] : graph.node('Concat', taps, { axis: 3 });
  },
  expand: (node, graph) => graph.node('Expand', [...inputs(node, graph), graph.shape(graph.extents(node))]),
  random: null,
  reduce: (node, graph) => {
    const { kind, length, inner } = node.attributes;
    const rows = graph.node('Reshape', [...inputs(node, graph), graph.integers([-1, length, inner])]);
    return kind === 'max'
      ? graph.node('ReduceMax', [rows], { axes: [1], keepdims: 0 })
      : graph.node('ReduceSum', [rows, graph.integers([1])], { keepdims: 0 });
  },
  matmul: (node, graph) => {
    const { transposeA, transposeB } = node.attributes;
    const [a, b] = node.inputs;
    const turned = (x: Tensor, transposed: boolean) => {
      const axes = x.shape.map((_, axis) => axis);
      const perm = [...axes.slice(0, -2), axes.length - 1, axes.length - 2];
      return transposed ? graph.node('Transpose', [graph.name(x)], { perm }) : graph.name(x);
    };
    return graph.node('MatMul', [turned(a, transposeA), turned(b, transposeB)]);
  },
  softmax: (node, graph) => graph.node('Softmax', inputs(node, graph), { axis: -1 }),
  // `normalize` computes them anew, from what it normalises.
  rowStatistics: () => '',
  normalize: (node, graph) => {
    const { groups, epsilon, centred } = node.attributes;
    const extents = graph.extents(node);
    const [items, positions] = extents;
    const channels = node.shape[2];
    const rows = graph.reshape(graph.name(node.inputs[0]), [items, positions, fixed(groups), fixed(channels / groups)]);
    const mean = (value: string) => graph.node('ReduceMean', [value], { axes: [1, 3], keepdims: 1 });
    const level = centred ? graph.node('Sub', [rows, mean(rows)]) : rows;
    const variance = mean(graph.node('Mul', [level, level]));
    const deviation = graph.node('Sqrt', [graph.node('Add', [variance, graph.reals([epsilon], [])])]);
    return graph.reshape(graph.node('Div', [level, deviation]), extents);
  },
  normalizeGradient: null,
  softmaxGradient: null,
  // Written as products before a graph comes here.
  attention: null,
  attentionGradientQ: null,
  attentionGradientKV: null,
  scatterAdd: null,
  pack: null,
  assign: null,
  adam: null,
};

/** Whether indices are computed, and so may lie outside of a table; literals and labels do not. */
function computed(indices: Tensor): boolean {
  return indices.op === 'toIndex' || indices.inputs.some(computed);
}

const zero = ({ dtype }: Tensor, graph: GraphBuilder) =>
  dtype === 'f32' ? graph.reals([0], []) : graph.integers([0], []);

/** The form of a node, whose inputs are there already. @throws UserError where it has none */
export function onnxForm(node: Tensor, graph: GraphBuilder): string {
  const form = table[node.op] as Form<OpName> | null;
  if (form) return form(node, graph);
  throw new UserError(
    node.op === 'random'
      ? 'fresh noise in each step cannot be exported: choose a sampler that draws none, such as jump or euler'
      : `${node.op} has no form in ONNX`,
    node.op === 'random' ? 'sampler' : undefined,
  );
}
