import { add, div, exp, greater, maximum, minimum, mul, neg, where } from '../src/ops/pointwise.js';
import { reshape, slice } from '../src/ops/movement.js';
import { normal, uniform } from '../src/ops/random.js';
import type { Tensor } from '../src/tensor/tensor.js';
import { streams } from './streams.js';

/** How times are drawn. */
export interface TimeLaw {
  /** `uniform` in [minimum, 1], or `logit-normal`: sigmoid of N(mean, std²) (Esser et al., 2024). */
  kind: 'uniform' | 'logit-normal';
  mean: number;
  std: number;
  /** Share of samples with s at the end of the path, which one-jump sampling needs most. */
  endShare: number;
}

/** One time per sample, [count], from `minimumTime` on: the smallest at which the teacher may be asked. */
export function drawTimes(law: TimeLaw, key: Tensor, count: number, minimumTime: number): Tensor {
  if (law.kind === 'uniform') return add(mul(uniform(key, streams.times, [count]), 1 - minimumTime), minimumTime);
  const logit = add(mul(normal(key, streams.times, [count]), law.std), law.mean);
  const t = div(1, add(exp(neg(logit)), 1));
  return add(mul(t, 1 - minimumTime), minimumTime);
}

/**
 * Pairs s ≤ t, [count] each: the greater and the smaller of two draws, s moved to the end of the path for a share.
 * @param end where the path ends, usually 0
 */
export function drawPairs(
  law: TimeLaw,
  key: Tensor,
  count: number,
  minimumTime: number,
  end: number,
): { t: Tensor; s: Tensor } {
  const both = reshape(drawTimes(law, key, 2 * count, minimumTime), [2, count]);
  const [a, b] = [0, 1].map((i) => reshape(slice(both, 0, i, i + 1), [count]));
  const ends = greater(law.endShare, uniform(key, streams.zero, [count]));
  return { t: maximum(a, b), s: where(ends, end, minimum(a, b)) };
}
