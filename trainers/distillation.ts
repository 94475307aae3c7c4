import { averageVelocityOf, velocityOf, type Condition } from '../src/flow/field.js';
import { bindNetwork, type Network } from '../src/flow/network.js';
import { parametrization } from '../src/flow/parametrization.js';
import { answered, askable, mapTensors, Question, together } from '../src/flow/questions.js';
import type { Solver } from '../src/flow/solvers.js';
import type { Parameters } from '../src/nn/parameters.js';
import { expand } from '../src/ops/broadcast.js';
import { concat } from '../src/ops/movement.js';
import { abs, greater, mul, stopGradient, sub, where } from '../src/ops/pointwise.js';
import { constant, Tensor } from '../src/tensor/tensor.js';
import type { SampleSource } from './batches.js';
import type { DistillationConfig } from './config.js';
import type { Fake } from './fake.js';
import { squaredErrors, type ErrorContext } from './regression.js';
import { drawBatch, type Part } from './shares.js';
import { streams } from './streams.js';
import type { Loss, LossContext } from './trainer.js';
import { logVariance } from './uncertainty.js';

/**
 * The loss of a step of flow-map training: x_t on straight paths between data and source, one call of the student for the
 * whole batch, each objective's target on its rows, with one call of teacher and target network for what all of them ask
 * at a time, u regressed on it. λ are shares of the batch, so that the expected
 * gradient is the weighted sum at the cost of one.
 * @param teacher null where the data leads
 * @param adapt the student's parameters from those that are trained, where these are an adapter
 * @param fake the network that learns the student's samples, where an objective asks it
 */
export function distillationLoss(
  teacher: Network | null,
  student: Network,
  data: SampleSource,
  config: DistillationConfig,
  adapt: (trained: Parameters) => Parameters = (trained) => trained,
  fake: Fake | null = null,
) {
  const { description, model } = student;
  const scale = parametrization(description);
  const led = teacher && config.velocity === 'teacher';
  return (context: LossContext): Loss => {
    const { parameters, averages, rows, schedule, profile } = context;
    const teacherWeights = led ? bindNetwork(teacher, 'teacher', profile, config.precision) : null;
    const [weights, targetWeights] = [adapt(parameters), adapt(averages.target)];
    const { parts, x0, z, x, t, s, told } = drawBatch(student, data, config, context);
    const drawnEpsilon = rows.uniform(streams.epsilon);
    const { count } = rows;
    const epsilon = where(
      greater(expand(schedule.epsilon, [count]), 0),
      expand(schedule.epsilon, [count]),
      drawnEpsilon,
    );
    const fraction = config.split === 'midpoint' ? constant(0.5, [count]) : rows.uniform(streams.fraction);
    const u = averageVelocityOf(model, weights, description, told.student)(x, t, s);

    const askTarget = askable((x: Tensor, t: Tensor, s: Tensor, told: Condition) =>
      averageVelocityOf(model, targetWeights, description, told)(x, t, s),
    );
    const askTeacher = askable((x: Tensor, t: Tensor, told: Condition) =>
      velocityOf(teacher!.model, teacherWeights!, teacher!.description, told)(x, t),
    );
    const pair = sub(z, x0);
    const asking = parts.map((part) => {
      const { objective, of } = part;
      const { name } = objective;
      const toldOf = (told: Condition) => mapTensors(told, of);
      const computation = objective.target({
        x: of(x),
        t: part.t,
        s: part.s,
        epsilon: of(epsilon),
        fraction: of(fraction),
        teacher: teacherWeights ? (x, t) => askTeacher(x, t, toldOf(told.teacher)) : () => Question.answered(of(pair)),
        pair: of(pair),
        target: (x, t, s) => askTarget(x, t, s, toldOf(told.student)),
        student: of(stopGradient(u)),
        solver: (config.solver[name] as Solver | undefined) ?? 'euler',
        solverSteps: (config.solver[`${name}Steps`] as number | undefined) ?? 1,
        difference: config.difference,
        tangent: { form: config.tangent.form, normalization: config.tangent.normalization, warmup: schedule.warmup },
        ...(objective.fake && { samples: fake!.judging(part, toldOf(told.teacher), context, askTeacher) }),
      });
      return computation instanceof Tensor ? Question.answered(computation) : computation;
    });
    const targets = answered(together(...asking));
    const lookahead = mul(epsilon, abs(sub(t, s)));
    const errors = errorsOf(parts, config, {
      prediction: u,
      targets,
      outputScale: scale.outputScale(t),
      lookahead,
      ...(config.weighting.kind === 'uncertainty' && { logVariance: logVariance(parameters, t, s) }),
    });
    const losses = Object.fromEntries(
      parts.map(({ objective, rows, of }) => [objective.name, rows.mean(stopGradient(of(errors)))]),
    );
    const exact = parts.every(({ weight }) => weight === 1);
    const rowWeights = parts.map(({ weight, rows }) => constant(weight, [rows.count]));
    const weighted = exact ? errors : mul(errors, concat(rowWeights, 0));
    return { total: rows.mean(weighted), parts: losses };
  };
}

/** The errors of all rows [count], each counted as the recipe says, or as they are where an objective weighs its own. */
function errorsOf(
  parts: readonly Part[],
  { weighting }: DistillationConfig,
  { prediction, targets, ...context }: ErrorContext & { prediction: Tensor; targets: readonly Tensor[] },
): Tensor {
  if (!parts.some(({ objective }) => objective.unweighted))
    return squaredErrors(prediction, concat(targets, 0), weighting, context);
  const errors = parts.map(({ objective, of }, i) =>
    squaredErrors(
      of(prediction),
      targets[i],
      objective.unweighted ? { ...weighting, kind: 'none' } : weighting,
      mapTensors(context, of),
    ),
  );
  return concat(errors, 0);
}
