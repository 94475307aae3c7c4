import { axisOf, sizeOf, type Shape } from '../tensor/shape.js';
import { Tensor } from '../tensor/tensor.js';
import { UserError } from '../errors.js';
import { requireFloats } from './floats.js';
import { permute, reshape } from './movement.js';
import { add, div, exp, log, mul, sqrt, square, stopGradient, sub } from './pointwise.js';
import { max, sum } from './broadcast.js';
import { rowChoice, rowKernel } from './rows.js';
import { bool, f32, type IndexRule, type KernelRule, type Operand } from './rule.js';

/** How rows are normalised: [N, P, C] by groups of channels, less their mean or not. */
export interface Normalization {
  groups: number;
  epsilon: number;
  centred: boolean;
}

declare module '../tensor/tensor.js' {
  interface OpAttributes {
    softmax: object;
    softmaxGradient: object;
    rowStatistics: Normalization;
    normalize: Normalization;
    normalizeGradient: Omit<Normalization, 'epsilon'>;
  }
}

/**
 * Layer normalisation over the last axis, without affine part: (x - mean) / sqrt(variance + epsilon), variance biased
 * (Ba et al., 2016). Scale and shift are ordinary arithmetic, which the engine fuses: `layerNorm(x) * (1 + scale) + shift`.
 */
export function layerNorm(x: Tensor, epsilon = 1e-5): Tensor {
  return normalizeGroups(rows(x), { groups: 1, epsilon, centred: true }, x.shape);
}

/**
 * Root mean square normalisation over the last axis, without scale: x / sqrt(mean(x²) + epsilon) (Zhang and Sennrich,
 * 2019).
 */
export function rmsNorm(x: Tensor, epsilon = 2 ** -23): Tensor {
  return normalizeGroups(rows(x), { groups: 1, epsilon, centred: false }, x.shape);
}

const rows = (x: Tensor) => reshape(x, [rowsOf(x.shape), 1, x.shape.at(-1)!]);

/**
 * Group normalisation of [N, ..., C], without affine part: mean and variance over all positions of an item and the
 * C / groups neighbouring channels of a group (Wu and He, 2018).
 * @throws UserError when the groups do not divide the channels
 */
export function groupNorm(x: Tensor, groups: number, epsilon = 1e-5): Tensor {
  const [batch, channels] = [x.shape[0], x.shape.at(-1)!];
  if (channels % groups) throw new UserError(`${groups} groups do not divide the ${channels} channels of [${x.shape}]`);
  return normalizeGroups(reshape(x, [batch, -1, channels]), { groups, epsilon, centred: true }, x.shape);
}

/** Instance normalisation of [N, ..., C]: each channel of an item over its positions (Ulyanov et al., 2016). */
export const instanceNorm = (x: Tensor, epsilon = 1e-5): Tensor => groupNorm(x, x.shape.at(-1)!, epsilon);

/** Statistics of a batch norm, and its scale and shift: [C] each. */
export interface BatchStatistics {
  mean: Tensor;
  variance: Tensor;
  weight?: Tensor;
  bias?: Tensor;
}

/** Batch normalisation as in evaluation, channels last: an affine map by running statistics (Ioffe and Szegedy, 2015). */
export function batchNorm(x: Tensor, { mean, variance, weight, bias }: BatchStatistics, epsilon = 1e-5): Tensor {
  const scale = div(weight ?? 1, sqrt(add(variance, epsilon)));
  const y = mul(sub(x, mean), scale);
  return bias ? add(y, bias) : y;
}

/** [N, P, C] normalised by group, under another shape. */
function normalizeGroups(x: Tensor, attributes: Normalization, shape: Shape): Tensor {
  requireFloats('a norm', x);
  const statistics = new Tensor('rowStatistics', [x], attributes, [x.shape[0] * attributes.groups, 2]);
  return reshape(new Tensor('normalize', [x, statistics], attributes, x.shape), shape);
}

/** exp(x - max) / Σ exp(x - max) over an axis, the last one by default. */
export function softmax(x: Tensor, axis = -1): Tensor {
  requireFloats('softmax', x);
  const along = axisOf(axis, x.shape.length);
  const last = x.shape.length - 1;
  const swapped = x.shape.map((_, i) => (i === along ? last : i === last ? along : i));
  const y = permute(x, swapped);
  return permute(new Tensor('softmax', [y], {}, y.shape), swapped);
}

/** log(softmax(x)) over an axis, the last one by default, without its underflow. */
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  const shifted = sub(x, stopGradient(max(x, [axis], true)));
  return sub(shifted, log(sum(exp(shifted), [axis], true)));
}

const rowsOf = (shape: Shape) => sizeOf(shape.slice(0, -1));

