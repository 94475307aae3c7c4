import * as activation from '../../src/ops/activations.js';
import { max } from '../../src/ops/broadcast.js';
import { attention } from '../../src/ops/attention.js';
import * as compare from '../../src/ops/comparison.js';
import * as convolution from '../../src/ops/convolution.js';
import { einsum } from '../../src/ops/einsum.js';
import * as losses from '../../src/ops/losses.js';
import { matmul } from '../../src/ops/matmul.js';
import { gather } from '../../src/ops/movement.js';
import * as normalization from '../../src/ops/normalization.js';
import { mul, toFloat } from '../../src/ops/pointwise.js';
import { adaptiveAveragePool, averagePool, maxPool } from '../../src/ops/pooling.js';
import * as power from '../../src/ops/powers.js';
import * as rearrange from '../../src/ops/rearrangement.js';
import { resize, upsampleNearest } from '../../src/ops/resampling.js';
import { rotary, rotaryPositions } from '../../src/ops/rotary.js';
import * as statistics from '../../src/ops/statistics.js';
import { sizeOf, stridesOf, type Shape } from '../../src/tensor/shape.js';
import { tensor, type Tensor } from '../../src/tensor/tensor.js';

/** Numbers in float64 with a shape, for definitions written down element by element. */
export class Numbers {
  constructor(
    readonly shape: Shape,
    readonly data: Float64Array,
  ) {}

  static of(shape: Shape, f: (...at: number[]) => number): Numbers {
    const strides = stridesOf(shape);
    return new Numbers(
      shape,
      Float64Array.from({ length: sizeOf(shape) }, (_, i) =>
        f(...strides.map((stride, axis) => Math.floor(i / stride) % shape[axis])),
      ),
    );
  }

  /** The element at these coordinates. */
  at(...place: number[]): number {
    return this.data[stridesOf(this.shape).reduce((sum, stride, axis) => sum + stride * place[axis], 0)];
  }

  /** The same, NumPy's broadcasting included; 0 outside. */
  wide(place: readonly number[]): number {
    const own = place.slice(place.length - this.shape.length);
    return this.at(...own.map((p, axis) => (this.shape[axis] === 1 ? 0 : p)));
  }
}

/** An operation, its definition, and what PyTorch calls it where it has it (of x[0], x[1] …). */
export interface FunctionalCase {
  name: string;
  shapes: Shape[];
  range?: [number, number];
  apply: (...xs: Tensor[]) => Tensor;
  reference: (...xs: Numbers[]) => Numbers;
  torch?: string;
  /** It has no gradient, by its definition. */
  flat?: boolean;
  /** Its kernels are those of other cases, which are slow to compile: not run on the device again. */
  host?: boolean;
}

export const functionalCases: FunctionalCase[] = [];
type Options = Pick<FunctionalCase, 'range' | 'torch' | 'flat' | 'host'>;
const add = (
  name: string,
  shapes: Shape[],
  apply: FunctionalCase['apply'],
  reference: FunctionalCase['reference'],
  options: Options = {},
) => functionalCases.push({ name, shapes, apply, reference, ...options });

const range = (count: number) => Array.from({ length: count }, (_, i) => i);
const total = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
const sumOver = (count: number, f: (i: number) => number) => total(range(count).map(f));

// One element after the other.
const each = (
  name: string,
  apply: (x: Tensor) => Tensor,
  f: (x: number) => number,
  torch?: string,
  span: [number, number] = [-4, 4],
  flat = false,
) => add(name, [[3, 1, 7]], apply, (x) => Numbers.of(x.shape, (...at) => f(x.at(...at))), { torch, range: span, flat });
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const softplus = (x: number) => Math.log1p(Math.exp(x));
const clip = (x: number, low: number, high: number) => Math.min(high, Math.max(low, x));

each('relu', activation.relu, (x) => Math.max(0, x), 'F.relu(x[0])');
each('relu6', activation.relu6, (x) => clip(x, 0, 6), 'F.relu6(x[0])', [-9, 9]);
each(
  'leaky relu',
  (x) => activation.leakyRelu(x, 0.2),
  (x) => (x > 0 ? x : 0.2 * x),
  'F.leaky_relu(x[0], 0.2)',
);
each(
  'elu',
  (x) => activation.elu(x, 1.3),
  (x) => (x > 0 ? x : 1.3 * Math.expm1(x)),
  'F.elu(x[0], 1.3)',
);
each(
  'selu',
  activation.selu,
  (x) => 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * Math.expm1(x)),
  'F.selu(x[0])',
);
each('sigmoid', activation.sigmoid, sigmoid, 'torch.sigmoid(x[0])', [-20, 20]);
each('log sigmoid', activation.logSigmoid, (x) => -softplus(-x), 'F.logsigmoid(x[0])', [-60, 60]);
each('softplus', activation.softplus, softplus, 'torch.log1p(torch.exp(x[0]))', [-60, 60]);
each('mish', activation.mish, (x) => x * Math.tanh(softplus(x)), 'F.mish(x[0])', [-20, 20]);
each('hard sigmoid', activation.hardSigmoid, (x) => clip(x + 3, 0, 6) / 6, 'F.hardsigmoid(x[0])', [-5, 5]);
each('hard swish', activation.hardSwish, (x) => (x * clip(x + 3, 0, 6)) / 6, 'F.hardswish(x[0])', [-5, 5]);
each(
  'clamp',
  (x) => compare.clamp(x, -1, 1.5),
  (x) => clip(x, -1, 1.5),
  'torch.clamp(x[0], -1, 1.5)',
);
each('reciprocal', power.reciprocal, (x) => 1 / x, '1 / x[0]', [0.3, 3]);
each('rsqrt', power.rsqrt, (x) => x ** -0.5, 'torch.rsqrt(x[0])', [0.3, 3]);
for (const exponent of [0, 1, 2, 3, 5, -1, -2]) {
  each(
    `power ${exponent}`,
    (x) => power.pow(x, exponent),
    (x) => x ** exponent,
    `x[0] ** ${exponent}`,
    [-2, -0.4],
  );
}
for (const exponent of [0.5, 1.7, -0.3, 17]) {
  each(
    `power ${exponent}`,
    (x) => power.pow(x, exponent),
    (x) => x ** exponent,
    `x[0] ** ${exponent}`,
    [0.3, 1.4],
  );
}
each('sign', compare.sign, Math.sign, 'torch.sign(x[0])', [-4, 4], true);
each(
  'less or equal',
  (x) => compare.lessEqual(x, 0.5),
  (x) => Number(x <= 0.5),
  undefined,
  [-2, 2],
  true,
);
each(
  'greater or equal',
  (x) => compare.greaterEqual(x, 0.5),
  (x) => Number(x >= 0.5),
  undefined,
  [-2, 2],
  true,
);
each(
  'less, not',
  (x) => compare.logicalNot(compare.less(x, 0.5)),
  (x) => Number(x >= 0.5),
  undefined,
  [-2, 2],
  true,
);
each(
  'not equal',
  (x) => compare.notEqual(compare.sign(x), 1),
  (x) => Number(x <= 0),
  undefined,
  [-2, 2],
  true,
);

