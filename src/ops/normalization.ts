import { sizeOf, type Shape } from '../tensor/shape.js';
import { Tensor } from '../tensor/tensor.js';
import { add, mul, sub } from './pointwise.js';
import { sum } from './broadcast.js';
import { f32, u32, type Emitter, type KernelRule, type IndexRule } from './rule.js';

/**
 * Layer normalisation over the last axis, without affine part: (x - mean) / sqrt(variance + epsilon), variance biased
 * (Ba et al., 2016). Scale and shift are ordinary arithmetic, which the engine fuses: `layerNorm(x) * (1 + scale) + shift`.
 */
export function layerNorm(x: Tensor, epsilon = 1e-5): Tensor {
  const rows = sizeOf(x.shape.slice(0, -1));
  const statistics = new Tensor('rowStatistics', [x], { epsilon }, [rows, 2]);
  return new Tensor('normalize', [x, statistics], {}, x.shape);
}

/** exp(x - max) / Σ exp(x - max) over the last axis. */
export function softmax(x: Tensor): Tensor {
  return new Tensor('softmax', [x], {}, x.shape);
}

const rowsOf = (shape: Shape) => sizeOf(shape.slice(0, -1));

function rowKernel(source: string, profile: { family: string }, x: Tensor) {
  const rows = rowsOf(x.shape);
  const length = x.shape.at(-1)!;
  const tiled = profile.family === 'tiled';
  return {
    source: tiled ? `${source}-tiled` : source,
    constants: { ROWS: u32(rows), LENGTH: u32(length) },
    workgroups: tiled ? rows : Math.ceil(rows / 64),
    run: length,
  };
}

/** Mean and reciprocal standard deviation of each row, side by side. */
export const rowStatisticsRule: KernelRule<'rowStatistics'> = {
  kind: 'kernel',
  kernel: ({ inputs: [x], attributes: { epsilon } }, profile) => {
    const kernel = rowKernel('row-statistics', profile, x);
    return {
      ...kernel,
      constants: { ...kernel.constants, EPSILON: f32(epsilon) },
      operands: [{ name: 'x', tensor: x, fusion: 'any', run: kernel.run }],
      run: 1,
    };
  },
  // `normalize` carries the whole gradient, through the statistics too.
  gradient: null,
};

export const normalizeRule: IndexRule<'normalize'> = {
  kind: 'index',
  cost: 3,
  inline: true,
  emit: ({ inputs: [x, statistics], shape }, emitter, index, width) => {
    const length = shape.at(-1)!;
    const one = (i: string, w: 1 | 4) => {
      const { mean, rstd } = statisticsAt(emitter, statistics, i, length);
      return emitter.line(`(${emitter.value(x, i, w)} - ${mean}) * ${rstd}`);
    };
    if (width === 1 || length % 4 === 0) return one(index, width);
    const lanes = [0, 1, 2, 3].map((lane) => one(lane ? emitter.line(`${index} + ${lane}u`) : index, 1));
    return emitter.line(`vec4f(${lanes.join(', ')})`);
  },
  gradient: ({ inputs: [x, statistics] }, g) => [
    new Tensor('normalizeGradient', [g, x, statistics], {}, x.shape),
    null,
  ],
};

function statisticsAt(emitter: Emitter, statistics: Tensor, index: string, length: number) {
  const row = emitter.line(`${index} / ${length}u * 2u`);
  return {
    mean: emitter.value(statistics, row, 1),
    rstd: emitter.value(statistics, emitter.line(`${row} + 1u`), 1),
  };
}

/** rstd · (g - mean(g) - x̂ · mean(g · x̂)), means over the row. */
export const normalizeGradientRule: KernelRule<'normalizeGradient'> = {
  kind: 'kernel',
  kernel: ({ inputs: [g, x, statistics] }, profile) => {
    const kernel = rowKernel('normalize-gradient', profile, x);
    return {
      ...kernel,
      operands: [
        { name: 'g', tensor: g, fusion: 'any', run: kernel.run },
        { name: 'x', tensor: x, fusion: 'any', run: kernel.run },
        { name: 'statistics', tensor: statistics, fusion: 'none', run: 1 },
      ],
    };
  },
  gradient: null,
};

export const softmaxRule: KernelRule<'softmax'> = {
  kind: 'kernel',
  kernel: ({ inputs: [x] }, profile) => {
    const kernel = rowKernel('softmax', profile, x);
    return { ...kernel, operands: [{ name: 'x', tensor: x, fusion: 'any', run: kernel.run }] };
  },
  gradient: (node, g) => [mul(node, sub(g, sum(mul(g, node), [-1], true)))],
};

/** Adaptive modulation of a normalised x (Peebles and Xie, 2023): x · (1 + scale) + shift. */
export const modulate = (x: Tensor, scale: Tensor, shift: Tensor): Tensor => add(mul(x, add(scale, 1)), shift);
