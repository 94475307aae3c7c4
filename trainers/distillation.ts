import { averageVelocityOf, interpolate, velocityOf } from '../src/flow/field.js';
import { bindNetwork, type Network } from '../src/flow/network.js';
import type { Solver } from '../src/flow/solvers.js';
import { UserError } from '../src/errors.js';
import { expand, sum } from '../src/ops/broadcast.js';
import { concat, slice } from '../src/ops/movement.js';
import { greater, mul, stopGradient, where } from '../src/ops/pointwise.js';
import { uniform } from '../src/ops/random.js';
import type { Tensor } from '../src/tensor/tensor.js';
import { drawSource, type SampleSource } from './batches.js';
import { objectives, type ObjectiveName } from './objectives/index.js';
import { squaredErrors, type Weighting } from './regression.js';
import { streams } from './streams.js';
import { drawPairs, type TimeLaw } from './times.js';
import type { Loss, LossContext } from './trainer.js';

export interface DistillationOptions {
  batch: number;
  /** λ of each objective: its share of the batch, so that the expected gradient is the weighted sum at the cost of one. */
  weights: Record<ObjectiveName, number>;
  times: TimeLaw;
  /** The teacher's step inside each objective. */
  solvers: Record<ObjectiveName, Solver>;
  weighting: Weighting;
  /** How the teacher's weights are stored. */
  precision: 'f32' | 'f16';
  /** Where s ends: 0, or the smallest time at which the teacher can be asked. */
  end: number;
}

/** Rows of the batch that each objective gets: proportional to λ, the remainder to the largest fractions. */
export function sharesOf(
  weights: Record<ObjectiveName, number>,
  batch: number,
): { name: ObjectiveName; rows: number }[] {
  const names = (Object.keys(objectives) as ObjectiveName[]).filter((name) => weights[name] > 0);
  if (!names.length) throw new UserError('every λ is 0: give at least one objective a weight');
  if (names.length > batch) throw new UserError(`a batch of ${batch} cannot be shared by ${names.length} objectives`);
  const total = names.reduce((sum, name) => sum + weights[name], 0);
  const exact = names.map((name) => (weights[name] / total) * batch);
  const rows = exact.map((value) => Math.max(1, Math.floor(value)));
  const byFraction = names.map((_, i) => i).sort((a, b) => exact[b] - rows[b] - (exact[a] - rows[a]));
  let rest = batch - rows.reduce((sum, count) => sum + count, 0);
  for (let i = 0; rest !== 0; i = (i + 1) % names.length) {
    const at = byFraction[i];
    const change = Math.sign(rest);
    if (rows[at] + change < 1) continue;
    rows[at] += change;
    rest -= change;
  }
  return names.map((name, i) => ({ name, rows: rows[i] }));
}

/**
 * The loss of a step of flow-map distillation (DESIGN §1): x_t on straight paths between data and source, one call of
 * the student for the whole batch, each objective's target on its rows, u regressed on it.
 */
export function distillationLoss(teacher: Network, student: Network, data: SampleSource, options: DistillationOptions) {
  const { description, model } = teacher;
  const teacherWeights = bindNetwork(teacher, 'teacher', options.precision).parameters;
  const { batch } = options;
  return ({ parameters, target, key, epsilon }: LossContext): Loss => {
    const drawn = data.draw(key, batch);
    const labels = model.classes ? (drawn.labels ?? undefined) : undefined;
    const { t, s } = drawPairs(options.times, key, batch, description.minimumTime, options.end);
    const x = interpolate(drawn.x, drawSource(description.source, key, batch, model.sampleShape), t);
    const drawnEpsilon = uniform(key, streams.epsilon, [batch]);
    const eps = where(greater(expand(epsilon, [batch]), 0), expand(epsilon, [batch]), drawnEpsilon);
    const portion = uniform(key, streams.portion, [batch]);

    const shares = sharesOf(options.weights, batch);
    const asked: Tensor[] = [];
    const targets: Tensor[] = [];
    let from = 0;
    for (const { name, rows } of shares) {
      const part = (tensor: Tensor) => slice(tensor, 0, from, from + rows);
      const partLabels = labels && part(labels);
      const objective = objectives[name];
      asked.push(part('diagonal' in objective ? t : s));
      targets.push(
        objective.target({
          x: part(x),
          t: part(t),
          s: part(s),
          epsilon: part(eps),
          portion: part(portion),
          teacher: velocityOf(model, teacherWeights, description, partLabels),
          target: averageVelocityOf(student.model, target, student.description, partLabels),
          solver: options.solvers[name],
        }),
      );
      from += rows;
    }
    const u = averageVelocityOf(student.model, parameters, student.description, labels)(x, t, concat(asked, 0));
    const errors = squaredErrors(u, concat(targets, 0), t, options.weighting);
    const parts: Record<string, Tensor> = {};
    from = 0;
    for (const { name, rows } of shares) {
      parts[name] = mul(sum(stopGradient(slice(errors, 0, from, from + rows))), 1 / rows);
      from += rows;
    }
    return { total: mul(sum(errors), 1 / batch), parts };
  };
}
