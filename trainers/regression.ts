import { perSample } from '../src/flow/field.js';
import { sum } from '../src/ops/broadcast.js';
import { add, div, exp, log, mul, square, stopGradient, sub } from '../src/ops/pointwise.js';
import { reshape } from '../src/ops/movement.js';
import type { Tensor } from '../src/tensor/tensor.js';

/**
 * How a sample's squared error counts: `none`; `time`, times t², which turns the error of u into that of the data
 * prediction that it was computed from; `adaptive`, divided by (error + c)^p (MeanFlow: Geng et al., 2025).
 */
export interface Weighting {
  kind: 'none' | 'time' | 'adaptive';
  power: number;
  offset: number;
}

/** Weighted mean squared error of each sample, [B]. No gradient flows through the target. */
export function squaredErrors(
  prediction: Tensor,
  target: Tensor,
  t: Tensor,
  { kind, power, offset }: Weighting,
): Tensor {
  const difference = sub(prediction, stopGradient(target));
  const scaled = kind === 'time' ? mul(difference, perSample(t, difference)) : difference;
  const count = scaled.shape[0];
  const errors = mul(sum(reshape(square(scaled), [count, scaled.size / count]), [1]), count / scaled.size);
  if (kind !== 'adaptive') return errors;
  return div(errors, exp(mul(log(stopGradient(add(errors, offset))), power)));
}
