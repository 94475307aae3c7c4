import { step } from '../../src/flow/field.js';
import { perSample } from '../../src/flow/parametrization.js';
import { together } from '../../src/flow/questions.js';
import { add, div, greater, maximum, minimum, mul, sub, where } from '../../src/ops/pointwise.js';
import type { Objective } from './objective.js';
import { alongTangent, warmthLike } from './tangent.js';

/**
 * The MeanFlow identity: u = v - (t - s) · du/dt, the derivative of u⁻ along the trajectory by a central difference, one
 * side of it where the other would leave the path or pass s. (Geng et al., MeanFlow, 2025.) A small difference is divided
 * by: not for half precision, and not beside a slow target average.
 */
export const meanVelocity: Objective = {
  name: 'meanVelocity',
  summary: 'the mean-velocity identity (Geng et al., MeanFlow, 2025)',
  smallDivisor: 'always',
  *target({ x, t, s, teacher, target, student, difference, tangent }) {
    const v = yield* teacher(x, t);
    const backward = greater(s, t);
    const high = minimum(add(t, difference), where(backward, s, 1));
    const low = maximum(sub(t, difference), where(backward, 0, s));
    const at = (time: typeof t) => target(step(x, t, time, v), time, s);
    const width = perSample(maximum(sub(high, low), 1e-6), x);
    const [after, before] = yield* together(at(high), at(low));
    const derivative = div(sub(after, before), width);
    const change = mul(mul(perSample(sub(t, s), x), derivative), warmthLike(tangent.warmup, x));
    const identity = sub(v, change);
    return tangent.form === 'finite' ? identity : alongTangent(student, sub(identity, student), tangent.normalization);
  },
};
