/** A training in the page: a 2-D teacher into a flow map, with knobs that can be turned on the way. */
import {
  distil,
  distillationDefaults,
  drawSamplesBy,
  equalSteps,
  loadNetwork,
  methodRecipe,
  methods,
  namedDataset,
  blobSource,
  Runner,
  streamSafetensors,
  UserError,
  type Device,
  type Network,
  type StepMetrics,
  type Training,
} from '../../index.js';
import { openWeights } from '../../src/checkpoint/weights.js';
import { equalEulerSteps, rmse, type SolverError } from '../../src/metrics/flow-map.js';
import { Turns } from '../../src/flow/turns.js';
import type { DistillationConfig } from '../../trainers/config.js';
import { objectives } from '../../trainers/objectives/index.js';
import type { DistilMenu, DistilNews, Families, Knobs } from '../protocol.js';
import { pointsShown, type Models } from './models.js';

/** Euler steps that are measured at first; more are, by doubling, once the student is better. */
const eulerSteps = [1, 2, 4, 8, 16];
const mostEulerSteps = 128;
/** Steps of Heun's method that stand for the teacher's true flow. */
const fineSteps = 32;
/** Milliseconds between losses that are told, and between looks at the student. */
const [tellEvery, lookEvery] = [120, 700];
const teacherName = { family: 'checkerboard', member: 'teacher' } as const;

/** The way from noise to data that a student is measured by. */
interface Measure {
  noise: Float32Array;
  truth: Float32Array;
  /** The error of the teacher's Euler steps. */
  euler: SolverError[];
  /** Adds a row for that many steps. */
  add(steps: number): Promise<void>;
}

export class Distillation {
  private training: Training<Network> | null = null;
  private paused = false;
  private measure: Promise<Measure> | null = null;
  private readonly turns = new Turns();

  constructor(
    private readonly device: Device,
    private readonly models: Models,
  ) {}

  /** What there is to choose from. */
  menu(): DistilMenu {
    return {
      methods: Object.entries(methods).map(([name, { summary }]) => ({ name, summary })),
      objectives: objectives().map(({ name, summary }) => ({ name, summary })),
      knobs: this.knobs('fmap'),
    };
  }

  /** The knobs as a method has them. */
  knobs(method: string): Knobs {
    const recipe = methodRecipe(method, distillationDefaults([2], 'velocity'), true);
    const { lambda, epsilon, optimizer, batch, seed } = recipe;
    return { method, lambda, epsilon, rate: optimizer.rate, steps: 3000, batch, seed };
  }

  /**
   * A new training in place of the one before.
   * @param file a flow map to go on from, as the command line writes them
   * @throws UserError where recipe, file and teacher do not fit together
   */
  begin(knobs: Knobs, file: Blob | null): Promise<void> {
    return this.turns.take(async () => {
      const start = file ? await loadNetwork(await openWeights(blobSource(file))) : undefined;
      if (start && start.description.role !== 'flow-map')
        throw new UserError('this is a teacher: give a flow map of the same network to go on from');
      const training = await this.made(knobs, start);
      this.training?.dispose();
      this.training = training;
    });
  }

  /** The same training by other knobs: weights, averages, moments and steps stay. @throws UserError as `begin` does */
  turn(knobs: Knobs): Promise<void> {
    return this.turns.take(async () => {
      const before = this.current();
      const next = await this.made(knobs);
      try {
        await next.trainer.restore(before.trainer.state());
      } catch (error) {
        next.dispose();
        throw error;
      }
      before.dispose();
      this.training = next;
    });
  }

  /** Ends a run at the next step that it tells. */
  pause(): void {
    this.paused = true;
  }

