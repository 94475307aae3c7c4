/** Trainings in the page: a teacher of points, and its flow map with knobs that can be turned on the way. */
import {
  createNetwork,
  distil,
  distillationDefaults,
  drawSamplesBy,
  equalSteps,
  loadNetwork,
  methodRecipe,
  methods,
  namedDataset,
  newDescription,
  blobSource,
  Runner,
  streamSafetensors,
  teacherDefaults,
  trainTeacher,
  UserError,
  type Device,
  type Network,
  type StepMetrics,
  type Training,
} from '../../index.js';
import { openWeights } from '../../src/checkpoint/weights.js';
import { equalEulerSteps, rmse, type SolverError } from '../../src/metrics/flow-map.js';
import { distributions } from '../../src/data/distributions.js';
import { Turns } from '../../src/flow/turns.js';
import type { DistillationConfig } from '../../trainers/config.js';
import { objectives } from '../../trainers/objectives/index.js';
import type { DistilMenu, DistilNews, Families, Knobs, TeacherNews } from '../protocol.js';
import { memberName, pointsShown, type Models } from './models.js';

/** Euler steps that are measured at first; more are, by doubling, once the student is better. */
const eulerSteps = [1, 2, 4, 8, 16];
const mostEulerSteps = 128;
/** Steps of Heun's method that stand for the teacher's true flow. */
const fineSteps = 32;
/** Milliseconds between losses that are told, and between looks at the student. */
const [tellEvery, lookEvery] = [120, 700];
/** The data set whose teacher is shipped, and so what begins. */
const shippedTeacher = 'checkerboard';
/** The family that the teacher of a data set is in. */
const familyOf = (data: string): string => (data === shippedTeacher ? data : `taught-${data}`);
/** Steps of a teacher that is trained here, on a processor and on a GPU: some seconds of either. */
const teacherSteps = { software: 600, hardware: 3000 };
/** Steps in which a teacher on its way is sampled. */
const glanceSteps = 8;

/** The way from noise to data that a student is measured by. */
interface Measure {
  range: readonly [number, number];
  noise: Float32Array;
  truth: Float32Array;
  /** The error of the teacher's Euler steps. */
  euler: SolverError[];
  /** Adds a row for that many steps. */
  add(steps: number): Promise<void>;
  dispose(): void;
}

