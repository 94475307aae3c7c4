import { averageVelocityOf, interpolate, velocityOf, type Condition } from '../src/flow/field.js';
import { bindNetwork, type Network } from '../src/flow/network.js';
import { parametrization } from '../src/flow/parametrization.js';
import { answered, askable, mapTensors, Question, together } from '../src/flow/questions.js';
import type { Solver } from '../src/flow/solvers.js';
import { UserError } from '../src/errors.js';
import type { Parameters } from '../src/nn/parameters.js';
import { expand, sum } from '../src/ops/broadcast.js';
import { concat, slice } from '../src/ops/movement.js';
import { abs, add, greater, mul, stopGradient, sub, where } from '../src/ops/pointwise.js';
import { uniform } from '../src/ops/random.js';
import { constant, Tensor } from '../src/tensor/tensor.js';
import { drawSource, shownLabels, type SampleSource } from './batches.js';
import type { DistillationConfig } from './config.js';
import { objectives } from './objectives/index.js';
import type { Objective } from './objectives/objective.js';
import { squaredErrors } from './regression.js';
import { streams } from './streams.js';
import { drawPairs } from './times.js';
import type { Loss, LossContext } from './trainer.js';
import { logVariance } from './uncertainty.js';

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

/**
 * The loss of a step of flow-map training: x_t on straight paths between data and source, one call of the student for the
 * whole batch, each objective's target on its rows, with one call of teacher and target network for what all of them ask
 * at a time, u regressed on it. λ are shares of the batch, so that the expected
 * gradient is the weighted sum at the cost of one.
 * @param teacher null where the data leads
 * @param adapt the student's parameters from those that are trained, where these are an adapter
 */
export function distillationLoss(
  teacher: Network | null,
  student: Network,
  data: SampleSource,
  config: DistillationConfig,
  adapt: (trained: Parameters) => Parameters = (trained) => trained,
) {
  const { description, model } = student;
  const { batch } = config;
  const scale = parametrization(description);
  const led = teacher && config.velocity === 'teacher';
  return ({ parameters, averages: { target }, key, schedule, profile }: LossContext): Loss => {
    const teacherWeights = led ? bindNetwork(teacher, 'teacher', profile, config.precision) : null;
    const [weights, targetWeights] = [adapt(parameters), adapt(target)];
    const drawn = data.draw(key, batch, profile);
    const labels = shownLabels(model, drawn.labels, key, config.labelDropout);
    const { t, s } = drawPairs(config.times, key, batch, description.minimumTime, end, schedule.reach);
    const z = drawSource(description.source, key, batch, model.sampleShape);
    const x = interpolate(drawn.x, z, t);
    const drawnEpsilon = uniform(key, streams.epsilon, [batch]);
    const epsilon = where(
      greater(expand(schedule.epsilon, [batch]), 0),
      expand(schedule.epsilon, [batch]),
      drawnEpsilon,
    );
    const fraction = config.split === 'midpoint' ? constant(0.5, [batch]) : uniform(key, streams.fraction, [batch]);
    const { from: least, to: most } = config.guidance;
    const guided = least !== 1 || most !== 1;
    const guidance = guided ? add(mul(uniform(key, streams.guidance, [batch]), most - least), least) : undefined;

    let from = 0;
    const parts = sharesOf(config.lambda, batch).map((share) => {
      const { objective, rows } = share;
      const start = from;
      from += rows;
      const part = (tensor: Tensor) => slice(tensor, 0, start, start + rows);
      const times = { t: part(t), s: part(s) };
      const asked = { diagonal: times.t, end: constant(end, [rows]), drawn: times.s };
      return { ...share, part, t: times.t, s: asked[objective.asked ?? 'drawn'] };
    });
    const askedS = concat(
      parts.map((part) => part.s),
      0,
    );
    // A fixed scale is no input: the student learns the guided flow as its own.
    const { conditions, negative } = drawn;
    const condition: Condition = { labels, guidance: least < most ? guidance : undefined, conditions };
    const u = averageVelocityOf(model, weights, description, condition)(x, t, askedS);

    const askTarget = askable((x: Tensor, t: Tensor, s: Tensor, told: Condition) =>
      averageVelocityOf(model, targetWeights, description, told)(x, t, s),
    );
    const askTeacher = askable((x: Tensor, t: Tensor, told: Condition) =>
      velocityOf(teacher!.model, teacherWeights!, teacher!.description, told)(x, t),
    );
    const asking = parts.map(({ objective: { name, target: targetOf }, part, t, s }) => {
      const toldOf = (told: Condition) => mapTensors(told, part);
      const computation = targetOf({
        x: part(x),
        t,
        s,
        epsilon: part(epsilon),
        fraction: part(fraction),
        teacher: teacherWeights
          ? (x, t) => askTeacher(x, t, toldOf({ labels, guidance, conditions, negative }))
          : () => Question.answered(part(sub(z, drawn.x))),
        target: (x, t, s) => askTarget(x, t, s, toldOf(condition)),
        student: part(stopGradient(u)),
        solver: (config.solver[name] as Solver | undefined) ?? 'euler',
        solverSteps: (config.solver[`${name}Steps`] as number | undefined) ?? 1,
        difference: config.difference,
        tangent: { form: config.tangent.form, normalization: config.tangent.normalization, warmup: schedule.warmup },
      });
      return computation instanceof Tensor ? Question.answered(computation) : computation;
    });
    const targets = answered(together(...asking));
    const errors = squaredErrors(u, concat(targets, 0), config.weighting, {
      outputScale: scale.outputScale(t),
      lookahead: mul(epsilon, abs(sub(t, askedS))),
      ...(config.weighting.kind === 'uncertainty' && { logVariance: logVariance(parameters, t, askedS) }),
    });
    const losses = Object.fromEntries(
      parts.map(({ objective, rows, part }) => [objective.name, mul(sum(stopGradient(part(errors))), 1 / rows)]),
    );
    const exact = parts.every(({ weight }) => weight === 1);
    const rowWeights = parts.map(({ weight, rows }) => constant(weight, [rows]));
    const weighted = exact ? errors : mul(errors, concat(rowWeights, 0));
    return { total: mul(sum(weighted), 1 / batch), parts: losses };
  };
}
