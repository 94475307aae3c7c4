/** How a discrete diffusion under VP, x = √ᾱ x0 + √(1-ᾱ) ε, was trained to see noise. */
export interface DiffusionSchedule {
  /** `linear`: DDPM. `scaled-linear`: latent diffusion. `cosine`: Nichol and Dhariwal (2021). */
  schedule: 'linear' | 'scaled-linear' | 'cosine';
  /** Number of levels N; the network's time is a level from 0 to N - 1. */
  steps: number;
}

/** ᾱ of every level, [N] in float64. β as published for 1000 levels, and stretched so that other N end at the same noise. */
export function alphaBars({ schedule, steps }: DiffusionSchedule): Float64Array {
  const stretch = 1000 / steps;
  const at = (n: number, low: number, high: number) => low + (high - low) * (steps > 1 ? n / (steps - 1) : 0);
  const cosine = (share: number) => Math.cos((((share + 0.008) / 1.008) * Math.PI) / 2) ** 2;
  const beta = (n: number): number => {
    if (schedule === 'linear') return at(n, 1e-4, 0.02) * stretch;
    if (schedule === 'scaled-linear') return at(n, Math.sqrt(0.00085), Math.sqrt(0.012)) ** 2 * stretch;
    return 1 - cosine((n + 1) / steps) / cosine(n / steps);
  };
  let product = 1;
  return Float64Array.from({ length: steps }, (_, n) => (product *= 1 - Math.min(0.999, beta(n))));
}

/** Where on the straight path a VP level of that ᾱ lies: σ / (α + σ), of the same signal-to-noise ratio. */
export function straightTime(alphaBar: number): number {
  const [alpha, sigma] = [Math.sqrt(alphaBar), Math.sqrt(1 - alphaBar)];
  return sigma / (alpha + sigma);
}

/** Levels that a table over the schedule's range of t has between them: fine enough that no f32 network sees the grid. */
const intervals = 16384;

/**
 * The level that straight-path times belong to, tabulated at equal distances of t from the least to the most noise of the
 * schedule; between levels ln(σ/α) is taken as linear.
 */
export function levelTable(schedule: DiffusionSchedule): { lowest: number; highest: number; levels: Float32Array } {
  const times = [...alphaBars(schedule)].map(straightTime);
  const logit = (t: number) => Math.log(t / (1 - t));
  const [lowest, highest] = [times[0], times[times.length - 1]];
  let n = 0;
  const levels = Float32Array.from({ length: intervals + 1 }, (_, i) => {
    const t = lowest + ((highest - lowest) * i) / intervals;
    while (n < times.length - 2 && times[n + 1] < t) n++;
    const [before, after] = [logit(times[n]), logit(times[n + 1] ?? times[n])];
    return after > before ? n + Math.min(1, Math.max(0, (logit(t) - before) / (after - before))) : n;
  });
  return { lowest, highest, levels };
}
