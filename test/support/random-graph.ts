import { gradients, reachable } from '../../src/autodiff/gradients.js';
import { UserError } from '../../src/errors.js';
import { TensorStorage, type DType } from '../../src/gpu/storage.js';
import { rematerialize } from '../../src/nn/rematerialize.js';
import { attention } from '../../src/ops/attention.js';
import { expand, max, sum } from '../../src/ops/broadcast.js';
import { conv2d } from '../../src/ops/convolution.js';
import { matmul } from '../../src/ops/matmul.js';
import { secondary } from '../../src/ops/memory.js';
import * as move from '../../src/ops/movement.js';
import { groupNorm, layerNorm, softmax } from '../../src/ops/normalization.js';
import { adam, assign, pack, type OptimizerState } from '../../src/ops/optimizer.js';
import * as point from '../../src/ops/pointwise.js';
import { integers, normal, uniform } from '../../src/ops/random.js';
import { random } from '../../src/tensor/philox.js';
import { sizeOf, type Shape } from '../../src/tensor/shape.js';
import { constant, fromStorage, tensor, withGradient, type OpName, type Tensor } from '../../src/tensor/tensor.js';
import { interpret } from './interpreter.js';

/** An operation and the choices that it makes, as whole numbers: what fast-check draws and shrinks. */
export type Step = readonly [op: number, choices: readonly number[]];

/** Numbers that f16 holds exactly, so that comparing them is the same everywhere. */
const dyadic = (values: ArrayLike<number>) =>
  Array.from(values).every((v) => Number.isInteger(v * 64) && Math.abs(v) <= 16);

/** Where equal inputs give equal results, however they are stored, as long as those are dyadic. */
const exactOps = new Set<OpName>([
  ...(['storage', 'constant', 'add', 'sub', 'mul', 'maximum', 'minimum', 'greater', 'equal', 'where', 'neg'] as const),
  ...([
    'abs',
    'floor',
    'toFloat',
    'toIndex',
    'stopGradient',
    'barrier',
    'iota',
    'reshape',
    'expand',
    'permute',
  ] as const),
  ...(['slice', 'pad', 'concat', 'gather', 'im2col', 'custom'] as const),
]);

/** Values stay within this: what grows beyond is scaled, so that an error of rounding stays one. */
const bound = 4;

/** A graph as it grows: tensors to choose from, and what effects have been asked for. */
export class RandomGraph {
  /** f32 tensors that further ones may be made of. */
  readonly pool: Tensor[] = [];
  readonly effects: Tensor[] = [];
  readonly values = new Map<Tensor, Float64Array>();
  private readonly exact = new Map<Tensor, boolean>();
  private choices: readonly number[] = [];
  private used = 0;

  constructor(steps: readonly Step[]) {
    for (const [op, choices] of steps) {
      [this.choices, this.used] = [choices, 0];
      try {
        this.add(generators[generated[op % generated.length]](this));
      } catch (error) {
        // What does not depend on what was chosen has no gradient.
        if (!(error instanceof UserError && /does not depend/.test(error.message))) throw error;
      }
    }
  }

  /** The last tensor, and a few others that live on beside it. */
  get outputs(): Tensor[] {
    const { pool } = this;
    return [...new Set([pool.at(-1), pool[Math.floor(pool.length / 2)], pool[Math.floor(pool.length / 3)]])].filter(
      (node) => node !== undefined,
    );
  }

  add(made: Tensor | null): void {
    if (!made) return;
    const node = made.dtype === 'f32' ? made : point.mul(point.toFloat(made), 1 / 64);
    const most = this.valuesOf(node).reduce((top, value) => Math.max(top, Math.abs(value)), 0);
    if (!Number.isFinite(most) || most > 1e6 || node.size > 1500) return;
    this.pool.push(most > bound ? point.mul(node, 2 ** -Math.ceil(Math.log2(most / bound))) : node);
  }

  /** A whole number from 0 to count - 1. */
  below(count: number): number {
    const choice = this.choices[this.used++ % this.choices.length] ?? 0;
    return (choice + 7 * Math.floor(this.used / (this.choices.length + 1))) % count;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }
  extent(): number {
    return this.pick([3, 4, 1, 8, 5]);
  }
  shape(rank = 2): Shape {
    return Array.from({ length: rank }, () => this.extent());
  }

