import { sizeOf, type Shape } from '../tensor/shape.js';
import { Tensor } from '../tensor/tensor.js';
import { UserError } from '../errors.js';
import { reshape } from './movement.js';
import { add, mul, square, sub } from './pointwise.js';
import { sum } from './broadcast.js';
import { rowKernel } from './rows.js';
import { f32, type IndexRule, type KernelRule, type Operand } from './rule.js';

/**
 * Layer normalisation over the last axis, without affine part: (x - mean) / sqrt(variance + epsilon), variance biased
 * (Ba et al., 2016). Scale and shift are ordinary arithmetic, which the engine fuses: `layerNorm(x) * (1 + scale) + shift`.
 */
export function layerNorm(x: Tensor, epsilon = 1e-5): Tensor {
  return normalizeGroups(reshape(x, [rowsOf(x.shape), 1, x.shape.at(-1)!]), 1, epsilon, x.shape);
}

/**
 * Group normalisation of [N, ..., C], without affine part: mean and variance over all positions of an item and the
 * C / groups neighbouring channels of a group (Wu and He, 2018).
 * @throws UserError when the groups do not divide the channels
 */
export function groupNorm(x: Tensor, groups: number, epsilon = 1e-5): Tensor {
  const [batch, channels] = [x.shape[0], x.shape.at(-1)!];
  if (channels % groups) throw new UserError(`${groups} groups do not divide the ${channels} channels of [${x.shape}]`);
  return normalizeGroups(reshape(x, [batch, -1, channels]), groups, epsilon, x.shape);
}

/** [N, P, C] normalised by group, under another shape. */
function normalizeGroups(x: Tensor, groups: number, epsilon: number, shape: Shape): Tensor {
  const statistics = new Tensor('rowStatistics', [x], { groups, epsilon }, [x.shape[0] * groups, 2]);
  return reshape(new Tensor('normalize', [x, statistics], { groups, epsilon }, x.shape), shape);
}

/** exp(x - max) / Σ exp(x - max) over the last axis. */
export function softmax(x: Tensor): Tensor {
  return new Tensor('softmax', [x], {}, x.shape);
}

const rowsOf = (shape: Shape) => sizeOf(shape.slice(0, -1));

/** Mean and reciprocal standard deviation of each row, side by side. */
export const rowStatisticsRule: KernelRule<'rowStatistics'> = {
  kind: 'kernel',
  kernel: ({ inputs: [x], attributes: { groups, epsilon } }, profile) => {
    const kernel = rowKernel('row-statistics', profile, x.shape, groups, { x });
    return { ...kernel, constants: { ...kernel.constants, EPSILON: f32(epsilon) }, run: 1 };
  },
  // `normalize` carries the whole gradient, through the statistics too.
  gradient: null,
};

export const normalizeRule: IndexRule<'normalize'> = {
  kind: 'index',
  cost: 3,
  inline: true,
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
    kernel: ({ inputs: [x, statistics], attributes: { groups, epsilon } }, profile) => {
      const kernel = rowKernel('normalize', profile, x.shape, groups, { x });
      return { ...kernel, constants: { ...kernel.constants, EPSILON: f32(epsilon) }, secondary: statistics.size };
    },
  },
  gradient: ({ inputs: [x, statistics], attributes: { groups } }, g) => [
    new Tensor('normalizeGradient', [g, x, statistics], { groups }, x.shape),
    null,
  ],
};

/** rstd · (g - mean(g) - x̂ · mean(g · x̂)), means over the row. */
export const normalizeGradientRule: KernelRule<'normalizeGradient'> = {
  kind: 'kernel',
  kernel: ({ inputs: [g, x, statistics], attributes: { groups } }, profile) => {
    const kernel = rowKernel('normalize-gradient', profile, x.shape, groups, { g, x });
    const operands: Operand[] = [
      ...kernel.operands,
      { name: 'statistics', tensor: statistics, fusion: 'none', run: 1 },
    ];
    return { ...kernel, operands };
  },
  gradient: null,
};

export const softmaxRule: KernelRule<'softmax'> = {
  kind: 'kernel',
  kernel: ({ inputs: [x] }, profile) => rowKernel('softmax', profile, [rowsOf(x.shape), 1, x.shape.at(-1)!], 1, { x }),
  gradient: (node, g) => [mul(node, sub(g, sum(mul(g, node), [-1], true)))],
};

/** Adaptive modulation of a normalised x (Peebles and Xie, 2023): x · (1 + scale) + shift. */
export const modulate = (x: Tensor, scale: Tensor, shift: Tensor): Tensor => add(mul(x, add(scale, 1)), shift);

/** The mean square of each sample [B, ...], [B]. */
export function meanSquares(x: Tensor): Tensor {
  const count = x.shape[0];
  return mul(sum(reshape(square(x), [count, x.size / count]), [1]), count / x.size);
}