// Two operands that broadcast.
const pairs: [Shape, Shape][] = [
  [
    [2, 1, 5],
    [3, 1],
  ],
  [[7], [2, 7]],
];
for (const shapes of pairs) {
  const both = (f: (a: number, b: number) => number) => (a: Numbers, b: Numbers) => {
    const rank = Math.max(a.shape.length, b.shape.length);
    const extent = (s: Shape, i: number) => s[i - rank + s.length] ?? 1;
    const shape = range(rank).map((i) => Math.max(extent(a.shape, i), extent(b.shape, i)));
    return Numbers.of(shape, (...at) => f(a.wide(at), b.wide(at)));
  };
  const name = (op: string) => `${op} of [${shapes[0]}] and [${shapes[1]}]`;
  add(name('power'), shapes, power.pow, both(Math.pow), { torch: 'x[0] ** x[1]', range: [0.3, 2] });
  add(
    name('squared error'),
    shapes,
    (a, b) => losses.meanSquaredError(a, b, 'none'),
    both((a, b) => (a - b) ** 2),
    {
      torch: '(x[0] - x[1]) ** 2',
    },
  );
  add(
    name('absolute error'),
    shapes,
    (a, b) => losses.meanAbsoluteError(a, b, 'none'),
    both((a, b) => Math.abs(a - b)),
  );
  const huber = (a: number, b: number) => (Math.abs(a - b) <= 0.7 ? (a - b) ** 2 / 2 : 0.7 * (Math.abs(a - b) - 0.35));
  add(name('huber'), shapes, (a, b) => losses.huberLoss(a, b, 0.7, 'none'), both(huber));
  add(
    name('clamp by a tensor'),
    shapes,
    (a, b) => compare.clamp(a, b, 0.9),
    both((a, b) => clip(a, b, 0.9)),
    {
      range: [-2, 0.8],
      torch: 'torch.minimum(torch.maximum(x[0], x[1]), torch.tensor(0.9))',
    },
  );
  add(
    name('prelu'),
    shapes,
    activation.leakyRelu,
    both((a, b) => (a > 0 ? a : a * b)),
    {
      torch: 'torch.where(x[0] > 0, x[0], x[0] * x[1])',
    },
  );
}

// Losses to a number.
const scalar = (value: number) => new Numbers([], Float64Array.of(value));
const zipped = (a: Numbers, b: Numbers, f: (a: number, b: number) => number) =>
  Array.from(a.data, (x, i) => f(x, b.data[i]));
const same: Shape[] = [
  [3, 5],
  [3, 5],
];
add(
  'mse',
  same,
  (a, b) => losses.meanSquaredError(a, b),
  (a, b) => scalar(total(zipped(a, b, (x, y) => (x - y) ** 2)) / 15),
  {
    torch: 'F.mse_loss(x[0], x[1])',
  },
);
add(
  'l1',
  same,
  (a, b) => losses.meanAbsoluteError(a, b, 'sum'),
  (a, b) => scalar(total(zipped(a, b, (x, y) => Math.abs(x - y)))),
  {
    torch: "F.l1_loss(x[0], x[1], reduction='sum')",
  },
);
const smooth = (x: number, y: number) => (Math.abs(x - y) < 0.5 ? (x - y) ** 2 : Math.abs(x - y) - 0.25);
add(
  'smooth l1',
  same,
  (a, b) => losses.smoothL1Loss(a, b, 0.5),
  (a, b) => scalar(total(zipped(a, b, smooth)) / 15),
  {
    torch: 'F.smooth_l1_loss(x[0], x[1], beta=0.5)',
  },
);
add(
  'huber, mean',
  same,
  (a, b) => losses.huberLoss(a, b, 1.5),
  (a, b) =>
    scalar(
      total(zipped(a, b, (x, y) => (Math.abs(x - y) < 1.5 ? (x - y) ** 2 / 2 : 1.5 * (Math.abs(x - y) - 0.75)))) / 15,
    ),
  {
    torch: 'F.huber_loss(x[0], x[1], delta=1.5)',
  },
);
add(
  'bce',
  same,
  (a, b) => losses.binaryCrossEntropy(a, b),
  (a, b) => scalar(total(zipped(a, b, (p, y) => -(y * Math.log(p) + (1 - y) * Math.log(1 - p)))) / 15),
  {
    range: [0.1, 0.7],
    torch: '-(x[1] * torch.log(x[0]) + (1 - x[1]) * torch.log(1 - x[0])).mean()',
  },
);
add(
  'bce with logits',
  same,
  (a, b) => losses.binaryCrossEntropyWithLogits(a, b, 'none'),
  (a, b) => Numbers.of([3, 5], (i, j) => softplus(a.at(i, j)) - a.at(i, j) * b.at(i, j)),
  {
    range: [-5, 5],
    torch: 'F.softplus(x[0]) - x[0] * x[1]',
  },
);
const labels = [2, 0, 4, 4, 1, 3];
const labelled = tensor(Uint32Array.from(labels));
const logProbability = (x: Numbers, row: number, k: number) =>
  x.at(row, k) - Math.log(sumOver(x.shape[1], (j) => Math.exp(x.at(row, j))));