/** Mean (0 where rows are not centred) and reciprocal standard deviation of each row, side by side. */
export const rowStatisticsRule: KernelRule<'rowStatistics'> = {
  kind: 'kernel',
  dependent: true,
  precise: true,
  halfOperands: true,
  choices: ({ inputs: [x], attributes: { groups } }, profile) => [
    rowChoice('row-statistics', profile, x.shape, groups),
  ],
  kernel: ({ inputs: [x], attributes: { groups, epsilon, centred } }, profile) => {
    const kernel = rowKernel('row-statistics', profile, x.shape, groups, { x });
    return { ...kernel, constants: { ...kernel.constants, EPSILON: f32(epsilon), CENTRED: bool(centred) }, run: 1 };
  },
  // `normalize` carries the whole gradient, through the statistics too.
  gradient: null,
};

export const normalizeRule: IndexRule<'normalize'> = {
  kind: 'index',
  cost: 3,
  access: 'moved',
  inline: true,
  choices: ({ attributes: { groups }, shape }, profile) => [rowChoice('normalize', profile, shape, groups)],
  emit: (
    { inputs: [x, statistics], attributes: { groups }, shape: [, positions, channels] },
    emitter,
    index,
    width,
  ) => {
    const size = channels / groups;
    const one = (i: string, w: 1 | 4) => {
      const item = emitter.line(`${i} / ${positions * channels}u`);
      const row = groups === 1 ? item : emitter.line(`${item} * ${groups}u + ${i} % ${channels}u / ${size}u`);
      const [mean, rstd] = [`${row} * 2u`, `${row} * 2u + 1u`].map((at) =>
        emitter.value(statistics, emitter.line(at), 1),
      );
      return emitter.line(`(${emitter.value(x, i, w)} - ${mean}) * ${rstd}`);
    };
    if (width === 1 || size % 4 === 0) return one(index, width);
    const lanes = [0, 1, 2, 3].map((lane) => one(lane ? emitter.line(`${index} + ${lane}u`) : index, 1));
    return emitter.line(`vec4f(${lanes.join(', ')})`);
  },
  joint: {
    input: 1,
    kernel: ({ inputs: [x, statistics], attributes: { groups, epsilon, centred } }, profile) => {
      const kernel = rowKernel('normalize', profile, x.shape, groups, { x });
      return {
        ...kernel,
        constants: { ...kernel.constants, EPSILON: f32(epsilon), CENTRED: bool(centred) },
        secondary: statistics.size,
      };
    },
  },
  gradient: ({ inputs: [x, statistics], attributes: { groups, centred } }, g) => [
    new Tensor('normalizeGradient', [g, x, statistics], { groups, centred }, x.shape),
    null,
  ],
};

/** rstd · (g - mean(g) - x̂ · mean(g · x̂)), means over the row; without mean(g) where x was not centred. */
export const normalizeGradientRule: KernelRule<'normalizeGradient'> = {
  kind: 'kernel',
  halfOperands: true,
  choices: ({ attributes: { groups }, shape }, profile) => [rowChoice('normalize-gradient', profile, shape, groups)],
  kernel: ({ inputs: [g, x, statistics], attributes: { groups, centred } }, profile) => {
    const kernel = rowKernel('normalize-gradient', profile, x.shape, groups, { g, x });
    const operands: Operand[] = [
      ...kernel.operands,
      { name: 'statistics', tensor: statistics, fusion: 'none', run: 1 },
    ];
    return { ...kernel, operands, constants: { ...kernel.constants, CENTRED: bool(centred) } };
  },
  gradient: null,
};

/** The rows of the last axis as `rowKernel` takes them. */
const lastAxis = ({ shape }: Tensor): Shape => [rowsOf(shape), 1, shape.at(-1)!];

export const softmaxRule: KernelRule<'softmax'> = {
  kind: 'kernel',
  choices: (node, profile) => [rowChoice('softmax', profile, lastAxis(node), 1)],
  kernel: ({ inputs: [x] }, profile) => rowKernel('softmax', profile, lastAxis(x), 1, { x }),
  gradient: (node, g) => [new Tensor('softmaxGradient', [g, node], {}, node.shape)],
};

const dot = (a: Tensor, b: Tensor) => sum(mul(a, b), [-1], true);

/** p · (g - Σ g · p) of the gradient g and the softmax p. */
export const softmaxGradientRule: KernelRule<'softmaxGradient'> = {
  kind: 'kernel',
  choices: (node, profile) => [rowChoice('softmax-gradient', profile, lastAxis(node), 1)],
  kernel: ({ inputs: [g, p] }, profile) => rowKernel('softmax-gradient', profile, lastAxis(p), 1, { g, p }),
  gradient: ({ inputs: [g, p], shape }, u) => [
    new Tensor('softmaxGradient', [u, p], {}, shape),
    sub(mul(u, sub(g, dot(g, p))), mul(g, dot(u, p))),
  ],
};

/** Adaptive modulation of a normalised x (Peebles and Xie, 2023): x · (1 + scale) + shift. */
export const modulate = (x: Tensor, scale: Tensor, shift: Tensor): Tensor => add(mul(x, add(scale, 1)), shift);

/** The mean square of each sample [B, ...], [B]. */
export function meanSquares(x: Tensor): Tensor {
  const count = x.shape[0];
  return mul(sum(reshape(square(x), [count, x.size / count]), [1]), count / x.size);
}
