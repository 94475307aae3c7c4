import { meanSquares } from '../src/ops/normalization.js';
import { add, div, exp, log, mul, sqrt, stopGradient, sub } from '../src/ops/pointwise.js';
import { perSample } from '../src/flow/parametrization.js';
import type { Tensor } from '../src/tensor/tensor.js';

/** How a sample's squared error counts. */
export interface Weighting {
  /**
   * `none`. `output`: as the error of what the network itself returns, before it was turned into a velocity. `inverse-step`:
   * over the step ε|t - s| that the target looks ahead (Geng et al., ECT, 2024). `adaptive`: over (error + c)^p (Geng et al.,
   * MeanFlow, 2025). `pseudo-huber`: √(error + c²) - c (Song and Dhariwal, 2023). `uncertainty`: e^-w · error + w with a
   * learned w(t, s) (Karras et al., EDM2, 2024).
   */
  kind: 'none' | 'output' | 'inverse-step' | 'adaptive' | 'pseudo-huber' | 'uncertainty';
  power: number;
  offset: number;
}

/** What weights may depend on, a value per sample [B] each. */
export interface ErrorContext {
  /** By how much the network's own output changes with u. */
  outputScale: Tensor;
  /** The step that the target looks ahead. */
  lookahead: Tensor;
  /** The learned log-variance; only for `uncertainty`. */
  logVariance?: Tensor;
}

/** Weighted mean squared error of each sample, [B]. No gradient flows through the target. */
export function squaredErrors(
  prediction: Tensor,
  target: Tensor,
  { kind, power, offset }: Weighting,
  { outputScale, lookahead, logVariance }: ErrorContext,
): Tensor {
  const difference = sub(prediction, stopGradient(target));
  const scaled = kind === 'output' ? mul(difference, perSample(outputScale, difference)) : difference;
  const errors = meanSquares(scaled);
  switch (kind) {
    case 'none':
    case 'output':
      return errors;
    case 'inverse-step':
      return div(errors, add(lookahead, offset));
    case 'adaptive':
      return div(errors, exp(mul(log(stopGradient(add(errors, offset))), power)));
    case 'pseudo-huber':
      return sub(sqrt(add(errors, offset ** 2)), offset);
    case 'uncertainty':
      return add(div(errors, exp(logVariance!)), logVariance!);
  }
}
