import { add, div, maximum, minimum, mul, sqrt, square, sub } from '../ops/pointwise.js';
import type { Tensor } from '../tensor/tensor.js';
import { step, type AverageVelocity, type Velocity } from './field.js';
import { perSample } from './parametrization.js';
import { evaluations, slope, solvers, type Solver } from './solvers.js';

/**
 * Ways from noise to data. Of a flow map alone: `jump`, its own hops; `consistency`, to the data and back by fresh noise
 * (Song et al., 2023; LCM); `gamma`, between them (CTM, Kim et al., 2024). Of any velocity: the solvers, `dopri5` with
 * steps of its own choice; `ddim` with a share η of fresh noise (Song et al., 2021); `euler-ancestral`, which is η = 1;
 * `euler-maruyama`, the reverse SDE.
 */
export const samplers = [
  'jump',
  'consistency',
  'gamma',
  ...solvers,
  'dopri5',
  'ddim',
  'euler-ancestral',
  'euler-maruyama',
] as const;
export type SamplerName = (typeof samplers)[number];

export interface Sampler {
  name: SamplerName;
  /** γ of `gamma`: 0 is `jump`, 1 is `consistency`. */
  gamma?: number;
  /** η of `ddim`: 0 is `euler`, 1 is `euler-ancestral`. */
  eta?: number;
  /** Of `dopri5`, relative and absolute. */
  tolerance?: number;
}

/** Samplers that only a flow map has. */
export const jumping: readonly SamplerName[] = ['jump', 'consistency', 'gamma'];

/** The graph that a sampler's step runs, and the strength of fresh noise in it. */
export type StepKind = Solver | 'jump' | 'renoised' | 'ddim' | 'euler-maruyama';

/** @throws Error for `dopri5`, which is no fixed step */
export function stepOf({ name, gamma = 0.3, eta = 0 }: Sampler): { kind: StepKind; strength: number } {
  switch (name) {
    case 'consistency':
      return { kind: 'renoised', strength: 1 };
    case 'gamma':
      return { kind: 'renoised', strength: gamma };
    case 'ddim':
      return { kind: 'ddim', strength: eta };
    case 'euler-ancestral':
      return { kind: 'ddim', strength: 1 };
    case 'dopri5':
      throw new Error('dopri5 chooses its own steps');
    default:
      return { kind: name, strength: 0 };
  }
}

/** Evaluations of the network that a step costs. */
export const evaluationsOf = ({ name }: Sampler): number => (name in evaluations ? evaluations[name as Solver] : 1);

/** Whether a step draws fresh noise. */
export const isStochastic = (kind: StepKind): boolean => ['renoised', 'ddim', 'euler-maruyama'].includes(kind);

/** What a step may use; times [B], strength and noise where it is stochastic. */
export interface StepInputs {
  x: Tensor;
  t: Tensor;
  s: Tensor;
  velocity: Velocity;
  average: AverageVelocity;
  strength: Tensor;
  noise: Tensor;
}

/** x at s after one step of a sampler from t, for t > s or, where there is no fresh noise, any t and s. */
export function sampleStep(kind: StepKind, inputs: StepInputs): Tensor {
  const { x, t, s, velocity, average } = inputs;
  switch (kind) {
    case 'jump':
      return step(x, t, s, average(x, t, s));
    case 'renoised':
      return renoisedJump(inputs);
    case 'ddim':
      return ddimStep(inputs);
    case 'euler-maruyama':
      return eulerMaruyamaStep(inputs);
    default:
      return step(x, t, s, slope(velocity, kind, x, t, s));
  }
}

/**
 * A jump to a time s' of less noise, and back to s by fresh noise. With σ = t / (1 - t) it lands at σ' = √(1 - γ²) σ_s and
 * adds γ σ_s (CTM); γ = 1 goes to the data, as LCM does.
 */
function renoisedJump({ x, t, s, average, strength, noise }: StepInputs): Tensor {
  const kept = sqrt(maximum(sub(1, square(strength)), 0));
  // At s = 1 the way back would start at t = 1 as well: nothing is jumped.
  const near = div(mul(kept, s), maximum(add(sub(1, s), mul(kept, s)), 1e-6));
  const reached = step(x, t, near, average(x, t, near));
  const ratio = div(sub(1, s), maximum(sub(1, near), 1e-6));
  return add(mul(perSample(ratio, x), reached), mul(perSample(mul(strength, s), x), noise));
}

/**
 * A DDIM step: the noise that x holds is carried on in part, the rest is fresh. On the straight path
 * x_s = (1 - s) x0 + s (√(1 - η² (1 - r²)) ẑ + η √(1 - r²) ξ) with r the ratio of the noise levels σ; η = 0 is an Euler step.
 */
function ddimStep({ x, t, s, velocity, strength, noise }: StepInputs): Tensor {
  const v = velocity(x, t);
  const clean = sub(x, mul(perSample(t, x), v));
  const held = add(x, mul(perSample(sub(1, t), x), v));
  // σ_s / σ_t, which is 0 from pure noise.
  const ratio = minimum(div(mul(s, sub(1, t)), maximum(mul(sub(1, s), t), 1e-6)), 1);
  const lost = mul(square(strength), sub(1, square(ratio)));
  const kept = add(
    mul(perSample(sqrt(maximum(sub(1, lost), 0)), x), held),
    mul(perSample(sqrt(maximum(lost, 0)), x), noise),
  );
  return add(mul(perSample(sub(1, s), x), clean), mul(perSample(s, x), kept));
}

/**
 * Euler-Maruyama of the reverse SDE with diffusion w(t) = t (Ma et al., SiT, 2024): dx = (v - w/2 · score) dt + √w dW. The
 * score is -ẑ / t, so the drift is v + ẑ / 2 with ẑ = x + (1 - t) v; going backwards it denoises what the noise adds.
 */
function eulerMaruyamaStep({ x, t, s, velocity, noise }: StepInputs): Tensor {
  const v = velocity(x, t);
  const held = add(x, mul(perSample(sub(1, t), x), v));
  const width = sqrt(maximum(mul(t, sub(t, s)), 0));
  return add(step(x, t, s, add(v, mul(held, 0.5))), mul(perSample(width, x), noise));
}