  valuesOf(node: Tensor): Float64Array {
    return interpret([node], new Map(), this.values)[0];
  }

  /** New storages of every type, read from anywhere in them. */
  leaf(shape: Shape, dtype: DType = this.pick(['f32', 'f32', 'f16', 'u8', 'u32'])): Tensor {
    const offset = this.pick([0, 0, 1, 4, 67, 128]);
    const draw = random(this.below(2 ** 16), offset);
    const whole = dtype === 'u8' || dtype === 'u32';
    const size = sizeOf(shape) + offset + this.below(4);
    const numbers = Array.from({ length: size }, () => (whole ? draw.below(200) : (draw.below(33) - 16) / 8));
    const typed = whole ? (dtype === 'u8' ? Uint8Array : Uint32Array) : Float32Array;
    return fromStorage(new TensorStorage(`${dtype} ${size}`, dtype, size, typed.from(numbers)), shape, offset);
  }

  /** Some f32 tensor of the pool brought to a shape by whatever does that, or a new storage. */
  take(shape: Shape = this.shape(), from: readonly Tensor[] = this.pool): Tensor {
    const size = sizeOf(shape);
    // Now and then from the first nodes, so that values live long.
    const recent = this.below(3) ? from.slice(-4) : from;
    const x = recent.length ? this.pick(recent) : null;
    if (!x || this.below(5) === 0) return point.toFloat(this.leaf(shape, this.pick(['f32', 'f16'])));
    if (x.size === size) return move.reshape(x, shape);
    const flat = move.reshape(x, [x.size]);
    if (x.size > size) return move.reshape(move.slice(flat, 0, 0, size), shape);
    return this.below(2)
      ? move.reshape(move.pad(flat, [this.below(size - x.size + 1)], [size]), shape)
      : move.reshape(move.gather(flat, this.indices(size, x.size)), shape);
  }

  /** One whose values are the same however they are stored, for what jumps. */
  takeExact(shape?: Shape): Tensor {
    return this.take(
      shape,
      this.pool.filter((node) => this.isExact(node)),
    );
  }

  private isExact(node: Tensor): boolean {
    let exact = this.exact.get(node);
    if (exact === undefined) {
      exact = exactOps.has(node.op) && node.inputs.every((input) => this.isExact(input));
      if (exact && node.dtype === 'f32') exact = dyadic(this.valuesOf(node));
      this.exact.set(node, exact);
    }
    return exact;
  }

  /** u32 indices below `rows`. */
  indices(count: number, rows: number): Tensor {
    const draw = random(this.below(2 ** 16));
    const values = Array.from({ length: count }, () => draw.below(rows));
    if (this.below(3) || rows > 256) return tensor(Uint32Array.from(values));
    return fromStorage(new TensorStorage('indices', 'u8', count, Uint8Array.from(values)));
  }

  get key(): Tensor {
    return tensor(Uint32Array.of(this.below(2 ** 16), 0, this.below(100)));
  }

  /** Gradients of a sum over something made before, of a few tensors below it. */
  gradient(y: Tensor | null = this.pool.length ? this.pick(this.pool) : null): Tensor | null {
    if (!y) return null;
    const below = reachable([y]).filter((node) => node.dtype === 'f32' && node.inputs.length && node !== y);
    const leaves = reachable([y]).filter((node) => node.dtype === 'f32' && node.op === 'storage');
    if (!leaves.length) return null;
    const wrt = [this.pick(leaves), ...(below.length ? [this.pick(below)] : [])];
    const loss = sum(point.mul(y, point.toFloat(this.leaf(y.shape, 'f32'))));
    for (const node of wrt) {
      try {
        this.add(gradients(loss, [node])[0]);
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
      }
    }
    return null;
  }
}

type Generator = (graph: RandomGraph) => Tensor | null;

const unary =
  (f: (x: Tensor) => Tensor): Generator =>
  (g) =>
    f(g.take(g.shape(1 + g.below(3))));
