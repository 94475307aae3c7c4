import type { TensorStorage } from '../../src/gpu/storage.js';
import { keyOf, normals, philox, toUniform, wholeNumbers } from '../../src/tensor/philox.js';
import { sizeOf, stridesOf, type Shape } from '../../src/tensor/shape.js';
import type { OpName, Tensor } from '../../src/tensor/tensor.js';

/** Values of storages in place of what they were made with. */
export type Values = ReadonlyMap<TensorStorage, ArrayLike<number>>;
type Inputs = Float64Array[];
/** Effects have no value. */
type Evaluated = Exclude<OpName, 'assign' | 'adam'>;

/**
 * The graph in float64, one plain loop an operation: slow, obvious, and sharing no code with rules or kernels. It is the
 * reference that every kernel and every gradient is held against.
 * @param done what is known already, and is added to
 */
export function interpret(
  outputs: readonly Tensor[],
  values: Values = new Map(),
  done = new Map<Tensor, Float64Array>(),
): Float64Array[] {
  for (const node of unknown(outputs, done)) {
    const evaluate = operations[node.op as Evaluated] as (typeof operations)['add'];
    if (!evaluate) throw new Error(`the interpreter has no ${node.op}`);
    done.set(
      node,
      evaluate(
        node as never,
        node.inputs.map((input) => done.get(input)!),
        values,
        done,
      ),
    );
  }
  return outputs.map((output) => done.get(output)!);
}

/** The nodes to evaluate, inputs before their users, going no deeper than what is known. */
function unknown(outputs: readonly Tensor[], done: ReadonlyMap<Tensor, unknown>): Tensor[] {
  const found = new Set<Tensor>();
  const visit = (node: Tensor) => {
    if (found.has(node) || done.has(node)) return;
    node.inputs.forEach(visit);
    found.add(node);
  };
  outputs.forEach(visit);
  return [...found];
}

const fill = (node: Tensor, f: (i: number) => number) => Float64Array.from({ length: node.size }, (_, i) => f(i));
const each =
  (f: (...xs: number[]) => number) =>
  (node: Tensor, inputs: Inputs): Float64Array =>
    fill(node, (i) => f(...inputs.map((input) => input[i])));

/** Coordinates of an index. */
const coordinates = (index: number, shape: Shape): number[] =>
  stridesOf(shape).map((stride, axis) => Math.floor(index / stride) % shape[axis]);
const indexOf = (at: readonly number[], shape: Shape): number =>
  stridesOf(shape).reduce((sum, stride, axis) => sum + stride * at[axis], 0);
/** Each element from the place that `from` names; 0 where it names none. */
const moved = (node: Tensor, x: Float64Array, from: (at: number[]) => number[] | null) =>
  fill(node, (i) => {
    const source = from(coordinates(i, node.shape));
    return source ? x[indexOf(source, node.inputs[0].shape)] : 0;
  });

/** The error function by 2/√π exp(-x²) Σ 2ⁿ x²ⁿ⁺¹ / (2n+1)!!, whose terms have one sign. */
function erf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 200; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

function rows(node: Tensor, length: number, f: (at: (k: number) => number, row: number) => number[]): Float64Array {
  const count = node.inputs[0].size / length;
  return Float64Array.from(Array.from({ length: count }, (_, row) => f((k) => row * length + k, row)).flat());
}

type Attention = Tensor<'attention' | 'attentionGradientQ' | 'attentionGradientKV'>;

/**
 * Attention with its log-sum-exps of q, k, v; of those, log-sum-exps, the result or its row sums with the gradient g, and g,
 * the gradients and these row sums.
 */
function attend(node: Attention, [q, k, v, known, told, g]: Inputs) {
  const [batch, queries, width] = node.inputs[0].shape;
  const keys = node.inputs[1].shape[1];
  const { heads, scale, causal } = node.attributes;
  const depth = width / heads;
  const [lse, delta] = [0, 1].map(() => new Float64Array(batch * heads * queries));
  const [out, dq, dk, dv] = [q, q, k, k].map(({ length }) => new Float64Array(length));
  const range = (n: number) => Array.from({ length: n }, (_, i) => i);
  for (const [b, h, i] of range(lse.length).map((row) => coordinates(row, [batch, heads, queries]))) {
    const own = (d: number) => (b * queries + i) * width + h * depth + d;
    const met = (j: number, d: number) => (b * keys + j) * width + h * depth + d;
    const seen = range(causal ? Math.min(keys, i + 1) : keys);
    const dot = (x: Float64Array, y: Float64Array, j: number) =>
      range(depth).reduce((sum, d) => sum + x[own(d)] * y[met(j, d)], 0);
    const scores = seen.map((j) => dot(q, k, j) * scale);
    const place = (b * heads + h) * queries + i;
    lse[place] = Math.log(scores.reduce((sum, score) => sum + Math.exp(score), 0));
    const p = scores.map((score) => Math.exp(score - (known?.[place] ?? lse[place])));
    for (const j of seen) for (const d of range(depth)) out[own(d)] += p[j] * v[met(j, d)];
    if (!g) continue;
    delta[place] =
      node.op === 'attentionGradientKV'
        ? told[place]
        : range(depth).reduce((sum, d) => sum + g[own(d)] * told[own(d)], 0);
    for (const j of seen) {
      const slope = p[j] * (dot(g, v, j) - delta[place]) * scale;
      for (const d of range(depth)) {
        dq[own(d)] += slope * k[met(j, d)];
        dk[met(j, d)] += slope * q[own(d)];
        dv[met(j, d)] += p[j] * g[own(d)];
      }
    }
  }
  return { out, lse, delta, dq, dk, dv };
}

