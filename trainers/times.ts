import { expand } from '../src/ops/broadcast.js';
import { add, div, exp, greater, maximum, minimum, mul, neg, sub, where } from '../src/ops/pointwise.js';
import { reshape, slice } from '../src/ops/movement.js';
import { normal, uniform } from '../src/ops/random.js';
import type { Tensor } from '../src/tensor/tensor.js';
import { streams } from './streams.js';

/** How times are drawn. */
export interface TimeLaw {
  /**
   * `uniform` in [minimum, 1], or `logit-normal`: sigmoid of N(mean, std²) (Esser et al., 2024). Since σ = t / (1 - t), the
   * latter is also EDM's law, ln σ ~ N(-1.2, 1.2²).
   */
  kind: 'uniform' | 'logit-normal';
  mean: number;
  std: number;
}

/** How pairs of times are drawn. */
export interface PairLaw extends TimeLaw {
  /** Share of samples with s at the end of the path, which one-jump sampling needs most. */
  endShare: number;
  /**
   * `free`: t and s are the greater and the smaller of two draws. `gap`: the jump's length t - s is drawn by the law, t
   * uniformly in what is left (Sabour et al., Align Your Flow, 2025).
   */
  pairs: 'free' | 'gap';
  /** Share of pairs that jump forward, from data towards noise. */
  forwardShare: number;
}

/** One time per sample, [count], from `minimumTime` on: the smallest at which the teacher may be asked. */
export function drawTimes(law: TimeLaw, key: Tensor, count: number, minimumTime: number): Tensor {
  if (law.kind === 'uniform') return add(mul(uniform(key, streams.times, [count]), 1 - minimumTime), minimumTime);
  const logit = add(mul(normal(key, streams.times, [count]), law.std), law.mean);
  const t = div(1, add(exp(neg(logit)), 1));
  return add(mul(t, 1 - minimumTime), minimumTime);
}

/**
 * Pairs of times, [count] each, s ≤ t but for the forward share: s moved to the end of the path for a share, then to within
 * `reach` of t.
 * @param end where the path ends, usually 0
 * @param reach the longest jump, [1]
 */
export function drawPairs(
  law: PairLaw,
  key: Tensor,
  count: number,
  minimumTime: number,
  end: number,
  reach: Tensor,
): { t: Tensor; s: Tensor } {
  const { t, s } =
    law.pairs === 'free' ? freePairs(law, key, count, minimumTime) : gapPairs(law, key, count, minimumTime);
  const ends = greater(law.endShare, uniform(key, streams.end, [count]));
  const near = maximum(where(ends, end, s), sub(t, expand(reach, [count])));
  if (!law.forwardShare) return { t, s: near };
  const forward = greater(law.forwardShare, uniform(key, streams.forward, [count]));
  return { t: where(forward, maximum(near, minimumTime), t), s: where(forward, t, near) };
}

function freePairs(law: PairLaw, key: Tensor, count: number, minimumTime: number) {
  const both = reshape(drawTimes(law, key, 2 * count, minimumTime), [2, count]);
  const [a, b] = [0, 1].map((i) => reshape(slice(both, 0, i, i + 1), [count]));
  return { t: maximum(a, b), s: minimum(a, b) };
}

function gapPairs(law: PairLaw, key: Tensor, count: number, minimumTime: number) {
  const gap = drawTimes(law, key, count, 0);
  const left = mul(sub(1, gap), uniform(key, streams.gap, [count]));
  const t = maximum(sub(1, left), minimumTime);
  return { t, s: maximum(sub(t, gap), minimumTime) };
}