const exactUnary =
  (f: (x: Tensor) => Tensor): Generator =>
  (g) =>
    f(g.takeExact(g.shape(1 + g.below(3))));
const pair = (g: RandomGraph, take: (shape: Shape) => Tensor): [Tensor, Tensor] => {
  const [rows, columns] = g.shape();
  const other = g.pick([[rows, columns], [rows, 1], [1, columns], [columns]]);
  return [take([rows, columns]), take(other)];
};
const binary =
  (f: (a: Tensor, b: Tensor) => Tensor): Generator =>
  (g) =>
    f(...pair(g, (shape) => g.take(shape)));
const exactBinary =
  (f: (a: Tensor, b: Tensor) => Tensor): Generator =>
  (g) =>
    f(...pair(g, (shape) => g.takeExact(shape)));
const positive = (x: Tensor) => point.add(point.square(x), 0.5);

function attentionOf(g: RandomGraph): Tensor {
  const [batch, queries, width] = g.pick([
    [2, 5, 8],
    [1, 3, 6],
  ]);
  const keys = g.pick([queries, queries + 2]);
  const [k, v] = [0, 1].map(() => g.take([batch, keys, width]));
  return attention(g.take([batch, queries, width]), k, v, 2, { causal: g.below(3) === 0 });
}

function effectOf(g: RandomGraph): null {
  const dtype = g.pick(['f32', 'f32', 'f16', 'u8', 'u32'] as const);
  const shape = g.shape();
  // What others read, or what an effect before this one writes, or something new.
  const known = [...g.pool, ...g.effects]
    .flatMap((node) => reachable([node]))
    .filter(
      (node): node is Tensor<'storage'> =>
        node.op === 'storage' && !(node as Tensor<'storage'>).attributes.storage.fixed,
    );
  const old = g.below(2) ? g.pick([...known, null]) : null;
  const storage = old?.attributes.storage ?? (g.leaf(shape, dtype) as Tensor<'storage'>).attributes.storage;
  const whole = fromStorage(storage, [storage.length]);
  const backwards = move.gather(
    whole,
    tensor(Uint32Array.from({ length: storage.length }, (_, i) => storage.length - 1 - i)),
  );
  const value = () => {
    if (storage.dtype === 'u32' || storage.dtype === 'u8')
      return g.below(2) ? backwards : point.toIndex(point.mul(point.abs(g.takeExact([storage.length])), 4));
    const other = g.take([storage.length]);
    return g.pick([
      () => other,
      () => point.add(point.mul(whole, 0.5), other),
      () => point.add(backwards, other),
      () => point.mul(move.concat([move.slice(whole, 0, 0, 1), move.slice(other, 0, 0, other.size - 1)], 0), 0.5),
    ])();
  };
  if (storage.length > 1) g.effects.push(assign(storage, value()));
  return null;
}

const optimizers = 64;
const scalars = [0.01, 0.03, 0.9, 0.99, 1e-6, 0.1, 2, 0.1, 0.01, 0.9, 0.5];

function optimizerOf(g: RandomGraph, half = g.below(2) === 1): null {
  // Twice the same part now and then, which then needs memory twice.
  const first = g.take([g.pick([7, 64, 12])]);
  const second = g.below(3) ? g.take([g.pick([5, 8])]) : first;
  const length = 2 * optimizers;
  const numbers = (count: number, scale: number, index: number) => {
    const draw = random(g.below(2 ** 16), index);
    return Float32Array.from({ length: count }, () => (scale * draw.below(64)) / 64);
  };
  const parameters = numbers(length, 2, 0);
  const state: OptimizerState = {
    parameters: new TensorStorage('parameters', 'f32', length, parameters),
    firstMoment: new TensorStorage('first moment', 'f32', length, numbers(length, 0.1, 1)),
    secondMoment: new TensorStorage('second moment', 'f32', length, numbers(length, 0.1, 2)),
    averages: new TensorStorage('averages', 'f32', 2 * length, numbers(2 * length, 1, 3)),
    rounded: half ? new TensorStorage('rounded', 'f16', 3 * length) : undefined,
    own: g.pick([undefined, { start: 4, end: 96 }]),
  };
  const packed = pack([first, second], [0, optimizers], length);
  g.effects.push(adam(packed, sum(point.square(packed)), tensor(scalars), state, constant(1, [1])));
  g.add(point.mul(move.slice(packed, 0, 3, 70), 0.5));
  // Read here, changed there.
  if (g.below(2)) g.add(fromStorage(state.parameters, [9], 5));
  return null;
}

