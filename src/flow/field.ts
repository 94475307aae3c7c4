import type { Parameters } from '../nn/parameters.js';
import type { Model } from '../models/model.js';
import { reshape } from '../ops/movement.js';
import { add, div, maximum, mul, neg, sub } from '../ops/pointwise.js';
import type { Tensor } from '../tensor/tensor.js';
import type { Description } from './description.js';

/** dx/dt at (x, t) in our time: t [B], result [B, ...sampleShape]. */
export type Velocity = (x: Tensor, t: Tensor) => Tensor;
/** Average velocity u(x, t, s) of a flow map; the jump is x + (s - t) · u. */
export type AverageVelocity = (x: Tensor, t: Tensor, s: Tensor) => Tensor;

/** A value per sample [B], shaped so that it broadcasts over x [B, ...]. */
export function perSample(value: Tensor, x: Tensor): Tensor {
  return reshape(value, [value.shape[0], ...x.shape.slice(1).map(() => 1)]);
}

/** One straight step: x + (s - t) · u. An Euler step of a velocity, the jump of an average velocity (DDIM, η = 0). */
export function step(x: Tensor, t: Tensor, s: Tensor, u: Tensor): Tensor {
  return add(x, mul(perSample(sub(s, t), x), u));
}

/** The straight path between data and noise: (1 - t) · x0 + t · z. */
export function interpolate(x0: Tensor, z: Tensor, t: Tensor): Tensor {
  return add(x0, mul(perSample(t, x0), sub(z, x0)));
}

function convert(description: Description, x: Tensor, t: Tensor, output: Tensor): Tensor {
  if (description.prediction === 'data') {
    return div(sub(x, output), perSample(maximum(t, Math.max(description.minimumTime, 1e-4)), x));
  }
  return description.time === 'data-at-1' ? neg(output) : output;
}

const ownTime = ({ time, timeScale }: Description, t: Tensor) => mul(time === 'data-at-1' ? sub(1, t) : t, timeScale);

/** The velocity of a teacher, whatever its network predicts and however it counts time. */
export function velocityOf(model: Model, parameters: Parameters, description: Description, labels?: Tensor): Velocity {
  return (x, t) => {
    const asked = description.minimumTime > 0 ? maximum(t, description.minimumTime) : t;
    return convert(description, x, t, model.apply(parameters, { x, time: ownTime(description, asked), labels }));
  };
}

/** The average velocity of a two-time student, in the teacher's parametrisation; at s = t its velocity. */
export function averageVelocityOf(
  model: Model,
  parameters: Parameters,
  description: Description,
  labels?: Tensor,
): AverageVelocity {
  return (x, t, s) => {
    const asked = description.minimumTime > 0 ? maximum(t, description.minimumTime) : t;
    const time = ownTime(description, asked);
    return convert(
      description,
      x,
      t,
      model.apply(parameters, { x, time, gap: mul(sub(t, s), description.timeScale), labels }),
    );
  };
}
