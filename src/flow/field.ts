import type { Parameters } from '../nn/parameters.js';
import { predictionOf, type Conditions, type Model } from '../models/model.js';
import { expand } from '../ops/broadcast.js';
import { concat, reshape, split } from '../ops/movement.js';
import { add, greater, mul, sub, where } from '../ops/pointwise.js';
import { constant, type Tensor } from '../tensor/tensor.js';
import type { Description } from './description.js';
import { parametrization, perSample } from './parametrization.js';

/** dx/dt at (x, t) in our time: t [B], result [B, ...sampleShape]. */
export type Velocity = (x: Tensor, t: Tensor) => Tensor;
/** Average velocity u(x, t, s) of a flow map; the jump is x + (s - t) · u. */
export type AverageVelocity = (x: Tensor, t: Tensor, s: Tensor) => Tensor;

/** What samples are to be like, besides their noise. */
export interface Condition {
  /** u32 [B] of a class-conditional network; the class after the last means none. */
  labels?: Tensor;
  /** Scale w [B] of classifier-free guidance: v(none) + w (v(class) - v(none)). */
  guidance?: Tensor;
  /** What else the network is told. */
  conditions?: Conditions;
  /** The same where guidance leads away from, such as an empty text; what is left out is as in `conditions`. */
  negative?: Conditions;
}

/** One straight step: x + (s - t) · u. An Euler step of a velocity, the jump of an average velocity (DDIM, η = 0). */
export function step(x: Tensor, t: Tensor, s: Tensor, u: Tensor): Tensor {
  return add(x, mul(perSample(sub(s, t), x), u));
}

/** The straight path between data and noise: (1 - t) · x0 + t · z. */
export function interpolate(x0: Tensor, z: Tensor, t: Tensor): Tensor {
  return add(x0, mul(perSample(t, x0), sub(z, x0)));
}

/**
 * The velocity of a teacher, whatever its network predicts, on whatever path and time.
 * With a guidance scale the network sees each sample twice (Ho and Salimans, 2022).
 */
export function velocityOf(
  model: Model,
  parameters: Parameters,
  description: Description,
  condition: Condition = {},
): Velocity {
  const { point, time, velocity } = parametrization(description);
  const { guidanceTimes } = description;
  const ask = (x: Tensor, t: Tensor, told: Told) =>
    velocity(x, t, predictionOf(model, parameters, { x: point(x, t), time: time(t), ...told }));
  return guided(ask, model, condition, guidanceTimes);
}

/** What a network returns for x and times as it is shown them, under guidance if that is asked for. */
export function outputOf(model: Model, parameters: Parameters, condition: Condition = {}): Velocity {
  const ask = (x: Tensor, time: Tensor, told: Told) => predictionOf(model, parameters, { x, time, ...told });
  return guided(ask, model, condition);
}

type Told = Pick<Condition, 'labels' | 'conditions'>;

/**
 * What is asked for samples, or, under guidance, for each with and without what it is told.
 * @param times between which guidance counts
 */
function guided(
  ask: (x: Tensor, t: Tensor, told: Told) => Tensor,
  model: Model,
  { labels, guidance, conditions, negative }: Condition,
  times?: Description['guidanceTimes'],
): Velocity {
  if (!guidance) return (x, t) => ask(x, t, { labels, conditions });
  const none = labels && model.nullClass ? constant(model.classes, labels.shape, 'u32') : labels;
  const [away, towards] = [{ ...conditions, ...negative }, conditions ?? {}];
  const told = {
    labels: labels && concat([none!, labels], 0),
    conditions: Object.fromEntries(
      Object.entries(away).map(([name, value]) => [
        name,
        concat([value, towards[name] ?? constant(0, value.shape)], 0),
      ]),
    ),
  };
  return (x, t) => {
    const [free, given] = split(ask(twice(x), twice(t), told), 0, 2);
    const scale = times ? where(greater(t, times.from), where(greater(times.to, t), guidance, 1), 1) : guidance;
    return add(free, mul(perSample(scale, x), sub(given, free)));
  };
}

/** All samples, and all of them again. */
const twice = (x: Tensor): Tensor =>
  reshape(expand(reshape(x, [1, ...x.shape]), [2, ...x.shape]), [2 * x.shape[0], ...x.shape.slice(1)]);

/** The average velocity of a two-time student, in the teacher's parametrization; at s = t its velocity. */
export function averageVelocityOf(
  model: Model,
  parameters: Parameters,
  description: Description,
  { labels, guidance, conditions }: Condition = {},
): AverageVelocity {
  const { point, time, velocity } = parametrization(description);
  return (x, t, s) => {
    const inputs = { x: point(x, t), time: time(t), jump: { t, s }, labels, guidance, conditions };
    return velocity(x, t, predictionOf(model, parameters, inputs));
  };
}