add(
  'cross entropy',
  [[6, 5]],
  (x) => losses.crossEntropy(x, labelled),
  (x) => scalar(-sumOver(6, (i) => logProbability(x, i, labels[i])) / 6),
  {
    torch: `F.cross_entropy(x[0], torch.tensor([${labels}]))`,
  },
);
add(
  'cross entropy, smoothed',
  [[6, 5]],
  (x) => losses.crossEntropy(x, labelled, { reduction: 'none', smoothing: 0.2 }),
  (x) =>
    Numbers.of([6], (i) => -0.8 * logProbability(x, i, labels[i]) - 0.04 * sumOver(5, (k) => logProbability(x, i, k))),
  {
    torch: `F.cross_entropy(x[0], torch.tensor([${labels}]), reduction='none', label_smoothing=0.2)`,
  },
);

// Statistics over axes of [3, 5, 2], and over one element.
const cube: Shape = [3, 5, 2];
const middle = (f: (values: number[]) => number) => (x: Numbers) =>
  Numbers.of([3, 1, 2], (i, _, k) => f(range(5).map((j) => x.at(i, j, k))));
const averageOf = (v: number[]) => total(v) / v.length;
const spread = (v: number[], correction: number) =>
  total(v.map((x) => (x - averageOf(v)) ** 2)) / (v.length - correction);
const pNorm = (v: number[], p: number) => total(v.map((x) => Math.abs(x) ** p)) ** (1 / p);
add('mean', [cube], (x) => statistics.mean(x, [1], true), middle(averageOf), { torch: 'x[0].mean(1, keepdim=True)' });
add(
  'mean of all',
  [cube],
  (x) => statistics.mean(x),
  (x) => scalar(averageOf([...x.data])),
  { torch: 'x[0].mean()' },
);
add(
  'least',
  [cube],
  (x) => statistics.min(x, [1], true),
  middle((v) => Math.min(...v)),
  { torch: 'x[0].amin(1, keepdim=True)' },
);
add(
  'variance',
  [cube],
  (x) => statistics.variance(x, [-2], true),
  middle((v) => spread(v, 1)),
  { torch: 'x[0].var(1, keepdim=True)' },
);
add(
  'variance, biased',
  [cube],
  (x) => statistics.variance(x, [1, 0], false, 0),
  (x) =>
    Numbers.of([2], (k) =>
      spread(
        range(15).map((i) => x.at(Math.floor(i / 5), i % 5, k)),
        0,
      ),
    ),
  {
    torch: 'x[0].var((0, 1), unbiased=False)',
  },
);
add(
  'deviation',
  [cube],
  (x) => statistics.standardDeviation(x, [1], true),
  middle((v) => Math.sqrt(spread(v, 1))),
  {
    torch: 'x[0].std(1, keepdim=True)',
  },
);
for (const order of [1, 2, 3]) {
  add(
    `norm ${order}`,
    [cube],
    (x) => statistics.norm(x, [1], true, order),
    middle((v) => pNorm(v, order)),
    {
      torch: `torch.linalg.vector_norm(x[0], ${order}, 1, keepdim=True)`,
    },
  );
}
add(
  'norm of the greatest',
  [cube],
  (x) => statistics.norm(x, [1], true, Infinity),
  middle((v) => Math.max(...v.map(Math.abs))),
  {
    torch: "torch.linalg.vector_norm(x[0], float('inf'), 1, keepdim=True)",
  },
);
add(
  'norm of one',
  [[4, 1]],
  (x) => statistics.norm(x, [1]),
  (x) => Numbers.of([4], (i) => Math.abs(x.at(i, 0))),
);
add(
  'log sum exp',
  [cube],
  (x) => statistics.logSumExp(x, [1], true),
  middle((v) => Math.log(total(v.map(Math.exp)))),
  {
    torch: 'torch.logsumexp(x[0], 1, keepdim=True)',
  },
);
add(
  'unit length',
  [cube],
  (x) => statistics.normalizeLength(x, 1),
  (x) => Numbers.of(cube, (i, j, k) => x.at(i, j, k) / Math.sqrt(sumOver(5, (l) => x.at(i, l, k) ** 2))),
  {
    torch: 'F.normalize(x[0], dim=1)',
  },
);
add(
  'cosine similarity',
  [
    [3, 7],
    [3, 7],
  ],
  (a, b) => statistics.cosineSimilarity(a, b),
  (a, b) =>
    Numbers.of([3], (i) => {
      const dot = (x: Numbers, y: Numbers) => sumOver(7, (j) => x.at(i, j) * y.at(i, j));
      return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
    }),
  { torch: 'F.cosine_similarity(x[0], x[1], dim=-1)' },
);
const first = (v: number[], best: number) => v.indexOf(best);
add(
  'argmax',
  [cube],
  (x) => toFloat(statistics.argmax(x, 1, true)),
  middle((v) => first(v, Math.max(...v))),
  {
    torch: 'x[0].argmax(1, keepdim=True)',
    flat: true,
  },
);
add(
  'argmin',
  [cube],
  (x) => toFloat(statistics.argmin(x, 1, true)),
  middle((v) => first(v, Math.min(...v))),
  {
    torch: 'x[0].argmin(1, keepdim=True)',
    flat: true,
  },
);
add(
  'argmax of equal ones',
  [cube],
  (x) => toFloat(statistics.argmax(compare.sign(x), 1, true)),
  middle((v) => {
    const signs = v.map(Math.sign);
    return first(signs, Math.max(...signs));
  }),
  { flat: true },
);
add(
  'one-hot',
  [[6, 5]],
  (x) => mul(statistics.oneHot(labelled, 5), x),
  (x) => Numbers.of([6, 5], (i, k) => Number(labels[i] === k) * x.at(i, k)),
  {
    torch: `F.one_hot(torch.tensor([${labels}]), 5) * x[0]`,
  },
);
for (const [shape, axis] of [
  [[3, 5, 2], 1],
  [[2, 7], -1],
  [[131, 3], 0],
  [[1, 1], 1],
  [[2, 64], 1],
] as const) {
  const along = axis < 0 ? axis + shape.length : axis;
  add(
    `cumulative sum of [${shape}] along ${axis}`,
    [shape],
    (x) => statistics.cumulativeSum(x, axis),
    (x) => Numbers.of(shape, (...at) => sumOver(at[along] + 1, (i) => x.at(...at.with(along, i)))),
    {
      torch: `x[0].cumsum(${axis})`,
    },
  );
}
for (const axis of [0, 1, 2]) {
  const exps = (x: Numbers, at: number[]) => sumOver(cube[axis], (i) => Math.exp(x.at(...at.with(axis, i))));
  add(
    `softmax along ${axis}`,
    [cube],
    (x) => normalization.softmax(x, axis),
    (x) => Numbers.of(cube, (...at) => Math.exp(x.at(...at)) / exps(x, at)),
    { torch: `torch.softmax(x[0], ${axis})` },
  );
  add(
    `log softmax along ${axis}`,
    [cube],
    (x) => normalization.logSoftmax(x, axis),
    (x) => Numbers.of(cube, (...at) => x.at(...at) - Math.log(exps(x, at))),
    { torch: `torch.log_softmax(x[0], ${axis})` },
  );
}

