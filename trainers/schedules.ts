/** How ε changes over a run. A constant or uniform ε converges to a biased map; docs/recipes.md has the study. */
export interface EpsilonLaw {
  /** `anneal`: geometrically from `from` to `to` until the given share of the run, then constant. `uniform`: drawn in (0, 1). */
  kind: 'constant' | 'anneal' | 'uniform';
  from: number;
  to: number;
  until: number;
}

/** ε at a step; for the uniform law 0, which tells the step to draw it. */
export function epsilonAt({ kind, from, to, until }: EpsilonLaw, step: number, steps: number): number {
  if (kind === 'uniform') return 0;
  if (kind === 'constant') return to;
  return from * (to / from) ** Math.min(1, step / Math.max(1, until * steps));
}

/** Linear warm-up, then a cosine to `finalShare` of the peak (Loshchilov and Hutter, 2017). */
export interface RateSchedule {
  peak: number;
  warmup: number;
  finalShare: number;
}

export function rateAt({ peak, warmup, finalShare }: RateSchedule, step: number, steps: number): number {
  if (step < warmup) return (peak * (step + 1)) / warmup;
  const progress = Math.min(1, (step - warmup) / Math.max(1, steps - warmup));
  return peak * (finalShare + ((1 - finalShare) * (1 + Math.cos(Math.PI * progress))) / 2);
}

/**
 * Adam's bias corrections 1 - β₁ⁿ and 1 - β₂ⁿ of the n-th update (Kingma and Ba, 2015), a row each from n = 1, as f32. Rows
 * end where both are 1 to the last bit, or with `steps`.
 */
export function biasCorrections(beta1: number, beta2: number, steps: number): Float32Array {
  const slowest = Math.max(beta1, beta2);
  const settled = slowest > 0 && slowest < 1 ? Math.ceil(Math.log(2 ** -26) / Math.log(slowest)) : 1;
  const rows = Math.max(1, Math.min(steps, settled));
  return Float32Array.from({ length: 2 * rows }, (_, i) => 1 - (i % 2 ? beta2 : beta1) ** (1 + (i >> 1)));
}

/** How the decay of a moving average changes over a run. */
export interface AverageLaw {
  /**
   * `decay`: constant. `warm-up`: min(decay, (1 + n) / (10 + n)), which soon forgets the early steps. `power`: (1 - 1/n)^(γ+1),
   * a profile whose width is a constant share of the run so far (Karras et al., EDM2, 2024).
   */
  law: 'decay' | 'warm-up' | 'power';
  /** Of `decay` and `warm-up`. */
  decay: number;
  /** Of `power`: the profile's standard deviation over the length of the run, at most 0.28. */
  width: number;
}

/** The decay of an average at a step. */
export function decayAt({ law, decay, width }: AverageLaw, step: number): number {
  if (law === 'decay') return decay;
  if (law === 'warm-up') return Math.min(decay, (1 + step) / (10 + step));
  return (1 - 1 / (step + 1)) ** (powerExponent(width) + 1);
}

/** γ of the power-function average of a relative width: its variance is (γ + 1) / ((γ + 2)² (γ + 3)). */
export function powerExponent(width: number): number {
  const widthOf = (gamma: number) => Math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)));
  let [low, high] = [0, 1e6];
  for (let i = 0; i < 100; i++) {
    const middle = (low + high) / 2;
    if (widthOf(middle) > width) low = middle;
    else high = middle;
  }
  return low;
}

/** From 0 to 1 over the first `steps` steps. */
export const warmupAt = (steps: number, step: number): number => (steps ? Math.min(1, step / steps) : 1);

/** What the gradient of distribution matching counts: it grows over the first `warmup` steps, while the fake settles. */
export const strengthAt = ({ strength, warmup }: { strength: number; warmup: number }, step: number): number =>
  strength * warmupAt(warmup, step + 1);

/** A curriculum: the longest |t - s| that is drawn grows linearly from `from` to 1 over a share of the run. */
export interface ReachLaw {
  from: number;
  until: number;
}

export function reachAt({ from, until }: ReachLaw, step: number, steps: number): number {
  return Math.min(1, from + (1 - from) * (step / Math.max(1, until * steps)));
}
