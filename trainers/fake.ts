import { adapterOf } from '../src/flow/adapter.js';
import { averageVelocityOf, interpolate, step, velocityOf, type Condition } from '../src/flow/field.js';
import { bindNetwork, createNetwork, type Network } from '../src/flow/network.js';
import { parametrization } from '../src/flow/parametrization.js';
import { askable, mapTensors, type Question } from '../src/flow/questions.js';
import { predictionOf } from '../src/models/model.js';
import type { Parameters } from '../src/nn/parameters.js';
import { concat } from '../src/ops/movement.js';
import { meanSquares } from '../src/ops/normalization.js';
import { add, mul, stopGradient, sub } from '../src/ops/pointwise.js';
import { constant, type Tensor } from '../src/tensor/tensor.js';
import { drawSource, type SampleSource } from './batches.js';
import type { DistillationConfig } from './config.js';

import type { Judging } from './objectives/objective.js';
import { Rows } from './rows.js';
import { drawBatch, rowsByObjective, type Part } from './shares.js';
import { streams } from './streams.js';
import type { Learner, Loss, LossContext, OptimizerOptions } from './trainer.js';

/** Its name among the learners. */
const fakeName = 'fake';

/** The least and the greatest time at which samples are judged: at 0 nothing is asked, at 1 all samples look alike. */
const judged = { from: 0.02, to: 0.98 };

/** How the teacher is asked in a step. */
type AskTeacher = (x: Tensor, t: Tensor, told: Condition) => Question;

/** The fake: a network that learns, beside the student, the velocity of the student's own samples. */
export interface Fake {
  learner: Learner;
  /** What an objective that asks it needs, for its rows. */
  judging(part: Part, told: Condition, context: LossContext, askTeacher: AskTeacher): Judging;
}

/**
 * The fake of a student. It starts as the teacher, or as a low-rank adapter of it, and is trained by flow matching on
 * what the student's jumps to the end make of the same noise and noised data, by its own optimizer, a number of times
 * for each step of the student (Yin et al., DMD, 2024; DMD2, 2024).
 * @param adapt the student's parameters from those that are trained
 */
export function fakeOf(
  teacher: Network,
  student: Network,
  data: SampleSource,
  config: DistillationConfig,
  optimizer: OptimizerOptions,
  adapt: (trained: Parameters) => Parameters = (trained) => trained,
): Fake {
  const { distribution, guidance, seed, checkpointBlocks, precision } = config;
  const { rate, rank, updates } = distribution;
  // One scale: a range of them cannot be judged. Where it is none, samples may be compared with a weaker teacher too.
  const scale = guidance.from;
  const judgedAt = scale === 1 ? distribution.guidance : Math.max(scale, distribution.guidance);
  const { model, layout, description } = createNetwork(teacher.description, seed, checkpointBlocks);
  const network = { description, model, layout, weights: teacher.weights };
  const adapter = rank ? adapterOf(network, { rank, alpha: rank }, seed) : null;
  const weightsOf = (trained: Parameters, { profile }: LossContext) =>
    adapter ? adapter.adapt(bindNetwork(teacher, 'teacher', profile, precision), trained) : trained;

  const loss = (context: LossContext): Loss => {
    const { parameters, learners } = context;
    const batch = drawBatch(student, data, config, context);
    const parts = batch.parts.filter(({ objective }) => objective.fake);
    const rowsOf = (tensor: Tensor) =>
      concat(
        parts.map(({ of }) => of(tensor)),
        0,
      );
    const [x, t, end] = [rowsOf(batch.x), rowsOf(batch.t), rowsOf(batch.s)];
    const told = mapTensors(batch.told.student, rowsOf);
    const weights = adapt(learners.student.parameters);
    const u = averageVelocityOf(student.model, weights, student.description, told)(x, t, end);
    const sample = stopGradient(step(x, t, end, u));
    const rows = Rows.joined(parts.map((part) => part.rows));
    const seen = parametrization(description);
    const time = between(rows.uniform(streams.fakeTimes), judged.from, seen.highest, seen.lowest);
    const z = drawSource(description.source, rows, model.sampleShape, {
      noise: streams.fakeNoise,
      source: streams.fakeSource,
    });
    const point = interpolate(sample, z, time);
    const { labels, conditions } = told;
    const inputs = { x: seen.point(point, time), time: seen.time(time), labels, conditions };
    const predicted = predictionOf(model, weightsOf(parameters, context), inputs);
    const errors = meanSquares(sub(predicted, stopGradient(seen.output(sample, z, time))));
    return { total: rows.mean(errors), parts: {} };
  };

  return {
    learner: {
      name: fakeName,
      layout: adapter?.layout ?? layout,
      initial: adapter?.weights ?? network.weights,
      averages: {},
      optimizer: { ...optimizer, rate: { peak: rate, warmup: distribution.warmup, finalShare: 1 } },
      turns: updates,
      rows: rowsByObjective(config),
      loss,
    },
    judging({ rows }, told, context, askTeacher) {
      const { learners, schedule, profile } = context;
      const askWith = (network: Network, weights: Parameters): AskTeacher =>
        askable((x: Tensor, t: Tensor, told: Condition) =>
          velocityOf(network.model, weights, network.description, told)(x, t),
        );
      const askFake = askWith(network, weightsOf(learners[fakeName].parameters, context));
      const { labels, conditions } = told;
      const real =
        judgedAt === scale
          ? { ask: askTeacher, told }
          : // Not together with objectives that ask under another guidance, or under none.
            {
              ask: askWith(teacher, bindNetwork(teacher, 'teacher', profile, precision)),
              told: { ...told, guidance: constant(judgedAt, [rows.count]) },
            };
      const { lowest, highest } = parametrization(description);
      return {
        t: between(rows.uniform(streams.judgedTimes), judged.from, Math.min(judged.to, highest), lowest),
        z: drawSource(description.source, rows, model.sampleShape, {
          noise: streams.judgedNoise,
          source: streams.judgedSource,
        }),
        real: (x, t) => real.ask(x, t, real.told),
        fake: (x, t) => askFake(x, t, { labels, conditions }),
        strength: schedule.strength,
      };
    },
  };
}

/** Uniform numbers of (0, 1) as times from `from`, or from the earliest at which a network may be asked, to `to`. */
function between(uniform: Tensor, from: number, to: number, earliest: number): Tensor {
  const start = Math.max(from, earliest);
  return add(mul(uniform, to - start), start);
}