// Norms.
for (const shape of [
  [5, 7],
  [2, 3, 8],
  [3, 1],
  [1, 37],
] as Shape[]) {
  add(
    `rms norm of [${shape}]`,
    [shape],
    (x) => normalization.rmsNorm(x, 1e-3),
    (x) => {
      const last = shape.length - 1;
      return Numbers.of(shape, (...at) => {
        const squares = sumOver(shape[last], (i) => x.at(...at.with(last, i)) ** 2);
        return x.at(...at) / Math.sqrt(squares / shape[last] + 1e-3);
      });
    },
    { torch: 'x[0] * torch.rsqrt(x[0].pow(2).mean(-1, keepdim=True) + 1e-3)' },
  );
}
add(
  'instance norm',
  [[2, 3, 5, 3]],
  (x) => normalization.instanceNorm(x, 1e-3),
  (x) =>
    Numbers.of(x.shape, (n, i, j, c) => {
      const all = range(15).map((p) => x.at(n, Math.floor(p / 5), p % 5, c));
      return (x.at(n, i, j, c) - averageOf(all)) / Math.sqrt(spread(all, 0) + 1e-3);
    }),
  { torch: 'F.instance_norm(x[0].permute(0, 3, 1, 2), eps=1e-3).permute(0, 2, 3, 1)' },
);
add(
  'batch norm',
  [[2, 3, 5, 3], [3], [3], [3], [3]],
  (x, mean, variance, weight, bias) => normalization.batchNorm(x, { mean, variance, weight, bias }),
  (x, m, v, w, b) =>
    Numbers.of(x.shape, (n, i, j, c) => ((x.at(n, i, j, c) - m.at(c)) / Math.sqrt(v.at(c) + 1e-5)) * w.at(c) + b.at(c)),
  {
    range: [0.3, 2],
    torch: '(x[0] - x[1]) / torch.sqrt(x[2] + 1e-5) * x[3] + x[4]',
  },
);

// Convolutions: weights [rows, columns, C / groups, out].
interface Window {
  stride: [number, number];
  padding: [number, number];
  dilation: [number, number];
  groups: number;
}
/** Calls back with each pair of places that a convolution joins. */
function joins(
  x: Shape,
  w: Shape,
  y: Shape,
  { stride, padding, dilation, groups }: Window,
  found: (n: number, place: number[], at: number[], weight: number[]) => void,
) {
  const [inner, out] = [w[2], w[3] / groups];
  for (let n = 0; n < y[0]; n++)
    for (let i = 0; i < y[1]; i++)
      for (let j = 0; j < y[2]; j++)
        for (let a = 0; a < w[0]; a++)
          for (let b = 0; b < w[1]; b++) {
            const [p, q] = [i * stride[0] + a * dilation[0] - padding[0], j * stride[1] + b * dilation[1] - padding[1]];
            if (p < 0 || q < 0 || p >= x[1] || q >= x[2]) continue;
            for (let g = 0; g < groups; g++)
              for (let c = 0; c < inner; c++)
                for (let o = 0; o < out; o++)
                  found(n, [n, i, j, g * out + o], [n, p, q, g * inner + c], [a, b, c, g * out + o]);
          }
}
const flatIndex = (shape: Shape, at: number[]) =>
  stridesOf(shape).reduce((sum, stride, axis) => sum + stride * at[axis], 0);
