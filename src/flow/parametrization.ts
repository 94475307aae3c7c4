import { gather, reshape } from '../ops/movement.js';
import { add, div, floor, log, maximum, minimum, mul, neg, sqrt, square, sub, toIndex } from '../ops/pointwise.js';
import { tensor, type Tensor } from '../tensor/tensor.js';
import type { Description } from './description.js';
import { levelTable } from './noise-schedule.js';

/**
 * What stands between a network and the straight path: how it is shown a point x_t = (1-t) x0 + t z and a time, and how
 * what it returns becomes a velocity dx/dt there. Points of equal signal-to-noise ratio correspond: on another path
 * x' = α x0 + σ z with σ/α = t/(1-t), so x' = (α + σ) x_t. All times are [B].
 */
export interface Parametrization {
  /** The times at which the network may be asked; others are moved to the nearer end. */
  lowest: number;
  highest: number;
  /** x [B, ...] as the network is shown it. */
  point(x: Tensor, t: Tensor): Tensor;
  /** The network's own time. */
  time(t: Tensor): Tensor;
  /** Its output as dx/dt at (x, t); for a two-time network as the average velocity. */
  velocity(x: Tensor, t: Tensor, output: Tensor): Tensor;
  /** What a trained network returns on average at x_t: the inverse of `velocity`, given that dx/dt = z - x0. */
  output(x0: Tensor, z: Tensor, t: Tensor): Tensor;
  /** |∂ output / ∂ velocity| [B]: an error of the velocity times this is one of the output. */
  outputScale(t: Tensor): Tensor;
}

/** A value per sample [B], shaped so that it broadcasts over x [B, ...]. */
export function perSample(value: Tensor, x: Tensor): Tensor {
  return reshape(value, [value.shape[0], ...x.shape.slice(1).map(() => 1)]);
}

/** A teacher that predicts noise says nothing of the velocity at t = 1, one that predicts data nothing at 0. */
const margin = 1e-3;

/** The parametrization that a description states. */
export function parametrization(description: Description): Parametrization {
  const { prediction } = description;
  const seen = view(description);
  const end = prediction === 'data' ? Math.max(description.minimumTime, 1e-4) : description.minimumTime;
  const lowest = Math.max(seen.lowest, end);
  const highest = prediction === 'noise' ? Math.min(seen.highest, 1 - margin) : seen.highest;
  const within = (t: Tensor) => clamp(t, lowest, highest);
  const kind = predictions(description)[prediction];
  return {
    lowest,
    highest,
    point: (x, t) => seen.point(x, within(t)),
    time: (t) => seen.time(within(t)),
    velocity: (x, t, output) => kind.velocity(x, within(t), output),
    output: (x0, z, t) => kind.output(x0, z, within(t)),
    outputScale: (t) => kind.scale(within(t)),
  };
}

const clamp = (t: Tensor, low: number, high: number) => {
  const raised = low > 0 ? maximum(t, low) : t;
  return high < 1 ? minimum(raised, high) : raised;
};

/** How x and t look from the path that the network was trained on. */
interface View {
  lowest: number;
  highest: number;
  point(x: Tensor, t: Tensor): Tensor;
  time(t: Tensor): Tensor;
}

function view({ path, time, timeScale, prediction }: Description): View {
  if (path.kind === 'straight') {
    return {
      lowest: 0,
      highest: 1,
      point: (x) => x,
      time: (t) => mul(time === 'data-at-1' ? sub(1, t) : t, timeScale),
    };
  }
  if (path.kind === 've') {
    const at = (sigma: number) => sigma / (1 + sigma);
    return {
      lowest: at(path.sigmaMin),
      highest: at(path.sigmaMax),
      // EDM's c_in keeps the variance at 1; a plain VE network sees x0 + σ z itself.
      point: (x, t) => div(x, perSample(prediction === 'edm' ? sqrt(edmVariance(t, path.sigmaData)) : sub(1, t), x)),
      time: (t) => mul(log(div(t, sub(1, t))), timeScale / 4),
    };
  }
  const { lowest, highest, levels } = levelTable(path);
  const table = tensor(levels);
  const last = levels.length - 1;
  return {
    lowest,
    highest,
    point: (x, t) => div(x, perSample(vpNorm(t), x)),
    time: (t) => {
      const place = minimum(maximum(mul(sub(t, lowest), last / (highest - lowest)), 0), last);
      const below = floor(place);
      const [low, high] = [gather(table, toIndex(below)), gather(table, toIndex(add(below, 1)))];
      return mul(add(low, mul(sub(place, below), sub(high, low))), timeScale);
    },
  };
}

/** √((1-t)² + t²) = 1 / (α + σ) under VP, where α² + σ² = 1. */
const vpNorm = (t: Tensor) => sqrt(add(square(sub(1, t)), square(t)));
/** t² + σ_d² (1-t)²: EDM's σ² + σ_d², times (1-t)². */
const edmVariance = (t: Tensor, sigmaData: number) => add(square(t), mul(square(sub(1, t)), sigmaData ** 2));

interface Prediction {
  velocity(x: Tensor, t: Tensor, output: Tensor): Tensor;
  output(x0: Tensor, z: Tensor, t: Tensor): Tensor;
  scale(t: Tensor): Tensor;
}

function predictions({ time, path }: Description): Record<Description['prediction'], Prediction> {
  const sigmaData = path.kind === 've' ? path.sigmaData : 1;
  const ownSign = (v: Tensor) => (time === 'data-at-1' ? neg(v) : v);
  return {
    velocity: {
      velocity: (_, __, output) => ownSign(output),
      output: (x0, z) => ownSign(sub(z, x0)),
      scale: (t) => add(mul(t, 0), 1),
    },
    // x0 = output, and v = (x - x0) / t.
    data: {
      velocity: (x, t, output) => div(sub(x, output), perSample(t, x)),
      output: (x0) => x0,
      scale: (t) => t,
    },
    // z = output, and v = (z - x) / (1 - t).
    noise: {
      velocity: (x, t, output) => div(sub(output, x), perSample(sub(1, t), x)),
      output: (_, z) => z,
      scale: (t) => sub(1, t),
    },
    // Salimans and Ho (2022): output = α z - σ x0 under VP, so v = (σ - α) x' + (α + σ) · output.
    v: {
      velocity: (x, t, output) => {
        const norm = vpNorm(t);
        const turn = div(sub(mul(t, 2), 1), square(norm));
        return add(mul(perSample(turn, x), x), div(output, perSample(norm, x)));
      },
      output: (x0, z, t) =>
        div(sub(mul(perSample(sub(1, t), z), z), mul(perSample(t, x0), x0)), perSample(vpNorm(t), z)),
      scale: vpNorm,
    },
    // Karras et al. (2022): x0 = c_skip x' + c_out · output. With S = edmVariance, v = x (t - σ_d² (1-t)) / S - σ_d / √S · output.
    edm: {
      velocity: (x, t, output) => {
        const variance = edmVariance(t, sigmaData);
        const turn = div(sub(t, mul(sub(1, t), sigmaData ** 2)), variance);
        return sub(mul(perSample(turn, x), x), div(mul(output, sigmaData), perSample(sqrt(variance), x)));
      },
      output: (x0, z, t) => {
        const [data, noise] = [mul(sub(1, t), sigmaData), div(t, sigmaData)];
        return div(
          sub(mul(perSample(noise, x0), x0), mul(perSample(data, z), z)),
          perSample(sqrt(edmVariance(t, sigmaData)), x0),
        );
      },
      scale: (t) => div(sqrt(edmVariance(t, sigmaData)), sigmaData),
    },
  };
}
