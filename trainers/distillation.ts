import { averageVelocityOf, interpolate, velocityOf, type Condition, type Velocity } from '../src/flow/field.js';
import { bindNetwork, type Network } from '../src/flow/network.js';
import { parametrization } from '../src/flow/parametrization.js';
import { UserError } from '../src/errors.js';
import type { Parameters } from '../src/nn/parameters.js';
import { expand, sum } from '../src/ops/broadcast.js';
import { concat, slice } from '../src/ops/movement.js';
import { abs, add, greater, mul, stopGradient, sub, where } from '../src/ops/pointwise.js';
import { uniform } from '../src/ops/random.js';
import { constant, type Tensor } from '../src/tensor/tensor.js';
import { drawSource, type SampleSource } from './batches.js';
import type { DistillationConfig } from './config.js';
import { objectives, type ObjectiveName } from './objectives/index.js';
import type { Objective, Situation } from './objectives/objective.js';
import { squaredErrors } from './regression.js';
import { streams } from './streams.js';
import { drawPairs } from './times.js';
import type { Loss, LossContext } from './trainer.js';
import { logVariance } from './uncertainty.js';

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

/** Where paths end. */
const end = 0;

/**
 * The loss of a step of flow-map training (DESIGN §1): x_t on straight paths between data and source, one call of the
 * student for the whole batch, each objective's target on its rows, u regressed on it. λ are shares of the batch, so that
 * the expected gradient is the weighted sum at the cost of one.
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
  const teacherWeights = led ? bindNetwork(teacher, 'teacher', config.precision).parameters : null;
  const solvers: Record<ObjectiveName, Situation['solver']> = {
    semigroup: 'euler',
    diagonal: 'euler',
    meanVelocity: 'euler',
    ...config.solver,
  };
  return ({ parameters, target, key, schedule }: LossContext): Loss => {
    const [weights, targetWeights] = [adapt(parameters), adapt(target)];
    const drawn = data.draw(key, batch);
    const labels = model.classes ? (drawn.labels ?? undefined) : undefined;
    const { t, s } = drawPairs(config.times, key, batch, description.minimumTime, end, schedule.reach);
    const z = drawSource(description.source, key, batch, model.sampleShape);
    const x = interpolate(drawn.x, z, t);
    const drawnEpsilon = uniform(key, streams.epsilon, [batch]);
    const epsilon = where(
      greater(expand(schedule.epsilon, [batch]), 0),
      expand(schedule.epsilon, [batch]),
      drawnEpsilon,
    );
    const portion = config.split === 'midpoint' ? constant(0.5, [batch]) : uniform(key, streams.portion, [batch]);
    const { from: least, to: most } = config.guidance;
    const guided = least !== 1 || most !== 1;
    const guidance = guided ? add(mul(uniform(key, streams.guidance, [batch]), most - least), least) : undefined;

    let from = 0;
    const parts = sharesOf(config.lambda, batch).map(({ name, rows }) => {
      const start = from;
      from += rows;
      const part = (tensor: Tensor) => slice(tensor, 0, start, start + rows);
      const { asked } = objectives[name] as Objective;
      const times = { t: part(t), s: part(s) };
      return {
        name,
        rows,
        part,
        t: times.t,
        s: asked ? { diagonal: times.t, end: constant(end, [rows]) }[asked] : times.s,
      };
    });
    const askedS = concat(
      parts.map((part) => part.s),
      0,
    );
    // A fixed scale is no input: the student learns the guided flow as its own.
    const condition: Condition = { labels, guidance: least < most ? guidance : undefined };
    const u = averageVelocityOf(model, weights, description, condition)(x, t, askedS);

    const targets = parts.map(({ name, part, t, s }) => {
      const partOf = (tensor: Tensor | undefined) => tensor && part(tensor);
      const partX = part(x);
      const pairVelocity: Velocity = () => part(sub(z, drawn.x));
      return objectives[name].target({
        x: partX,
        t,
        s,
        epsilon: part(epsilon),
        portion: part(portion),
        teacher:
          teacherWeights && teacher
            ? velocityOf(teacher.model, teacherWeights, teacher.description, {
                labels: partOf(labels),
                guidance: partOf(guidance),
              })
            : pairVelocity,
        target: averageVelocityOf(model, targetWeights, description, {
          labels: partOf(labels),
          guidance: partOf(condition.guidance),
        }),
        current: part(stopGradient(u)),
        solver: solvers[name],
        solverSteps: config.solver.trajectorySteps,
        difference: config.difference,
        tangent: { form: config.tangent.form, normalization: config.tangent.normalization, warmup: schedule.warmup },
      });
    });
    const errors = squaredErrors(u, concat(targets, 0), config.weighting, {
      outputScale: scale.outputScale(t),
      lookahead: mul(epsilon, abs(sub(t, askedS))),
      ...(config.weighting.kind === 'uncertainty' && { logVariance: logVariance(parameters, t, askedS) }),
    });
    const losses = Object.fromEntries(
      parts.map(({ name, rows, part }) => [name, mul(sum(stopGradient(part(errors))), 1 / rows)]),
    );
    return { total: mul(sum(errors), 1 / batch), parts: losses };
  };
}