/** A way to draw each operation: a row that is missing does not compile. */
const generators: { [K in OpName]: Generator } = {
  storage: (g) => g.leaf(g.shape()),
  constant: (g) => constant(g.pick([0, 1, -0.5, 2.25]), g.shape()),
  secondary: (g) => {
    const [batch, tokens] = [2, 5];
    const node = attention(g.take([2, 5, 8]), g.take([2, 5, 8]), g.take([2, 5, 8]), 2);
    g.add(secondary(node, [batch, 2, tokens]));
    return g.below(2) ? node : null;
  },
  custom: (g) => {
    const x = g.take();
    if (g.below(2)) return withGradient(point.sin(x), [x], (slope) => [point.mul(slope, point.add(x, 0.5))]);
    const w = g.take([x.shape[1], 4]);
    const block = (_: unknown, a: Tensor, b: Tensor) => point.tanh(matmul(softmax(point.mul(a, 1.5)), b));
    const y = rematerialize(block, () => w, [x, w]);
    return g.gradient(y) ?? y;
  },
  add: binary(point.add),
  sub: binary(point.sub),
  mul: binary(point.mul),
  div: binary((a, b) => point.div(a, positive(b))),
  maximum: exactBinary(point.maximum),
  minimum: exactBinary(point.minimum),
  greater: exactBinary(point.greater),
  equal: exactBinary(point.equal),
  where: (g) => {
    const [a, b] = pair(g, (shape) => g.take(shape));
    return point.where(point.greater(g.takeExact(a.shape), 0.25), a, b);
  },
  neg: unary(point.neg),
  exp: unary((x) => point.exp(point.mul(x, 0.5))),
  log: unary((x) => point.log(positive(x))),
  sqrt: unary((x) => point.sqrt(positive(x))),
  sin: unary(point.sin),
  cos: unary(point.cos),
  tanh: unary(point.tanh),
  erf: unary(point.erf),
  abs: exactUnary(point.abs),
  floor: exactUnary((x) => point.floor(point.mul(x, 1.5))),
  toFloat: (g) => point.mul(point.toFloat(g.leaf(g.shape(), g.pick(['u8', 'u32']))), 1 / 64),
  toIndex: exactUnary((x) => point.mul(point.toFloat(point.toIndex(point.mul(x, 3))), 0.25)),
  stopGradient: unary((x) => point.add(point.stopGradient(point.sin(x)), x)),
  barrier: unary((x) => point.mul(move.barrier(x), x)),
  iota: (g) => point.mul(point.toFloat(move.iota(g.shape())), 1 / 64),
  reshape: (g) => {
    const x = g.take();
    return move.reshape(x, [x.shape[1], x.shape[0]]);
  },
  expand: (g) => {
    const [rows, columns] = g.shape();
    return expand(g.take(g.pick([[rows, 1], [1, columns], [1]])), [g.pick([1, 2]), rows, columns]);
  },
  permute: (g) =>
    move.permute(
      g.take(g.shape(3)),
      g.pick([
        [2, 0, 1],
        [1, 0, 2],
        [0, 2, 1],
      ]),
    ),
  slice: (g) => {
    const x = g.take();
    const axis = g.below(2);
    const start = g.below(x.shape[axis]);
    return move.slice(x, axis, start, start + 1 + g.below(x.shape[axis] - start));
  },
  pad: (g) => {
    const x = g.take();
    const before = [g.below(2), g.pick([0, 1, 4])];
    return move.pad(x, before, [x.shape[0] + 1, x.shape[1] + before[1] + g.pick([0, 4, 3])]);
  },
  concat: (g) => {
    const rows = g.extent();
    // Sometimes more parts than a kernel may bind.
    const count = g.pick([2, 3, 2, 11]);
    return move.concat(
      Array.from({ length: count }, () => g.take([rows, g.pick([4, 1, 3])])),
      1,
    );
  },
  gather: (g) => {
    const x = g.below(4) ? g.take() : g.leaf(g.shape(), g.pick(['u8', 'f16', 'u32']));
    return move.gather(x, g.indices(g.extent(), x.shape[0]));
  },
  scatterAdd: (g) => {
    const x = g.take();
    return move.scatterAdd(x, g.indices(x.shape[0], 4), 4);
  },
  im2col: (g) => {
    const channels = g.pick([4, 3]);
    const image = g.take([1, 4, g.pick([4, 5]), channels]);
    const [stride, padding] = [1 + g.below(2), g.below(2)];
    const y = conv2d(image, g.take([g.pick([1, 3]), 2, channels, 4]), undefined, { stride, padding });
    return g.below(2) ? (g.gradient(y) ?? y) : y;
  },
  random: (g) => {
    const stream = g.below(5);
    const shape = g.shape();
    const rows = g.below(2) ? g.indices(shape[0], 1000) : undefined;
    if (g.below(3) === 0) return point.mul(point.toFloat(integers(g.key, stream, shape, 50, rows)), 1 / 16);
    return (g.below(2) ? normal : uniform)(g.key, stream, shape, rows);
  },
  reduce: (g) => {
    const axes = g.pick([[0], [1], [2], [0, 2]]);
    return g.below(3)
      ? sum(g.take(g.shape(3)), axes, g.below(2) === 1)
      : max(g.takeExact(g.shape(3)), axes, g.below(2) === 1);
  },
  matmul: (g) => {
    const [m, k, n] = [g.pick([3, 8]), g.pick([4, 5]), g.pick([4, 7])];
    const [transposeA, transposeB] = [g.below(3) === 0, g.below(2) === 0];
    const batch = g.below(3) ? [] : [2];
    const a = g.take([...batch, ...(transposeA ? [k, m] : [m, k])]);
    const b = g.take([...(g.below(2) ? batch : []), ...(transposeB ? [n, k] : [k, n])]);
    return matmul(a, b, { transposeA, transposeB });
  },
  softmax: (g) => softmax(g.take(g.shape(2))),
  softmaxGradient: (g) => g.gradient(softmax(g.take(g.shape(2)))),
  rowStatistics: (g) => {
    // The statistics alone, or where the row that they are of is wanted too.
    const y = layerNorm(g.take([3, 8]), 0.1);
    if (g.below(2)) g.add(y);
    return y.inputs[0].inputs[1];
  },
  normalize: (g) => {
    const x = g.below(2) ? g.take([g.pick([3, 5]), g.pick([8, 5])]) : null;
    return x ? layerNorm(x, 0.1) : groupNorm(g.take([2, 3, 8]), 2, 0.1);
  },
  normalizeGradient: (g) => g.gradient(layerNorm(g.take([3, 8]), 0.1)),
  attention: attentionOf,
  attentionGradientQ: (g) => g.gradient(attentionOf(g)),
  attentionGradientKV: (g) => {
    const shape = [2, 5, 8];
    const [q, k, v] = [g.take(shape), point.sin(g.take(shape)), matmul(g.take(shape), g.take([8, 8]))];
    const slopes = gradients(sum(point.mul(attention(q, k, v, 2), g.take(shape))), [k, v]);
    for (const slope of slopes) g.add(slope);
    return null;
  },
  pack: (g) => optimizerOf(g),
  assign: effectOf,
  adam: (g) => optimizerOf(g, true),
};

