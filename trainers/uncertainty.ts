import { harmonics, harmonicsWidth, applyLinear, linearParameters } from '../src/nn/layers.js';
import { zeros } from '../src/nn/initializers.js';
import type { Parameter, Parameters } from '../src/nn/parameters.js';
import { concat, reshape } from '../src/ops/movement.js';
import { silu } from '../src/ops/activations.js';
import { sub } from '../src/ops/pointwise.js';
import type { Tensor } from '../src/tensor/tensor.js';

const width = 64;

/** Parameters of the learned loss weight: trained beside the network, never exported. */
export const uncertaintyParameters: readonly Parameter[] = [
  ...linearParameters('uncertainty.0', 2 * harmonicsWidth, width),
  ...linearParameters('uncertainty.2', width, 1, zeros, zeros),
].map((parameter) => ({ ...parameter, student: true }));

/** The logarithm of the error that is to be expected at (t, s), [B]: a small network, 0 at the start (Karras et al., 2024). */
export function logVariance(parameters: Parameters, t: Tensor, s: Tensor): Tensor {
  const hidden = silu(applyLinear(parameters, 'uncertainty.0', concat([harmonics(t), harmonics(sub(t, s))], 1)));
  return reshape(applyLinear(parameters, 'uncertainty.2', hidden), [t.size]);
}
