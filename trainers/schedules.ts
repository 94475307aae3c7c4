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

/** A decay that starts small, so that early steps are soon forgotten: min(decay, (1 + n) / (10 + n)). */
export function decayAt(decay: number, step: number): number {
  return Math.min(decay, (1 + step) / (10 + step));
}