/** Every operation's name, in the order of a step's first number. */
export const generated = Object.keys(generators) as OpName[];

/** What each storage that effects write holds after a run: all of them computed from what was there before. */
export function after({ effects, values }: RandomGraph): Map<TensorStorage, Float64Array> {
  const results = new Map<TensorStorage, Float64Array>();
  const before = (storage: TensorStorage) => Float64Array.from(storage.initial ?? new Float64Array(storage.length));
  for (const effect of effects) {
    const inputs = effect.inputs.map((input) => interpret([input], new Map(), values)[0]);
    for (const [storage, value] of changes(effect, inputs, before)) results.set(storage, value);
  }
  return results;
}

/** What an effect writes, given its inputs and what storages hold. */
export function changes(
  effect: Tensor,
  inputs: Float64Array[],
  before: (storage: TensorStorage) => Float64Array,
): [TensorStorage, Float64Array][] {
  if (effect.op === 'assign') return [[(effect as Tensor<'assign'>).attributes.storage, inputs[0]]];
  return step(effect as Tensor<'adam'>, inputs, before);
}

/** AdamW as written by Loshchilov and Hutter, with moving averages. */
function step(
  { attributes: { state } }: Tensor<'adam'>,
  [g, numbers]: Float64Array[],
  before: (storage: TensorStorage) => Float64Array,
): [TensorStorage, Float64Array][] {
  const [norm, scale, ...rest] = numbers;
  const [commonRate, ownRate, beta1, beta2, epsilon, decay, clipNorm, correction1, correction2, ...decays] = rest;
  const { start, end } = state.own ?? { start: 0, end: 0 };
  const { length } = state.parameters;
  const [p, m, v, averages] = [state.parameters, state.firstMoment, state.secondMoment, state.averages].map((storage) =>
    before(storage),
  );
  const clip = Math.min(1, clipNorm / (Math.sqrt(norm) / scale)) / scale;
  for (let i = 0; i < length; i++) {
    m[i] = beta1 * m[i] + (1 - beta1) * g[i] * clip;
    v[i] = beta2 * v[i] + (1 - beta2) * (g[i] * clip) ** 2;
    const decayed = v[i] > 0 ? decay * p[i] : 0;
    const rate = i >= start && i < end ? ownRate : commonRate;
    p[i] -= rate * (m[i] / correction1 / (Math.sqrt(v[i] / correction2) + epsilon) + decayed);
    decays.forEach((share, a) => {
      averages[a * length + i] = share * averages[a * length + i] + (1 - share) * p[i];
    });
  }
  const rounded = state.rounded ? [[state.rounded, Float64Array.from([...p, ...averages])] as const] : [];
  return [
    [state.parameters, p],
    [state.firstMoment, m],
    [state.secondMoment, v],
    [state.averages, averages],
    ...rounded.map(([storage, value]): [TensorStorage, Float64Array] => [storage, value]),
  ];
}

