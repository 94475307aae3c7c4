/** A mean with half the width of its 95 % interval, null where a single value says nothing of the spread. */
export interface Estimate {
  mean: number;
  half: number | null;
}

/** Mean of independent values, with Student's interval. Without values, or with one that is no number, the mean is NaN. */
export function estimate(values: readonly number[]): Estimate {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  if (n < 2) return { mean, half: null };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  return { mean, half: studentQuantile(0.95, n - 1) * Math.sqrt(variance / n) };
}

/**
 * The t that |T| stays below with a probability, for Student's T of a whole number of degrees of freedom.
 * @param probability from 0 to below 1
 */
export function studentQuantile(probability: number, degrees: number): number {
  // In θ = atan(t / √ν) the probability rises from 0 to 1 over a quarter turn.
  let [low, high] = [0, Math.PI / 2];
  for (let step = 0; step < 60; step++) {
    const middle = (low + high) / 2;
    if (within(middle, degrees) < probability) low = middle;
    else high = middle;
  }
  return Math.sqrt(degrees) * Math.tan((low + high) / 2);
}

/** P(|T| < √ν tan θ): the finite series of Abramowitz & Stegun, 26.7.3 and 26.7.4. */
function within(angle: number, degrees: number): number {
  const [sine, cosine] = [Math.sin(angle), Math.cos(angle)];
  const odd = degrees % 2;
  let term = odd ? cosine : 1;
  let sum = degrees > 1 ? term : 0;
  for (let k = odd + 2; k < degrees; k += 2) {
    term *= ((k - 1) / k) * cosine * cosine;
    sum += term;
  }
  return odd ? (2 / Math.PI) * (angle + sine * sum) : sine * sum;
}
