/**
 * Weights that a jump opens: beside y = W x a student has y + (t - s) · B A x, of low rank. Where s = t nothing of it is
 * left, so what learns long jumps cannot overwrite the velocity that the student has from its teacher, and between them it
 * counts as far as the jump goes, as the path's bend does (docs/recipes.md).
 */
import { conv2d, type ConvolutionOptions } from '../ops/convolution.js';
import { linear } from '../ops/matmul.js';
import { reshape } from '../ops/movement.js';
import { add, mul } from '../ops/pointwise.js';
import { sizeOf } from '../tensor/shape.js';
import type { Tensor } from '../tensor/tensor.js';
import { normal, zeros } from './initializers.js';
import type { Parameter, Parameters } from './parameters.js';

const prefix = 'jump_opened.';
const keysOf = (weight: string) => ({ a: `${prefix}${weight}.a`, b: `${prefix}${weight}.b` });

/** A [rank, in, ...] and B [out, rank] of each weight [out, in, ...], B zero; of a thin weight no more than it has ranks. */
export function openedParameters(weights: readonly Parameter[], rank: number): Parameter[] {
  return weights.flatMap(({ name, shape: [outputs, ...inputs], order }) => {
    const fan = sizeOf(inputs);
    const most = Math.min(rank, outputs, fan);
    const { a, b } = keysOf(name);
    return [
      { name: a, shape: [most, ...inputs], initializer: normal(1 / Math.sqrt(fan)), order, student: true },
      { name: b, shape: [outputs, most], initializer: zeros, student: true },
    ];
  });
}

/** Parameters of a network whose samples jump so far. */
export function opened(parameters: Parameters, weights: ReadonlySet<string>, gap: Tensor): Parameters {
  return Object.assign((name: string) => parameters(name), { opening: { weights, gap } });
}

/** What is zero where a jump is: x [B, ...] times its length, where jumps open anything; else x. */
export const byGap = ({ opening }: Parameters, x: Tensor): Tensor =>
  opening ? mul(x, reshape(opening.gap, [-1, ...x.shape.slice(1).map(() => 1)])) : x;

/** y = W x of a linear layer [B, ..., out], and what a jump opens beside that weight. @param x [B, ..., in] */
export function besideMatrix(parameters: Parameters, weight: string, x: Tensor, y: Tensor): Tensor {
  return beside(parameters, weight, y, (a) => linear(x, reshape(a, [a.shape[0], -1])));
}

/** y = W * x of a convolution, and what a jump opens beside that weight. @param x [B, H, W, in] */
export function besideConvolution(
  parameters: Parameters,
  weight: string,
  x: Tensor,
  y: Tensor,
  options: ConvolutionOptions,
): Tensor {
  return beside(parameters, weight, y, (a) => conv2d(x, a, undefined, options));
}

function beside(parameters: Parameters, weight: string, y: Tensor, down: (a: Tensor) => Tensor): Tensor {
  if (!parameters.opening?.weights.has(weight)) return y;
  const { a, b } = keysOf(weight);
  return add(y, linear(byGap(parameters, down(parameters(a))), parameters(b)));
}