/** The graph as code that makes it anew, node by node. */
export function asCode({ outputs, effects }: Pick<RandomGraph, 'outputs' | 'effects'>): string {
  const storages = new Map<TensorStorage, string>();
  const lines: string[] = [];
  const storageName = (storage: TensorStorage) => {
    let name = storages.get(storage);
    if (!name) {
      name = `s${storages.size}`;
      storages.set(storage, name);
      const initial = storage.initial ? `, ${storage.initial.constructor.name}.of(${[...storage.initial]})` : '';
      lines.push(`const ${name} = new TensorStorage('${name}', '${storage.dtype}', ${storage.length}${initial});`);
    }
    return name;
  };
  const written = (value: unknown): string => {
    if (value instanceof TensorStorage) return storageName(value);
    if (Array.isArray(value)) return `[${value.map(written)}]`;
    if (typeof value === 'object' && value)
      return `{ ${Object.entries(value).map(([name, v]) => `${name}: ${written(v)}`)} }`;
    return typeof value === 'function' ? '() => []' : (JSON.stringify(value) ?? 'undefined');
  };
  const names = new Map<Tensor, string>();
  for (const node of reachable([...outputs, ...effects])) {
    names.set(node, `t${names.size}`);
    const inputs = node.inputs.map((input) => names.get(input));
    lines.push(
      `const ${names.get(node)} = new Tensor('${node.op}', [${inputs.join(', ')}], ${written(node.attributes)}, [${node.shape}], '${node.dtype}');`,
    );
  }
  const list = (nodes: readonly Tensor[]) => `[${nodes.map((node) => names.get(node)).join(', ')}]`;
  return `${lines.join('\n')}\n// outputs ${list(outputs)}, effects ${list(effects)}`;
}
