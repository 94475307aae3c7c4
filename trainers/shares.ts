import { interpolate, type Condition } from '../src/flow/field.js';
import type { Network } from '../src/flow/network.js';
import { UserError } from '../src/errors.js';
import { concat } from '../src/ops/movement.js';
import { add, greater, mul, where } from '../src/ops/pointwise.js';
import { constant, type Tensor } from '../src/tensor/tensor.js';
import { drawSource, shownLabels, type SampleSource } from './batches.js';
import type { DistillationConfig } from './config.js';
import { objectives } from './objectives/index.js';
import type { Objective } from './objectives/objective.js';
import type { Rows } from './rows.js';
import { streams } from './streams.js';
import { drawPairs } from './times.js';
import type { LossContext } from './trainer.js';

/** An objective's part of a batch. */
export interface Share {
  objective: Objective;
  rows: number;
  /** How a row counts, so that the rows together count by λ: 1 where the batch could be shared exactly. */
  weight: number;
}

/**
 * How a batch is shared: rows in proportion to λ, at least one each, the remainder to the largest fractions. What rows
 * cannot give a weight gives, so that the expected gradient is that of the λs.
 * @throws UserError where every λ is 0, or there are fewer samples than objectives
 */
export function sharesOf(lambda: DistillationConfig['lambda'], batch: number): Share[] {
  const used = objectives().filter(({ name }) => lambda[name] > 0);
  if (!used.length) throw new UserError('every λ is 0: give at least one objective a weight', 'lambda');
  if (used.length > batch)
    throw new UserError(`a batch of ${batch} cannot be shared by ${used.length} objectives: raise it`, 'batch');
  const largest = Math.max(...used.map(({ name }) => lambda[name]));
  const weights = used.map(({ name }) => lambda[name] / largest);
  const total = weights.reduce((sum, value) => sum + value, 0);
  const exact = weights.map((value) => (value / total) * batch);
  const rows = exact.map((value) => Math.max(1, Math.floor(value)));
  const byFraction = used.map((_, i) => i).sort((a, b) => exact[b] - rows[b] - (exact[a] - rows[a]));
  let rest = batch - rows.reduce((sum, count) => sum + count, 0);
  for (let i = 0; rest !== 0; i = (i + 1) % used.length) {
    const at = byFraction[i];
    const change = Math.sign(rest);
    if (rows[at] + change < 1) continue;
    rows[at] += change;
    rest -= change;
  }
  return used.map((objective, i) => {
    const weight = exact[i] / rows[i];
    // What differs by rounding alone is exact.
    return { objective, rows: rows[i], weight: Math.abs(weight - 1) < 1e-9 ? 1 : weight };
  });
}

/** Where paths end. */
const end = 0;

/** A share with its rows of a batch: where the student is asked, from t to s. */
export interface Part extends Omit<Share, 'rows'> {
  /** Its rows as a batch of their own. */
  rows: Rows;
  /** Its rows of a tensor of all rows. */
  of: (tensor: Tensor) => Tensor;
  t: Tensor;
  s: Tensor;
}

/** What a step of flow-map training starts from, each with a row per sample [count, ...]. */
export interface Batch {
  parts: readonly Part[];
  x0: Tensor;
  z: Tensor;
  /** x_t on the straight path between both. */
  x: Tensor;
  t: Tensor;
  s: Tensor;
  /** What the teacher is told, and what the student: a fixed scale is no input, it learns the guided flow as its own. */
  told: { teacher: Condition; student: Condition };
}

/** How many rows of a batch each objective has, as a learner says what its rows are for. */
export const rowsByObjective = ({ lambda, batch }: DistillationConfig): number[] =>
  sharesOf(lambda, batch).map(({ rows }) => rows);

/**
 * The batch of a step: a function of the step's key, so that whoever draws it draws the same.
 * @param context whose rows are those of `rowsByObjective`
 */
export function drawBatch(
  { description, model }: Network,
  data: SampleSource,
  config: DistillationConfig,
  { rows, schedule, profile }: Pick<LossContext, 'rows' | 'schedule' | 'profile'>,
): Batch {
  const { x: x0, conditions, negative, ...drawn } = data.draw(rows, profile);
  const labels = shownLabels(model, drawn.labels, rows, config.labelDropout);
  const pairs = drawPairs(config.times, rows, description.minimumTime, end, schedule.reach);
  const kinds = rows.byKind();
  const parts = sharesOf(config.lambda, config.batch).map((share, i): Part => {
    const { objective } = share;
    const { rows, of } = kinds[i];
    const t = objective.fake ? fromNoise(of(pairs.t), rows, config.distribution.noiseShare) : of(pairs.t);
    const asked = { diagonal: t, end: constant(end, [rows.count]), drawn: of(pairs.s) };
    return { ...share, rows, of, t, s: asked[objective.asked ?? 'drawn'] };
  });
  const joined = (of: (part: Part) => Tensor) => concat(parts.map(of), 0);
  const t = parts.some(({ objective }) => objective.fake) ? joined((part) => part.t) : pairs.t;
  const z = drawSource(description.source, rows, model.sampleShape);
  const { from: least, to: most } = config.guidance;
  const guided = least !== 1 || most !== 1;
  const guidance = guided ? add(mul(rows.uniform(streams.guidance), most - least), least) : undefined;
  return {
    parts,
    x0,
    z,
    x: interpolate(x0, z, t),
    t,
    s: joined((part) => part.s),
    told: {
      teacher: { labels, guidance, conditions, negative },
      student: { labels, guidance: least < most ? guidance : undefined, conditions },
    },
  };
}

/** Times with 1 in the place of a share of them: jumps of pure noise. */
const fromNoise = (t: Tensor, rows: Rows, share: number): Tensor =>
  where(greater(share, rows.uniform(streams.fromNoise)), 1, t);