export class Distillation {
  private training: Training<Network> | null = null;
  /** The data set of the training's teacher. */
  private teacher: string = shippedTeacher;
  private paused = false;
  private enough: AbortController | null = null;
  /** By the data set of the teacher. */
  private readonly measures = new Map<string, Promise<Measure>>();
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
      teachers: [shippedTeacher, ...Object.keys(distributions).filter((name) => name !== shippedTeacher)],
      teacherSteps: this.device.profile.software ? teacherSteps.software : teacherSteps.hardware,
    };
  }

  /** The knobs as a method has them. */
  knobs(method: string): Knobs {
    const recipe = methodRecipe(method, distillationDefaults([2], 'velocity'), true);
    const { lambda, epsilon, optimizer, batch, seed } = recipe;
    return { method, lambda, epsilon, rate: optimizer.rate, steps: 3000, batch, seed };
  }

  /**
   * Trains a teacher of a data set of points; every part can choose it then. What was distilled of the one before ends.
   * @throws UserError where there is no such data set
   */
  teach(name: string, steps: number, tell: (news: TeacherNews) => void): Promise<Families> {
    return this.turns.take(async () => {
      const data = namedDataset(name);
      if (data?.kind !== 'points') throw new UserError(`${name} is no data set of points`);
      const description = newDescription(data);
      const recipe = { ...teacherDefaults(data.shape), steps };
      const enough = (this.enough = new AbortController());
      const subject = { device: this.device, teacher: createNetwork(description, 0), data };
      const training = await trainTeacher(subject, recipe, { signal: enough.signal }).catch((error: unknown) => {
        throw enough.signal.aborted ? new UserError(`the teacher of ${name} has learned nothing yet`) : error;
      });
      try {
        const glance = async () =>
          tell({ samples: { ...(await this.glance(await training.now())), range: data.range } });
        await this.follow(training, tell, glance, () => false);
        await glance();
        const { tensors, metadata } = training.file();
        const network = await loadNetwork(await openWeights(blobSource(await blobOf(tensors, metadata), name)));
        if (this.teacher === name) {
          this.training?.dispose();
          this.training = null;
        }
        (await this.measures.get(name))?.dispose();
        this.measures.delete(name);
        this.models.add(familyOf(name), `${name}, trained here`, new Map([['teacher', network]]));
        return this.models.families;
      } finally {
        this.enough = null;
        training.dispose();
      }
    });
  }

  /** Ends the training of a teacher at the next step. */
  stopTeaching(): void {
    this.enough?.abort();
  }

  /**
   * A new training in place of the one before.
   * @param teacher the data set of its teacher, which was shipped or trained here
   * @param file a flow map to go on from, as the command line writes them
   * @throws UserError where recipe, file and teacher do not fit together
   */
  begin(knobs: Knobs, teacher: string, file: Blob | null): Promise<void> {
    return this.turns.take(async () => {
      const start = file ? await loadNetwork(await openWeights(blobSource(file))) : undefined;
      if (start && start.description.role !== 'flow-map')
        throw new UserError('this is a teacher: give a flow map of the same network to go on from');
      const training = await this.made(knobs, teacher, start);
      this.training?.dispose();
      this.training = training;
      this.teacher = teacher;
    });
  }

  /** The same training by other knobs: weights, averages, moments and steps stay. @throws UserError as `begin` does */
  turn(knobs: Knobs): Promise<void> {
    return this.turns.take(async () => {
      const before = this.current();
      const next = await this.made(knobs, this.teacher);
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
      const look = () => this.look(training, measure, tell);
      await look();
      await this.follow(training, tell, look, () => this.paused);
      await look();
      return training.finished;
    });
  }

  /** Tells of a training's losses, and looks at what it has learned, both now and then, until it ends or is to stop. */
  private async follow(
    training: Training<Network>,
    tell: (news: { losses: readonly StepMetrics[] }) => void,
    look: () => Promise<void>,
    stopped: () => boolean,
  ): Promise<void> {
    let losses: StepMetrics[] = [];
    let [told, looked] = [performance.now(), performance.now()];
    const flush = () => {
      if (losses.length) tell({ losses });
      losses = [];
      told = performance.now();
    };
    for await (const metrics of training) {
      losses.push(metrics);
      if (performance.now() - told < tellEvery && !stopped()) continue;
      flush();
      if (performance.now() - looked > lookEvery) {
        await look();
        looked = performance.now();
      }
      if (stopped()) break;
    }
    flush();
  }

  /** Samples of a teacher as it is now. */
  private async glance(teacher: Network): Promise<{ x: Float32Array; noise: Float32Array }> {
    const count = pointsShown(this.device);
    const runner = new Runner(this.device, teacher, count);
    try {
      return await drawSamplesBy(runner, { count, seed: 0, steps: glanceSteps });
    } finally {
      runner.dispose();
    }
  }

  /** The student as a file that every other front reads. */
  file(): Promise<Blob> {
    return this.turns.take(async () => {
      const { tensors, metadata } = this.current().file();
      return blobOf(tensors, metadata);
    });
  }

  /** The student of now among the networks that every part can choose. */
  async share(): Promise<Families> {
    const student = await loadNetwork(await openWeights(blobSource(await this.file(), 'the student')));
    const teacher = await this.models.network(familyOf(this.teacher), 'teacher');
    this.models.add(
      'distilled',
      'distilled here',
      new Map([
        [memberName(student), student],
        ['teacher', teacher],
      ]),
    );
    return this.models.families;
  }

  private current(): Training<Network> {
    if (!this.training) throw new UserError('nothing has been trained yet: start first');
    return this.training;
  }

  private async made(knobs: Knobs, name: string, start?: Network): Promise<Training<Network>> {
    const teacher = await this.models.network(familyOf(name), 'teacher');
    const { method, lambda, epsilon, rate, steps, batch, seed } = knobs;
    const base = methodRecipe(method, distillationDefaults([2], 'velocity'), true);
    const recipe: DistillationConfig = { ...base, lambda, epsilon, steps, batch, seed };
    const { device } = this;
    const subject = { device, teacher, data: namedDataset(name), start };
    return distil(subject, { ...recipe, optimizer: { ...base.optimizer, rate } });
  }

  /** The teacher's true flow from one noise, and how near Euler steps come to it. */
  private measured(tell: (news: DistilNews) => void): Promise<Measure> {
    const name = this.teacher;
    const known = this.measures.get(name);
    if (known) return known;
    const measure = (async () => {
      tell({ text: 'Following the teacher in fine steps, to measure by…' });
      const { range } = await this.models.family(familyOf(name));
      const teacher = await this.models.network(familyOf(name), 'teacher');
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
      return { range, noise, truth, euler, add, dispose: () => runner.dispose() };
    })();
    this.measures.set(name, measure);
    measure.catch(() => this.measures.delete(name));
    return measure;
  }

  /** Where one jump of the student of now leads. */
  private async look(
    training: Training<Network>,
    { range, noise, truth, euler, add }: Measure,
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
      tell({ look: { step: training.step, x, noise, truth, range, error, worth: equalEulerSteps(error, euler) } });
    } finally {
      runner.dispose();
    }
  }
}

/** Weights as a file that every other front reads. */
async function blobOf(...content: Parameters<typeof streamSafetensors>): Promise<Blob> {
  const parts: BlobPart[] = [];
  for await (const part of streamSafetensors(...content)) parts.push(part as BlobPart);
  return new Blob(parts);
}