const windows: [string, Shape, Shape, Window][] = [
  ['plain', [2, 5, 6, 3], [3, 3, 3, 5], { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 }],
  ['oblong', [1, 7, 5, 2], [3, 2, 2, 3], { stride: [2, 1], padding: [1, 0], dilation: [1, 1], groups: 1 }],
  ['dilated', [2, 7, 8, 4], [3, 3, 4, 2], { stride: [1, 1], padding: [2, 1], dilation: [2, 3], groups: 1 }],
  [
    'dilated with stride',
    [1, 9, 11, 2],
    [3, 3, 2, 3],
    { stride: [2, 3], padding: [1, 2], dilation: [2, 2], groups: 1 },
  ],
  [
    'stride beyond the kernel',
    [1, 8, 7, 1],
    [2, 1, 1, 2],
    { stride: [3, 2], padding: [0, 0], dilation: [1, 1], groups: 1 },
  ],
  ['grouped', [2, 5, 4, 6], [3, 3, 2, 9], { stride: [1, 2], padding: [1, 1], dilation: [1, 1], groups: 3 }],
  ['depthwise', [2, 5, 6, 5], [3, 3, 1, 5], { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 5 }],
  [
    'depthwise with multiples',
    [1, 6, 5, 3],
    [3, 2, 1, 6],
    { stride: [2, 1], padding: [1, 0], dilation: [1, 2], groups: 3 },
  ],
  ['pointwise', [3, 1, 1, 7], [1, 1, 7, 1], { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }],
];
const channelsFirst = (x: string) => `${x}.permute(0, 3, 1, 2)`;
const channelsLast = (x: string) => `(${x}).permute(0, 2, 3, 1)`;
const kernelFirst = (x: string) => `${x}.permute(3, 2, 0, 1)`;
for (const [name, shape, weight, window] of windows) {
  const { stride, padding, dilation, groups } = window;
  const options = `stride=(${stride}), padding=(${padding}), dilation=(${dilation}), groups=${groups}`;
  const extent = (axis: 0 | 1) =>
    Math.floor((shape[axis + 1] + 2 * padding[axis] - dilation[axis] * (weight[axis] - 1) - 1) / stride[axis]) + 1;
  const output: Shape = [shape[0], extent(0), extent(1), weight[3]];
  add(
    `convolution, ${name}`,
    [shape, weight, [weight[3]]],
    (x, w, b) => convolution.conv2d(x, w, b, window),
    (x, w, b) => {
      const y = Numbers.of(output, (_n, _i, _j, o) => b.at(o));
      joins(
        shape,
        weight,
        output,
        window,
        (_, place, at, k) => (y.data[flatIndex(output, place)] += x.at(...at) * w.at(...k)),
      );
      return y;
    },
    {
      host: !['oblong', 'dilated', 'grouped', 'depthwise', 'depthwise with multiples'].includes(name),
      torch: channelsLast(`F.conv2d(${channelsFirst('x[0]')}, ${kernelFirst('x[1]')}, x[2], ${options})`),
    },
  );
  // From the output to images of the first shape.
  const extra = [0, 1].map((axis) => {
    const least = (output[axis + 1] - 1) * stride[axis] - 2 * padding[axis] + dilation[axis] * (weight[axis] - 1) + 1;
    return Math.min(shape[axis + 1] - least, Math.max(stride[axis], dilation[axis]) - 1);
  }) as [number, number];
  const images: Shape = [
    shape[0],
    ...[0, 1].map(
      (axis) =>
        (output[axis + 1] - 1) * stride[axis] -
        2 * padding[axis] +
        dilation[axis] * (weight[axis] - 1) +
        1 +
        extra[axis],
    ),
    shape[3],
  ];
  add(
    `transposed convolution, ${name}`,
    [output, weight, [shape[3]]],
    (x, w, b) => convolution.convTranspose2d(x, w, b, { ...window, outputPadding: extra }),
    (x, w, b) => {
      const y = Numbers.of(images, (_n, _i, _j, c) => b.at(c));
      joins(
        images,
        weight,
        output,
        window,
        (_, place, at, k) => (y.data[flatIndex(images, at)] += x.at(...place) * w.at(...k)),
      );
      return y;
    },
    {
      host: !['grouped', 'depthwise with multiples'].includes(name),
      torch: channelsLast(
        `F.conv_transpose2d(${channelsFirst('x[0]')}, ${kernelFirst('x[1]')}, x[2], output_padding=(${extra}), ${options})`,
      ),
    },
  );
}
add(
  'convolution of lines',
  [
    [2, 9, 3],
    [3, 3, 2],
  ],
  (x, w) => convolution.conv1d(x, w, undefined, { stride: 2, padding: 1 }),
  (x, w) =>
    Numbers.of([2, 5, 2], (n, i, o) =>
      sumOver(3, (k) =>
        sumOver(3, (c) => {
          const p = 2 * i + k - 1;
          return p < 0 || p > 8 ? 0 : x.at(n, p, c) * w.at(k, c, o);
        }),
      ),
    ),
  { host: true, torch: 'F.conv1d(x[0].transpose(1, 2), x[1].permute(2, 1, 0), stride=2, padding=1).transpose(1, 2)' },
);
add(
  'transposed convolution of lines',
  [
    [2, 5, 2],
    [3, 3, 2],
  ],
  (x, w) => convolution.convTranspose1d(x, w, undefined, { stride: 2, padding: 1 }),
  (x, w) => {
    const y = Numbers.of([2, 9, 3], () => 0);
    for (let n = 0; n < 2; n++)
      for (let i = 0; i < 5; i++)
        for (let k = 0; k < 3; k++)
          for (let c = 0; c < 3; c++)
            for (let o = 0; o < 2; o++) {
              const p = 2 * i + k - 1;
              if (p >= 0 && p < 9) y.data[(n * 9 + p) * 3 + c] += x.at(n, i, o) * w.at(k, c, o);
            }
    return y;
  },
  {
    host: true,
    torch: 'F.conv_transpose1d(x[0].transpose(1, 2), x[1].permute(2, 1, 0), stride=2, padding=1).transpose(1, 2)',
  },
);

// Pooling.
const pools: [Shape, [number, number], [number, number], [number, number]][] = [
  [
    [2, 4, 6, 3],
    [2, 2],
    [2, 2],
    [0, 0],
  ],
  [
    [1, 5, 7, 2],
    [2, 2],
    [2, 2],
    [0, 0],
  ],
  [
    [2, 7, 5, 1],
    [3, 3],
    [2, 2],
    [1, 1],
  ],
  [
    [1, 5, 6, 4],
    [3, 2],
    [1, 3],
    [1, 0],
  ],
  [
    [1, 3, 3, 5],
    [3, 3],
    [3, 3],
    [0, 0],
  ],
];
for (const [shape, kernel, stride, padding] of pools) {
  const extent = (axis: 0 | 1) => Math.floor((shape[axis + 1] + 2 * padding[axis] - kernel[axis]) / stride[axis]) + 1;
  const output: Shape = [shape[0], extent(0), extent(1), shape[3]];
  const inside = (x: Numbers, [n, i, j, c]: number[]) =>
    range(kernel[0] * kernel[1]).flatMap((k) => {
      const [p, q] = [
        i * stride[0] + Math.floor(k / kernel[1]) - padding[0],
        j * stride[1] + (k % kernel[1]) - padding[1],
      ];
      return p < 0 || q < 0 || p >= shape[1] || q >= shape[2] ? [] : [x.at(n, p, q, c)];
    });
  const name = (kind: string) => `${kind} pool of [${shape}] by [${kernel}], stride [${stride}], padding [${padding}]`;
  const call = `(${channelsFirst('x[0]')}, (${kernel}), (${stride}), (${padding})`;
  add(
    name('average'),
    [shape],
    (x) => averagePool(x, { kernel, stride, padding }),
    (x) => Numbers.of(output, (...at) => total(inside(x, at)) / kernel[0] / kernel[1]),
    {
      torch: channelsLast(`F.avg_pool2d${call})`),
    },
  );
  add(
    name('average of what there is'),
    [shape],
    (x) => averagePool(x, { kernel, stride, padding, countPadding: false }),
    (x) => Numbers.of(output, (...at) => averageOf(inside(x, at))),
    {
      torch: channelsLast(`F.avg_pool2d${call}, count_include_pad=False)`),
    },
  );
  add(
    name('max'),
    [shape],
    (x) => maxPool(x, { kernel, stride, padding }),
    (x) => Numbers.of(output, (...at) => Math.max(...inside(x, at))),
    { torch: channelsLast(`F.max_pool2d${call})`) },
  );
}
add(
  'max pool, dilated',
  [[1, 7, 8, 3]],
  (x) => maxPool(x, { kernel: 2, stride: [1, 2], dilation: [3, 2] }),
  (x) =>
    Numbers.of([1, 4, 3, 3], (n, i, j, c) =>
      Math.max(...range(4).map((k) => x.at(n, i + 3 * (k >> 1), 2 * j + 2 * (k & 1), c))),
    ),
  {
    torch: channelsLast(`F.max_pool2d(${channelsFirst('x[0]')}, 2, (1, 2), 0, (3, 2))`),
  },
);
for (const [height, width] of [
  [1, 1],
  [2, 3],
  [5, 7],
  [3, 5],
] as const) {
  const bin = (i: number, inputs: number, outputs: number) => [
    Math.floor((i * inputs) / outputs),
    Math.ceil(((i + 1) * inputs) / outputs),
  ];
  add(
    `adaptive average pool to ${height}x${width}`,
    [[2, 5, 7, 3]],
    (x) => adaptiveAveragePool(x, [height, width]),
    (x) =>
      Numbers.of([2, height, width, 3], (n, i, j, c) => {
        const [[a, b], [p, q]] = [bin(i, 5, height), bin(j, 7, width)];
        return sumOver(b - a, (u) => sumOver(q - p, (v) => x.at(n, a + u, p + v, c))) / (b - a) / (q - p);
      }),
    { torch: channelsLast(`F.adaptive_avg_pool2d(${channelsFirst('x[0]')}, (${height}, ${width}))`) },
  );
}

