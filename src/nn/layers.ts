import { UserError } from '../errors.js';
import { linear } from '../ops/matmul.js';
import { concat, gather, reshape } from '../ops/movement.js';
import { layerNorm } from '../ops/normalization.js';
import { add, cos, gelu, geluTanh, mul, selu, silu, sin } from '../ops/pointwise.js';
import { tensor, type Tensor } from '../tensor/tensor.js';
import { fanIn, type Initializer } from './initializers.js';
import type { Parameter, Parameters } from './parameters.js';

export const activations = { silu, selu, gelu, 'gelu-tanh': geluTanh } as const;
export type Activation = keyof typeof activations;

/** Weight and bias of a linear layer under PyTorch's names. */
export function linearParameters(
  name: string,
  inputs: number,
  outputs: number,
  weight: Initializer = fanIn(inputs),
  bias: Initializer = fanIn(inputs),
): Parameter[] {
  return [
    { name: `${name}.weight`, shape: [outputs, inputs], initializer: weight },
    { name: `${name}.bias`, shape: [outputs], initializer: bias },
  ];
}

/** The linear layer of that name; a convolution's weight [out, in, p, p] is taken as a matrix over patches. */
export function applyLinear(parameters: Parameters, name: string, x: Tensor): Tensor {
  const weight = parameters(`${name}.weight`);
  return linear(x, reshape(weight, [weight.shape[0], -1]), parameters(`${name}.bias`));
}

/** Layer norm with learned scale and shift. */
export function affineLayerNorm(parameters: Parameters, name: string, x: Tensor, epsilon: number): Tensor {
  return add(mul(layerNorm(x, epsilon), parameters(`${name}.weight`)), parameters(`${name}.bias`));
}

/**
 * Sines and cosines of t [B] at frequencies exp(-k · ln(10000) / span), k < count: transformer positions (Vaswani et al.,
 * 2017) with real-valued time. Returns both, [B, count] each.
 */
export function sinusoids(t: Tensor, count: number, span: number): { sines: Tensor; cosines: Tensor } {
  const frequencies = Float32Array.from({ length: count }, (_, k) => Math.exp((-k * Math.log(10000)) / span));
  const angles = mul(reshape(t, [t.size, 1]), tensor(frequencies, [1, count]));
  return { sines: sin(angles), cosines: cos(angles) };
}

/** t [B] with sin and cos of π, 2π, 4π and 8π times it: [B, 9]. Smooth enough to learn velocities from. */
export function harmonics(t: Tensor): Tensor {
  const column = reshape(t, [t.size, 1]);
  const angles = mul(
    column,
    tensor(
      [1, 2, 4, 8].map((k) => k * Math.PI),
      [1, 4],
    ),
  );
  return concat([column, sin(angles), cos(angles)], 1);
}
/** Width of `harmonics`. */
export const harmonicsWidth = 9;

/** Rows of an embedding table; without labels the last row, which stands for none. */
export function embedLabels(table: Tensor, labels: Tensor | undefined, count: number): Tensor {
  const none = table.shape[0] - 1;
  return gather(table, labels ?? tensor(new Uint32Array(count).fill(none)));
}

/** Refuses a configuration value that cannot work, by the name of its key. */
export function requireThat(holds: boolean, key: string, message: string): void {
  if (!holds) throw new UserError(`architecture.${key}: ${message}`);
}
