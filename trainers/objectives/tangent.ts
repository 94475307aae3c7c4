import { perSample } from '../../src/flow/parametrization.js';
import { together, type Asking } from '../../src/flow/questions.js';
import { reshape } from '../../src/ops/movement.js';
import { add, div, mul, sqrt, sub } from '../../src/ops/pointwise.js';
import type { Tensor } from '../../src/tensor/tensor.js';
import { meanSquares } from '../../src/ops/normalization.js';
import type { Objective, ObjectiveInputs } from './objective.js';

/**
 * The target of an objective whose way splits into ε by the teacher, at velocity v, and the rest at the target network's
 * w. As it is: ε · v + (1 - ε) · w. In the limit form: u + g, whose loss has the gradient of the continuous objective,
 * with the tangent g = (ε · v + (1 - ε) · w - u⁻) / ε, split as v - u⁻ + r · (1 - ε) / ε · (w - u⁻) so that the warm-up
 * r damps the derivative alone. (Lu and Song, sCM, 2024: tangent normalisation and warm-up; Sabour et al., Align Your
 * Flow, 2025.) Divided by ε: not for half precision.
 */
export const splitTarget = (way: (inputs: ObjectiveInputs) => Asking<{ v: Tensor; w: Tensor }>): Objective['target'] =>
  function* (inputs) {
    const { x, t, s, epsilon, target, student, tangent } = inputs;
    if (tangent.form === 'finite') {
      const { v, w } = yield* way(inputs);
      return add(w, mul(perSample(epsilon, x), sub(v, w)));
    }
    const [{ v, w }, u] = yield* together(way(inputs), target(x, t, s));
    const rest = mul(perSample(sub(div(1, epsilon), 1), x), sub(w, u));
    return alongTangent(student, add(sub(v, u), mul(warmthLike(tangent.warmup, x), rest)), tangent.normalization);
  };

/** u + g, the tangent g normalised to g / (‖g‖ + c) by its root mean square where c > 0. */
export function alongTangent(u: Tensor, g: Tensor, normalization: number): Tensor {
  if (!normalization) return add(u, g);
  return add(u, div(g, perSample(add(sqrt(meanSquares(g)), normalization), g)));
}

/** The warm-up [1], shaped so that it broadcasts over x. */
export const warmthLike = (warmup: Tensor, x: Tensor): Tensor =>
  reshape(
    warmup,
    x.shape.map(() => 1),
  );