// Other sizes.
const cubic = (d: number) => {
  const s = Math.abs(d);
  if (s <= 1) return 1.25 * s ** 3 - 2.25 * s ** 2 + 1;
  return s < 2 ? -0.75 * (s ** 3 - 5 * s ** 2 + 8 * s - 4) : 0;
};
for (const [shape, size] of [
  [
    [2, 3, 5, 3],
    [6, 10],
  ],
  [
    [1, 4, 7, 2],
    [7, 3],
  ],
  [
    [1, 1, 3, 1],
    [3, 1],
  ],
  [
    [1, 5, 4, 4],
    [13, 11],
  ],
] as [Shape, [number, number]][]) {
  const result: Shape = [shape[0], ...size, shape[3]];
  const scaled = (i: number, axis: 0 | 1, align: boolean) =>
    align
      ? size[axis] > 1
        ? (i * (shape[axis + 1] - 1)) / (size[axis] - 1)
        : 0
      : ((i + 0.5) * shape[axis + 1]) / size[axis] - 0.5;
  const weighted = (kernel: (d: number) => number, clampPlace: boolean, align: boolean) => (x: Numbers) =>
    Numbers.of(result, (n, i, j, c) => {
      const places = [i, j].map((at, axis) => {
        const place = scaled(at, axis as 0 | 1, align);
        return clampPlace ? Math.max(0, place) : place;
      });
      const taps = places.map((place, axis) =>
        range(6).map((k) => {
          const tap = Math.floor(place) + k - 2;
          return [clip(tap, 0, shape[axis + 1] - 1), kernel(place - tap)];
        }),
      );
      return total(taps[0].flatMap(([p, a]) => taps[1].map(([q, b]) => a * b * x.at(n, p, q, c))));
    });
  const torch = (mode: string) => channelsLast(`F.interpolate(${channelsFirst('x[0]')}, size=(${size}), ${mode})`);
  const name = (mode: string) => `${mode} resize of [${shape}] to [${size}]`;
  add(
    name('nearest'),
    [shape],
    (x) => resize(x, size, 'nearest'),
    (x) =>
      Numbers.of(result, (n, i, j, c) =>
        x.at(n, Math.floor((i * shape[1]) / size[0]), Math.floor((j * shape[2]) / size[1]), c),
      ),
    {
      torch: torch("mode='nearest'"),
    },
  );
  const tent = (d: number) => Math.max(0, 1 - Math.abs(d));
  for (const align of [false, true]) {
    const corners = `align_corners=${align ? 'True' : 'False'}`;
    add(
      name(`bilinear ${align}`),
      [shape],
      (x) => resize(x, size, 'bilinear', { alignCorners: align }),
      weighted(tent, true, align),
      {
        torch: torch(`mode='bilinear', ${corners}`),
      },
    );
    add(
      name(`bicubic ${align}`),
      [shape],
      (x) => resize(x, size, 'bicubic', { alignCorners: align }),
      weighted(cubic, false, align),
      {
        torch: torch(`mode='bicubic', ${corners}`),
      },
    );
  }
}
add(
  'every pixel 3 x 3',
  [[2, 2, 1, 3]],
  (x) => upsampleNearest(x, 3),
  (x) => Numbers.of([2, 6, 3, 3], (n, i, j, c) => x.at(n, Math.floor(i / 3), Math.floor(j / 3), c)),
  {
    torch: channelsLast(`F.interpolate(${channelsFirst('x[0]')}, scale_factor=3, mode='nearest')`),
  },
);