/** The flat indices of each group of channels of [N, P, C]. */
function groupMembers([items, positions, channels]: Shape, groups: number): number[][] {
  const members: number[][] = Array.from({ length: items * groups }, () => []);
  for (let i = 0; i < items * positions * channels; i++) {
    const group = Math.floor((i % channels) / (channels / groups));
    members[Math.floor(i / positions / channels) * groups + group].push(i);
  }
  return members;
}

const operations: {
  [K in Evaluated]: (
    node: Tensor<K>,
    inputs: Inputs,
    values: Values,
    done: ReadonlyMap<Tensor, Float64Array>,
  ) => Float64Array;
} = {
  storage: (node, _, values) => {
    const { storage, offset } = node.attributes;
    const source = values.get(storage) ?? storage.initial ?? new Float64Array(storage.length);
    return fill(node, (i) => source[offset + i]);
  },
  constant: (node) => fill(node, () => node.attributes.value),
  add: each((a, b) => a + b),
  sub: each((a, b) => a - b),
  mul: each((a, b) => a * b),
  div: (node, [a, b]) => fill(node, (i) => (node.dtype === 'u32' ? Math.floor(a[i] / Math.max(b[i], 1)) : a[i] / b[i])),
  maximum: each(Math.max),
  minimum: each(Math.min),
  greater: each((a, b) => Number(a > b)),
  equal: each((a, b) => Number(a === b)),
  where: each((c, a, b) => (c ? a : b)),
  neg: each((x) => -x),
  exp: each(Math.exp),
  log: each(Math.log),
  sqrt: each(Math.sqrt),
  sin: each(Math.sin),
  cos: each(Math.cos),
  tanh: each(Math.tanh),
  erf: each(erf),
  abs: each(Math.abs),
  floor: each(Math.floor),
  toFloat: each((x) => x),
  toIndex: each((x) => Math.max(0, Math.trunc(x))),
  stopGradient: each((x) => x),
  barrier: each((x) => x),
  iota: (node) => fill(node, (i) => i),
  reshape: each((x) => x),
  expand: (node, [x]) => {
    const { shape } = node.inputs[0];
    const lead = node.shape.length - shape.length;
    return moved(node, x, (at) => shape.map((extent, axis) => (extent === 1 ? 0 : at[axis + lead])));
  },
  permute: (node, [x]) =>
    moved(node, x, (at) => {
      const source = at.slice();
      node.attributes.axes.forEach((axis, i) => (source[axis] = at[i]));
      return source;
    }),
  slice: (node, [x]) => moved(node, x, (at) => at.map((a, axis) => a + node.attributes.start[axis])),
  pad: (node, [x]) =>
    moved(node, x, (at) => {
      const source = at.map((a, axis) => a - node.attributes.before[axis]);
      return source.every((a, axis) => a >= 0 && a < node.inputs[0].shape[axis]) ? source : null;
    }),
  concat: (node, inputs) => {
    const { axis } = node.attributes;
    return fill(node, (i) => {
      const at = coordinates(i, node.shape);
      let part = 0;
      while (at[axis] >= node.inputs[part].shape[axis]) at[axis] -= node.inputs[part++].shape[axis];
      return inputs[part][indexOf(at, node.inputs[part].shape)];
    });
  },
  gather: (node, [table, indices]) => {
    const row = sizeOf(node.inputs[0].shape.slice(1));
    return fill(node, (i) => table[indices[Math.floor(i / row)] * row + (i % row)] ?? 0);
  },
  im2col: (node, [x]) => {
    const [, height, width, channels] = node.inputs[0].shape;
    const { kernel, stride, dilation, before } = node.attributes;
    return moved(node, x, ([n, row, column, k]) => {
      const tap = Math.floor(k / channels);
      const y = row * stride[0] + Math.floor(tap / kernel[1]) * dilation[0] - before[0];
      const z = column * stride[1] + (tap % kernel[1]) * dilation[1] - before[1];
      return y >= 0 && y < height && z >= 0 && z < width ? [n, y, z, k % channels] : null;
    });
  },
  custom: (_, [x]) => x,
  random: (node, [key, rows]) => {
    const { distribution, stream, bound } = node.attributes;
    const seed = key[0] + key[1] * 2 ** 32;
    const row = rows ? node.size / rows.length : node.size;
    // With rows: all numbers up to the last row, of which these are some.
    const count = rows ? row * (Math.max(...rows) + 1) : node.size;
    const all = {
      normal: () => normals(count, seed, key[2], stream),
      integer: () => wholeNumbers(count, bound, seed, key[2], stream),
      uniform: () =>
        Float64Array.from({ length: count }, (_, i) =>
          toUniform(philox([Math.floor(i / 4), key[2], stream, 0], keyOf(seed))[i % 4]),
        ),
    }[distribution]();
    return fill(node, (i) => all[rows ? rows[Math.floor(i / row)] * row + (i % row) : i]);
  },
  reduce: (node, [x]) => {
    const { kind, length, inner } = node.attributes;
    return fill(node, (i) => {
      const first = Math.floor(i / inner) * length * inner + (i % inner);
      const all = Array.from({ length }, (_, k) => x[first + k * inner]);
      return kind === 'max' ? Math.max(...all) : all.reduce((sum, value) => sum + value, 0);
    });
  },
  matmul: (node, [a, b]) => {
    const { transposeA, transposeB } = node.attributes;
    const [m, n] = node.shape.slice(-2);
    const k = node.inputs[0].shape.at(transposeA ? -2 : -1)!;
    return fill(node, (i) => {
      const batch = Math.floor(i / (m * n));
      const [row, column] = [Math.floor(i / n) % m, i % n];
      let sum = 0;
      for (let j = 0; j < k; j++) {
        const left = batch * m * k + (transposeA ? j * m + row : row * k + j);
        const right = batch * k * n + (transposeB ? column * k + j : j * n + column);
        sum += a[left] * b[right];
      }
      return sum;
    });
  },
  softmax: (node, [x]) => {
    const length = node.shape.at(-1)!;
    return rows(node, length, (at) => {
      const weights = Array.from({ length }, (_, k) => Math.exp(x[at(k)]));
      const total = weights.reduce((sum, w) => sum + w, 0);
      return weights.map((w) => w / total);
    });
  },
  softmaxGradient: (node, [g, p]) => {
    const length = node.shape.at(-1)!;
    return rows(node, length, (at) => {
      const places = Array.from({ length }, (_, k) => at(k));
      const level = places.reduce((sum, i) => sum + g[i] * p[i], 0);
      return places.map((i) => p[i] * (g[i] - level));
    });
  },
  rowStatistics: (node, [x]) => {
    const members = groupMembers(node.inputs[0].shape, node.attributes.groups);
    const result = new Float64Array(node.size);
    members.forEach((at, row) => {
      const mean = node.attributes.centred ? at.reduce((sum, i) => sum + x[i], 0) / at.length : 0;
      const variance = at.reduce((sum, i) => sum + (x[i] - mean) ** 2, 0) / at.length;
      result.set([mean, 1 / Math.sqrt(variance + node.attributes.epsilon)], 2 * row);
    });
    return result;
  },
  normalize: (node, [x, statistics]) => {
    const [, positions, channels] = node.shape;
    const { groups } = node.attributes;
    return fill(node, (i) => {
      const group = Math.floor((i % channels) / (channels / groups));
      const row = Math.floor(i / (positions * channels)) * groups + group;
      return (x[i] - statistics[2 * row]) * statistics[2 * row + 1];
    });
  },
  normalizeGradient: (node, [g, x, statistics]) => {
    const result = new Float64Array(node.size);
    groupMembers(node.shape, node.attributes.groups).forEach((at, row) => {
      const [mean, rstd] = [statistics[2 * row], statistics[2 * row + 1]];
      const y = at.map((i) => (x[i] - mean) * rstd);
      const level = node.attributes.centred ? at.reduce((sum, i) => sum + g[i], 0) / at.length : 0;
      const slope = at.reduce((sum, i, k) => sum + g[i] * y[k], 0) / at.length;
      at.forEach((i, k) => (result[i] = rstd * (g[i] - level - y[k] * slope)));
    });
    return result;
  },
  attention: (node, inputs) => attend(node, inputs).out,
  attentionGradientQ: (node, inputs) => attend(node, inputs).dq,
  attentionGradientKV: (node, inputs) => attend(node, inputs).dk,
  secondary: ({ inputs: [node] }, _, __, done) => {
    const results = attend(
      node as Attention,
      node.inputs.map((input) => done.get(input)!),
    );
    const { lse, delta, dv } = results;
    return { attention: lse, attentionGradientQ: delta, attentionGradientKV: dv }[(node as Attention).op];
  },
  scatterAdd: (node, [values, indices]) => {
    const row = sizeOf(node.shape.slice(1));
    const result = new Float64Array(node.size);
    values.forEach((value, i) => (result[indices[Math.floor(i / row)] * row + (i % row)] += value));
    return result;
  },
  pack: (node, inputs) => {
    const result = new Float64Array(node.size);
    inputs.forEach((input, i) => result.set(input, node.attributes.offsets[i]));
    return result;
  },
};