  /** Trains until it is done or paused. @returns whether it is done */
  run(tell: (news: DistilNews) => void): Promise<boolean> {
    this.paused = false;
    return this.turns.take(async () => {
      const training = this.current();
      const measure = await this.measured(tell);
      await this.look(training, measure, tell);
      let losses: StepMetrics[] = [];
      let [told, looked] = [performance.now(), performance.now()];
      const flush = () => {
        if (losses.length) tell({ losses });
        losses = [];
        told = performance.now();
      };
      for await (const metrics of training) {
        losses.push(metrics);
        if (performance.now() - told < tellEvery && !this.paused) continue;
        flush();
        if (performance.now() - looked > lookEvery) {
          await this.look(training, measure, tell);
          looked = performance.now();
        }
        if (this.paused) break;
      }
      flush();
      await this.look(training, measure, tell);
      return training.finished;
    });
  }

  /** The student as a file that every other front reads. */
  file(): Promise<Blob> {
    return this.turns.take(async () => {
      const { tensors, metadata } = this.current().file();
      const parts: BlobPart[] = [];
      for await (const part of streamSafetensors(tensors, metadata)) parts.push(part as BlobPart);
      return new Blob(parts);
    });
  }

  /** The student of now among the networks that every part can choose. */
  async share(): Promise<Families> {
    const student = await loadNetwork(await openWeights(blobSource(await this.file(), 'the student')));
    const teacher = await this.models.network(teacherName.family, teacherName.member);
    this.models.add(
      'distilled',
      'distilled here',
      new Map([
        ['flow map', student],
        ['teacher', teacher],
      ]),
    );
    return this.models.families;
  }

  private current(): Training<Network> {
    if (!this.training) throw new UserError('nothing has been trained yet: start first');
    return this.training;
  }

  private async made(knobs: Knobs, start?: Network): Promise<Training<Network>> {
    const teacher = await this.models.network(teacherName.family, teacherName.member);
    const { method, lambda, epsilon, rate, steps, batch, seed } = knobs;
    const base = methodRecipe(method, distillationDefaults([2], 'velocity'), true);
    const recipe: DistillationConfig = { ...base, lambda, epsilon, steps, batch, seed };
    const { device } = this;
    const subject = { device, teacher, data: namedDataset('checkerboard'), start };
    return distil(subject, { ...recipe, optimizer: { ...base.optimizer, rate } });
  }

  /** The teacher's true flow from one noise, and how near Euler steps come to it. */
  private measured(tell: (news: DistilNews) => void): Promise<Measure> {
    this.measure ??= (async () => {
      tell({ text: 'Following the teacher in fine steps, to measure by…' });
      const teacher = await this.models.network(teacherName.family, teacherName.member);
      const count = pointsShown(this.device);
      const runner = new Runner(this.device, teacher, count);
      const drawn = (steps: number, name: 'heun' | 'euler') =>
        drawSamplesBy(runner, { count, seed: 0, steps, sampler: { name } });
      const { noise, x: truth } = await drawn(fineSteps, 'heun');
      const euler: SolverError[] = [];
      const add = async (steps: number) => {
        euler.push({ steps, error: rmse((await drawn(steps, 'euler')).x, truth, 2) });
      };
      for (const steps of eulerSteps) await add(steps);
      return { noise, truth, euler, add };
    })();
    this.measure.catch(() => (this.measure = null));
    return this.measure;
  }

  /** Where one jump of the student of now leads. */
  private async look(
    training: Training<Network>,
    { noise, truth, euler, add }: Measure,
    tell: (news: DistilNews) => void,
  ): Promise<void> {
    const count = noise.length / 2;
    const runner = new Runner(this.device, await training.now(), count);
    try {
      const [t, s] = [new Float32Array(count).fill(1), new Float32Array(count)];
      const x = await runner.follow({ x: noise, t, s }, equalSteps(1), { name: 'jump' });
      const error = rmse(x, truth, 2);
      for (let last = euler[euler.length - 1]; error < last.error && last.steps < mostEulerSteps;) {
        await add(2 * last.steps);
        last = euler[euler.length - 1];
      }
      tell({ look: { step: training.step, x, noise, truth, error, worth: equalEulerSteps(error, euler) } });
    } finally {
      runner.dispose();
    }
  }
}
