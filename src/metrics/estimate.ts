/** A mean with half the width of its 95 % interval, which is not finite for a single value. */
export interface Estimate {
  mean: number;
  half: number;
}

/** 97.5 % quantiles of Student's t by degrees of freedom; beyond the table the normal one is close. */
const quantiles = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];

/** Mean of independent values, with Student's interval. */
export function estimate(values: readonly number[]): Estimate {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  if (n < 2) return { mean, half: Infinity };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  return { mean, half: (quantiles[n - 2] ?? 1.96) * Math.sqrt(variance / n) };
}