// Rearrangement.
const moved = (
  name: string,
  shape: Shape,
  result: Shape,
  apply: (x: Tensor) => Tensor,
  from: (...at: number[]) => number[],
  torch: string,
) => add(name, [shape], apply, (x) => Numbers.of(result, (...at) => x.at(...from(...at))), { torch });
moved(
  'squeeze',
  [3, 1, 5, 1],
  [3, 5, 1],
  (x) => rearrange.squeeze(x, [1]),
  (i, j, k) => [i, 0, j, k],
  'x[0].squeeze(1)',
);
moved(
  'squeeze all',
  [3, 1, 5, 1],
  [3, 5],
  (x) => rearrange.squeeze(x),
  (i, j) => [i, 0, j, 0],
  'x[0].squeeze()',
);
moved(
  'unsqueeze',
  [3, 5],
  [3, 5, 1],
  (x) => rearrange.unsqueeze(x, -1),
  (i, j) => [i, j],
  'x[0].unsqueeze(-1)',
);
moved(
  'tile',
  [3, 5],
  [2, 3, 15],
  (x) => rearrange.tile(x, [2, 1, 3]),
  (_, j, k) => [j, k % 5],
  'x[0].repeat(2, 1, 3)',
);
moved(
  'repeat',
  [3, 5],
  [6, 5],
  (x) => rearrange.repeat(x, 2, 0),
  (i, j) => [i >> 1, j],
  'x[0].repeat_interleave(2, 0)',
);
moved(
  'flip',
  [3, 4, 2],
  [3, 4, 2],
  (x) => rearrange.flip(x, [1, -1]),
  (i, j, k) => [i, 3 - j, 1 - k],
  'x[0].flip(1, 2)',
);
moved(
  'flip of rows of 8',
  [3, 8],
  [3, 8],
  (x) => rearrange.flip(x, [0]),
  (i, j) => [2 - i, j],
  'x[0].flip(0)',
);
moved(
  'roll',
  [3, 7],
  [3, 7],
  (x) => rearrange.roll(x, 2, 1),
  (i, j) => [i, (j + 5) % 7],
  'x[0].roll(2, 1)',
);
moved(
  'roll back',
  [3, 7],
  [3, 7],
  (x) => rearrange.roll(x, -10, 1),
  (i, j) => [i, (j + 3) % 7],
  'x[0].roll(-10, 1)',
);
moved(
  'take',
  [3, 5, 2],
  [3, 4, 2],
  (x) => rearrange.take(x, [4, 0, 0, 2], 1),
  (i, j, k) => [i, [4, 0, 0, 2][j], k],
  'x[0][:, [4, 0, 0, 2]]',
);
moved(
  'rows of a table',
  [5, 3],
  [2, 2, 3],
  (x) => gather(x, tensor(Uint32Array.of(4, 0, 1, 4), [2, 2])),
  (i, j, k) => [[4, 0, 1, 4][2 * i + j], k],
  'F.embedding(torch.tensor([[4, 0], [1, 4]]), x[0])',
);
moved(
  'reflect',
  [2, 5, 1],
  [2, 9, 1],
  (x) => rearrange.padEdges(x, 1, [3, 1], 'reflect'),
  (i, j, k) => [i, 4 - Math.abs(4 - Math.abs(j - 3)), k],
  "F.pad(x[0].transpose(1, 2), (3, 1), mode='reflect').transpose(1, 2)",
);
moved(
  'replicate',
  [2, 3],
  [2, 6],
  (x) => rearrange.padEdges(x, -1, [1, 2], 'replicate'),
  (i, j) => [i, clip(j - 1, 0, 2)],
  "F.pad(x[0], (1, 2), mode='replicate')",
);
moved(
  'circular',
  [2, 1, 3],
  [2, 1, 6],
  (x) => rearrange.padEdges(x, 2, [1, 2], 'circular'),
  (i, j, k) => [i, j, (k + 2) % 3],
  "F.pad(x[0], (1, 2), mode='circular')",
);
moved(
  'pixel shuffle',
  [2, 2, 3, 12],
  [2, 4, 6, 3],
  (x) => rearrange.pixelShuffle(x, 2),
  (n, i, j, c) => [n, i >> 1, j >> 1, 4 * c + 2 * (i & 1) + (j & 1)],
  channelsLast(`F.pixel_shuffle(${channelsFirst('x[0]')}, 2)`),
);
moved(
  'pixel unshuffle',
  [1, 6, 3, 2],
  [1, 2, 1, 18],
  (x) => rearrange.pixelUnshuffle(x, 3),
  (n, i, j, c) => [n, 3 * i + Math.floor((c % 9) / 3), 3 * j + (c % 3), Math.floor(c / 9)],
  channelsLast(`F.pixel_unshuffle(${channelsFirst('x[0]')}, 3)`),
);
add(
  'stack',
  [
    [3, 2],
    [3, 2],
  ],
  (a, b) => rearrange.stack([a, b], 1),
  (a, b) => Numbers.of([3, 2, 2], (i, j, k) => [a, b][j].at(i, k)),
  { torch: 'torch.stack(x, 1)' },
);
add(
  'gated linear unit',
  [[3, 6]],
  (x) => activation.glu(x),
  (x) => Numbers.of([3, 3], (i, j) => x.at(i, j) * sigmoid(x.at(i, j + 3))),
  {
    torch: 'F.glu(x[0], -1)',
  },
);
add(
  'greatest of each channel',
  [[2, 3, 5, 3]],
  (x) => max(x, [1, 2], true),
  (x) =>
    Numbers.of([2, 1, 1, 3], (n, _i, _j, c) => Math.max(...range(15).map((p) => x.at(n, Math.floor(p / 5), p % 5, c)))),
  {
    torch: channelsLast(`F.adaptive_max_pool2d(${channelsFirst('x[0]')}, 1)`),
  },
);

// Products.
add(
  'matmul, batches that broadcast',
  [
    [2, 1, 3, 5],
    [4, 5, 2],
  ],
  (a, b) => matmul(a, b),
  (a, b) => Numbers.of([2, 4, 3, 2], (n, h, i, j) => sumOver(5, (k) => a.at(n, 0, i, k) * b.at(h, k, j))),
  { torch: 'x[0] @ x[1]' },
);
add(
  'matmul, one row',
  [
    [1, 5],
    [3, 5, 1],
  ],
  (a, b) => matmul(a, b),
  (a, b) => Numbers.of([3, 1, 1], (h) => sumOver(5, (k) => a.at(0, k) * b.at(h, k, 0))),
  { torch: 'x[0] @ x[1]' },
);
const sums: [string, Shape[], Shape, (xs: Numbers[], at: number[]) => number][] = [
  [
    'bqhd,bkhd->bhqk',
    [
      [2, 3, 2, 5],
      [2, 4, 2, 5],
    ],
    [2, 2, 3, 4],
    ([a, b], [n, h, q, k]) => sumOver(5, (d) => a.at(n, q, h, d) * b.at(n, k, h, d)),
  ],
  ['ij->ji', [[3, 5]], [5, 3], ([a], [i, j]) => a.at(j, i)],
  ['ij->i', [[3, 5]], [3], ([a], [i]) => sumOver(5, (j) => a.at(i, j))],
  ['i,j->ij', [[3], [5]], [3, 5], ([a, b], [i, j]) => a.at(i) * b.at(j)],
  ['i,i->', [[7], [7]], [], ([a, b]) => sumOver(7, (i) => a.at(i) * b.at(i))],
  [
    'ijk,kl,jl->i',
    [
      [2, 3, 4],
      [4, 5],
      [3, 5],
    ],
    [2],
    ([a, b, c], [i]) =>
      sumOver(3, (j) => sumOver(4, (k) => sumOver(5, (l) => a.at(i, j, k) * b.at(k, l) * c.at(j, l)))),
  ],
  [
    'ij,kl->il',
    [
      [2, 3],
      [4, 5],
    ],
    [2, 5],
    ([a, b], [i, l]) => sumOver(3, (j) => a.at(i, j)) * sumOver(4, (k) => b.at(k, l)),
  ],
];
for (const [equation, shapes, result, f] of sums)
  add(
    `einsum ${equation}`,
    shapes,
    (...xs) => einsum(equation, ...xs),
    (...xs) => Numbers.of(result, (...at) => f(xs, at)),
    {
      host: !['bqhd,bkhd->bhqk', 'ijk,kl,jl->i'].includes(equation),
      torch: `torch.einsum('${equation}', *x)`,
    },
  );

