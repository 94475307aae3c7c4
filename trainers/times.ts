import { expand } from '../src/ops/broadcast.js';
import { add, div, exp, greater, maximum, minimum, mul, neg, sub, where } from '../src/ops/pointwise.js';
import { reshape, slice } from '../src/ops/movement.js';
import type { Tensor } from '../src/tensor/tensor.js';
import type { Rows } from './rows.js';
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

/** One time for each row of a batch, [count], from `minimumTime` on: the smallest at which the teacher may be asked. */
export function drawTimes(law: TimeLaw, rows: Rows, minimumTime: number): Tensor {
  if (law.kind === 'uniform') return add(mul(rows.uniform(streams.times), 1 - minimumTime), minimumTime);
  const logit = add(mul(rows.normal(streams.times), law.std), law.mean);
  const t = div(1, add(exp(neg(logit)), 1));
  return add(mul(t, 1 - minimumTime), minimumTime);
}

/**
 * Pairs of times for the rows of a batch, [count] each, s ≤ t but for the forward share: s moved to the end of the path for a share, then to within
 * `reach` of t.
 * @param end where the path ends, usually 0
 * @param reach the longest jump, [1]
 */
export function drawPairs(
  law: PairLaw,
  rows: Rows,
  minimumTime: number,
  end: number,
  reach: Tensor,
): { t: Tensor; s: Tensor } {
  const { t, s } = law.pairs === 'free' ? freePairs(law, rows, minimumTime) : gapPairs(law, rows, minimumTime);
  const ends = greater(law.endShare, rows.uniform(streams.end));
  const near = maximum(where(ends, end, s), sub(t, expand(reach, [rows.count])));
  if (!law.forwardShare) return { t, s: near };
  const forward = greater(law.forwardShare, rows.uniform(streams.forward));
  return { t: where(forward, maximum(near, minimumTime), t), s: where(forward, t, near) };
}

function freePairs(law: PairLaw, rows: Rows, minimumTime: number) {
  const { count } = rows;
  const both = reshape(drawTimes(law, rows.twice(), minimumTime), [2, count]);
  const [a, b] = [0, 1].map((i) => reshape(slice(both, 0, i, i + 1), [count]));
  return { t: maximum(a, b), s: minimum(a, b) };
}

function gapPairs(law: PairLaw, rows: Rows, minimumTime: number) {
  const gap = drawTimes(law, rows, 0);
  const left = mul(sub(1, gap), rows.uniform(streams.gap));
  const t = maximum(sub(1, left), minimumTime);
  return { t, s: maximum(sub(t, gap), minimumTime) };
}
