/** How a discrete diffusion under VP, x = √ᾱ x0 + √(1-ᾱ) ε, was trained to see noise. */
export interface DiffusionSchedule {
  /**
   * `linear`: DDPM. `scaled-linear`: latent diffusion. `cosine`: Nichol and Dhariwal (2021). `sigmoid`: GeoDiff.
   * `betas`: as they are listed.
   */
  schedule: (typeof diffusionSchedules)[number];
  /** Number of levels N; the network's time is a level from 0 to N - 1. */
  steps: number;
  /** β of the first and of the last level; left out, those published for 1000 levels, stretched to end at the same noise. */
  betaStart?: number;
  betaEnd?: number;
  /** β of every level, for `betas`. */
  betas?: readonly number[];
  /** Whether √ᾱ is shifted and scaled so that the last level is noise alone (Lin et al., 2024). */
  zeroTerminal?: boolean;
}

export const diffusionSchedules = ['linear', 'scaled-linear', 'cosine', 'sigmoid', 'betas'] as const;

/** The first and the last β of 1000 levels, as published. */
const published = { linear: [1e-4, 0.02], 'scaled-linear': [0.00085, 0.012], sigmoid: [1e-4, 0.02] };

/** β of every level, [N] in float64. */
function betasOf({ schedule, steps, betaStart, betaEnd, betas }: DiffusionSchedule): readonly number[] {
  if (schedule === 'betas') return betas ?? [];
  const levels = Array.from({ length: steps }, (_, n) => n);
  if (schedule === 'cosine') {
    const cosine = (share: number) => Math.cos((((share + 0.008) / 1.008) * Math.PI) / 2) ** 2;
    return levels.map((n) => Math.min(0.999, 1 - cosine((n + 1) / steps) / cosine(n / steps)));
  }
  const stated = betaStart !== undefined || betaEnd !== undefined;
  const stretch = stated ? 1 : 1000 / steps;
  const [start, end] = [betaStart ?? published[schedule][0], betaEnd ?? published[schedule][1]];
  const at = (n: number, low: number, high: number) => low + (high - low) * (steps > 1 ? n / (steps - 1) : 0);
  const beta = (n: number): number => {
    if (schedule === 'linear') return at(n, start, end);
    if (schedule === 'scaled-linear') return at(n, Math.sqrt(start), Math.sqrt(end)) ** 2;
    return start + (end - start) / (1 + Math.exp(-at(n, -6, 6)));
  };
  return levels.map((n) => (stated ? beta(n) : Math.min(0.999, beta(n) * stretch)));
}

/** ᾱ of every level, [N] in float64. */
export function alphaBars(schedule: DiffusionSchedule): Float64Array {
  let product = 1;
  const bars = Float64Array.from(betasOf(schedule), (beta) => (product *= 1 - beta));
  if (!schedule.zeroTerminal) return bars;
  const [first, last] = [Math.sqrt(bars[0]), Math.sqrt(bars[bars.length - 1])];
  return bars.map((bar) => (((Math.sqrt(bar) - last) * first) / (first - last)) ** 2);
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
    const next = times[n + 1] ?? times[n];
    // Of pure noise the ratio has no logarithm: there t itself is taken as linear.
    const [before, at, after] = next < 1 ? [times[n], t, next].map(logit) : [times[n], t, next];
    return after > before ? n + Math.min(1, Math.max(0, (at - before) / (after - before))) : n;
  });
  return { lowest, highest, levels };
}