// Rotary positions: heads of d channels, turned by position · 10000^(-2 i / width).
for (const layout of ['halves', 'interleaved'] as const) {
  for (const [tokens, heads, depth, width] of [
    [5, 2, 6, 6],
    [3, 1, 7, 4],
  ]) {
    const half = width / 2;
    const partners = (i: number) =>
      layout === 'halves' ? [i % half, (i % half) + half] : [i - (i % 2), i - (i % 2) + 1];
    const turn = layout === 'halves' ? (i: number) => i % half : (i: number) => Math.floor(i / 2);
    const isFirst = (i: number) => partners(i)[0] === i;
    const positions = range(tokens).map((i) => 1.5 * i);
    const shape: Shape = [2, tokens, heads * depth];
    const split = layout === 'halves' ? ['[..., :H]', '[..., H:W]'] : ['[..., 0:W:2]', '[..., 1:W:2]'];
    const [p, q] = split.map(
      (s) =>
        `x[0].reshape(2, ${tokens}, ${heads}, ${depth})${s.replaceAll('H', `${half}`).replaceAll('W', `${width}`)}`,
    );
    const z = `(torch.complex(${p}, ${q}) * torch.polar(torch.tensor(1.), 1.5 * torch.arange(${tokens}.)[:, None, None] * 10000. ** (-2 * torch.arange(${half}.) / ${width})))`;
    const joined =
      layout === 'halves'
        ? `torch.cat([${z}.real, ${z}.imag], -1)`
        : `torch.stack([${z}.real, ${z}.imag], -1).flatten(-2)`;
    add(
      `rotary positions, ${layout}, ${width} of ${depth} channels`,
      [shape],
      (x) => rotary(x, rotaryPositions(positions, width), { heads, layout }),
      (x) =>
        Numbers.of(shape, (n, token, channel) => {
          const [head, i] = [Math.floor(channel / depth), channel % depth];
          if (i >= width) return x.at(n, token, channel);
          const angle = positions[token] * 10000 ** ((-2 * turn(i)) / width);
          const [a, b] = partners(i).map((k) => x.at(n, token, head * depth + k));
          return isFirst(i) ? a * Math.cos(angle) - b * Math.sin(angle) : b * Math.cos(angle) + a * Math.sin(angle);
        }),
      {
        torch: `torch.cat([${joined}, x[0].reshape(2, ${tokens}, ${heads}, ${depth})[..., ${width}:]], -1).reshape(2, ${tokens}, ${heads * depth})`,
      },
    );
  }
}

// Attention with what the kernels do not have: 2 heads of 3 channels, 4 queries, 5 keys.
const seenBy = [1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0];
const attended = (
  x: Numbers[],
  bias: (head: number, i: number, j: number) => number,
  sees: (i: number, j: number) => boolean,
) =>
  Numbers.of([2, 4, 6], (n, i, channel) => {
    const head = Math.floor(channel / 3);
    const keys = range(5).filter((j) => sees(i, j));
    const weights = keys.map((j) => {
      const dot = sumOver(3, (d) => x[0].at(n, i, head * 3 + d) * x[1].at(n, j, head * 3 + d));
      return Math.exp(dot / Math.sqrt(3) + bias(head, i, j));
    });
    return total(keys.map((j, k) => (weights[k] / total(weights)) * x[2].at(n, j, channel)));
  });
const attentionShapes: Shape[] = [
  [2, 4, 6],
  [2, 5, 6],
  [2, 5, 6],
];
const torchAttention = (scores: string) => {
  const [q, k, v] = [4, 5, 5].map((tokens, i) => `x[${i}].reshape(2, ${tokens}, 2, 3).transpose(1, 2)`);
  const weights = `torch.softmax((${q} @ ${k}.transpose(2, 3) / 3 ** 0.5)${scores}, -1)`;
  return `(${weights} @ ${v}).transpose(1, 2).reshape(2, 4, 6)`;
};
add(
  'attention with a mask',
  attentionShapes,
  (q, k, v) => attention(q, k, v, 2, { mask: tensor(seenBy, [4, 5]) }),
  (...x) =>
    attended(
      x,
      () => 0,
      (i, j) => seenBy[5 * i + j] > 0,
    ),
  // PyTorch has NaN for the last query, which sees nothing.
  { host: true },
);
add(
  'attention with a bias',
  [...attentionShapes, [2, 4, 5]],
  (q, k, v, bias) => attention(q, k, v, 2, { bias }),
  (...x) =>
    attended(
      x,
      (h, i, j) => x[3].at(h, i, j),
      () => true,
    ),
  { torch: torchAttention(' + x[3]') },
);
add(
  'attention with a mask, causal',
  attentionShapes,
  (q, k, v) => attention(q, k, v, 2, { causal: true, mask: tensor(seenBy.slice(10, 15), [5]) }),
  (...x) =>
    attended(
      x,
      () => 0,
      (i, j) => j <= i,
    ),
  { torch: torchAttention(" + torch.triu(torch.full((4, 5), float('-inf')), 1)") },
);
