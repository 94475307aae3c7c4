/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Training, wherever it runs. What is trained is a `Task`; `runs.ts` makes those of flow maps, teachers and classifiers:
 *
 *     const training = await distil({ device, teacher, data }, recipe, { store, signal, onProgress });
 *     for await (const { step, loss } of training) console.log(step, loss);
 *     const student = await training.now();
 *     training.dispose();
 *
 * Steps run while somebody asks for metrics: who stops asking pauses, and may ask again. With a store, the run's files are
 * kept there: metrics, TensorBoard events, checkpoints, and with `resume` a run goes on from its last one to the bit. An
 * aborted signal ends the iteration after a checkpoint; `finished` tells whether all steps are done.
 *
 * Where the device is one of a group, every rank makes the same training and iterates it as far: each computes its part of
 * every batch, all have the same weights, and the first one keeps the files.
 */
import { streamSafetensors } from '../src/checkpoint/safetensors.js';
import { DivergenceError, UserError } from '../src/errors.js';
import { apart, type Store } from '../src/files/store.js';
import type { MemoryNeeds } from '../src/flow/memory.js';
import type { WeightsFile } from '../src/flow/network.js';
import { originMetadata, originOf, type Origin } from '../src/flow/origin.js';
import type { Device } from '../src/gpu/device.js';
import { agree, ofAny, ofFirst } from '../src/gpu/group.js';
import type { KernelTime } from '../src/gpu/profiler.js';
import type { ParameterLayout } from '../src/nn/parameters.js';
import type { Weights } from '../src/nn/weights.js';
import { version } from '../src/version.js';
import { planWithin, type Running, type Savings } from './memory.js';
import { leaves, RunFiles, type RunIdentity } from './run-files.js';
import { Trainer, type StepMetrics, type TrainerPlan, type TrainerState } from './trainer.js';

/** Something to be trained: its learners, and what comes of them. */
export interface Task<Result> extends TrainerPlan, RunIdentity {
  /** The same with options that take less memory, to be tried where there is too little. */
  savings?: Savings;
  /** Name of the file with the weights ready for use. */
  weightsFile: string;
  /** Number of weights that are trained. */
  trained: number;
  /** Arenas that a new run starts from in place of the learners' initial weights and of fresh moments. */
  start?: TrainerState['arenas'];
  /** What has been learned, from the averages of now, which change with the next step. */
  result(average: Trainer['average']): Promise<Result>;
  /** What is saved of it. */
  file(average: Trainer['average']): WeightsFile;
}

/** What happens while one waits. */
export type Progress =
  | { phase: 'sampling'; samples: number; steps: number }
  /** What a step takes, before anything of it is allocated. */
  | { phase: 'planned'; kernels: number; bytes: number; lowerBound: number; needs: MemoryNeeds }
  | { phase: 'compiling'; ready: number; of: number }
  /** The rate is that of the last seconds, without the first window, in which drivers may still compile. */
  | { phase: 'training'; step: number; steps: number; stepsPerSecond: number; metrics: StepMetrics }
  | { phase: 'saving'; step: number }
  /** What is done before and beside that, such as `planning a step`. */
  | { phase: 'preparing'; what: string }
  | { phase: 'note'; text: string };

/** How a training runs, and where its files go. */
export interface TrainOptions extends Running {
  /** Where the run keeps its files; without it nothing is kept. */
  store?: Store;
  /** Whether to go on with the run that the store holds. */
  resume?: boolean;
  /** Files of the caller that belong to the run from the start, such as its configuration. */
  files?: Readonly<Record<string, string>>;
  /** Names of files that will be written later: where one is there already, a new run is refused at once. */
  names?: readonly string[];
  /** A run that the next disposable one may replace. */
  disposable?: boolean;
  /** Ends the training at the next step, after a checkpoint; before the first step `train` throws its reason. */
  signal?: AbortSignal;
  /** Hears what happens while one waits. */
  onProgress?: (progress: Progress) => void;
  /** Steps between logged metrics, 10 by default. */
  logEvery?: number;
  /** Seconds between checkpoints, 60 by default. */
  saveEvery?: number;
  /**
   * What gradients travel in between ranks: f16 takes half the bytes of f32, the default, and comes to another rounding. As
   * with `accumulate`, a run may go on with the other one.
   */
  exchange?: TrainerPlan['exchange'];
}

/**
 * Makes a task ready to be trained.
 * @throws UserError where its weights, its store or its device do not do
 */
export async function train<Result>(
  device: Device,
  task: Task<Result>,
  options: TrainOptions = {},
): Promise<Training<Result>> {
  const { resume = false, files: given = {}, names = [], disposable, onProgress = () => {} } = options;
  const { group } = device;
  const { logEvery = 10, saveEvery = 60 } = options;
  if (!Number.isInteger(logEvery) || logEvery < 1) throw new UserError('logEvery is a whole number from 1', 'logEvery');
  if (!(saveEvery >= 0)) throw new UserError('saveEvery is a number of seconds from 0', 'saveEvery');
  if (resume && !options.store) throw new UserError('a run can only be resumed from a store', 'resume');
  const preparing = (what: string) => onProgress({ phase: 'preparing', what });
  preparing('checking the weights');
  for (const { name, layout, initial } of task.learners) await checkWeights(layout, initial, name);
  const onNote = (text: string) => onProgress({ phase: 'note', text });
  // Before the first rank writes anything, the others have seen what is there.
  const store = options.store && group.rank ? await apart(options.store) : options.store;
  await agree(group, sameOnAllRanks(task, options));
  const files = !store
    ? null
    : resume
      ? await RunFiles.open(store, task.kind, { onNote })
      : await RunFiles.create(store, task, {
          names: [...names, ...Object.keys(given), task.weightsFile],
          disposable,
          onNote,
        });
  try {
    const saved = resume && files ? await files.resume(task) : null;
    const state = saved ?? (task.start && { step: 0, arenas: task.start });
    if (files) for (const [name, text] of Object.entries(given)) await files.write(name, text);
    preparing('planning a step');
    const planned = planWithin(device, task, options, task.savings);
    const { kernels, bytes, lowerBound, needs } = planned;
    onProgress({ phase: 'planned', kernels, bytes, lowerBound, needs });
    const compiling = (ready: number, of: number) => onProgress({ phase: 'compiling', ready, of });
    const plan = { ...task, accumulate: options.accumulate, exchange: options.exchange };
    const trainer = await Trainer.create(device, plan, { onProgress: compiling, signal: options.signal }, planned);
    try {
      const dropped = state && (await trainer.restore(state));
      if (dropped) onNote(dropped);
      await agree(group, { 'checkpoint, by its step': String(trainer.stepsDone) });
    } catch (error) {
      trainer.dispose();
      throw error;
    }
    const before = saved && files ? (await files.metrics()).at(-1)?.seconds : 0;
    return new Training(trainer, task, files, { ...options, onProgress, logEvery, saveEvery }, before);
  } catch (error) {
    if (!resume) await files?.remove();
    throw error;
  }
}

/** What ranks must agree on: all that decides what is learned, and in how many parts. */
function sameOnAllRanks(
  { kind, recipe, inputs, precision }: Task<unknown>,
  { accumulate = 1, exchange = 'f32', resume = false }: TrainOptions,
): Record<string, string> {
  const settings = [...leaves(recipe)].map(([path, value]) => [path, String(value)]);
  return {
    version: version,
    kind,
    ...inputs,
    ...Object.fromEntries(settings),
    precision,
    accumulate: String(accumulate),
    exchange,
    resume: String(resume),
  };
}

/** Seconds that one window of steps should take: long enough not to stall the device, short enough to be watched. */
const windowSeconds = 0.5;
/** Seconds over which the rate of steps is taken. */
const rateSeconds = 10;

/** How a training tells of itself and saves, with what was left out. */
export type Settings = Required<Pick<TrainOptions, 'onProgress' | 'logEvery' | 'saveEvery'>> &
  Pick<TrainOptions, 'signal'>;

/** A training on its way. */
export class Training<Result> implements AsyncIterable<StepMetrics> {
  /** Metrics of steps that ran and that nobody has seen yet. */
  private readonly unseen: StepMetrics[] = [];
  /** Windows of late, without the first one, in which drivers may still compile. */
  private readonly recent: { steps: number; seconds: number }[] = [];
  private measured = false;
  private window = 1;
  private lastSave = performance.now();
  /** Step of the last checkpoint, 0 before the first. */
  saved: number;

  constructor(
    readonly trainer: Trainer,
    private readonly task: Task<Result>,
    /** The run's files; null without a store. */
    readonly files: RunFiles | null,
    private readonly settings: Settings,
    /** Seconds that steps took so far, those before the run was resumed too. */
    private seconds = 0,
  ) {
    this.saved = trainer.stepsDone;
  }

  /** Steps done. */
  get step(): number {
    return this.trainer.stepsDone;
  }

  /** Steps of the whole run. */
  get steps(): number {
    return this.task.steps;
  }

  /** Number of weights that are trained. */
  get trained(): number {
    return this.task.trained;
  }

  get finished(): boolean {
    return this.step >= this.steps;
  }

  /**
   * The metrics of every step from now on.
   * @throws DivergenceError with the step where the loss or a gradient is no number; the last checkpoint stays as it is
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<StepMetrics, void, undefined> {
    for (;;) {
      for (let next = this.unseen.shift(); next; next = this.unseen.shift()) yield next;
      if (this.finished || (await ofAny(this.group, this.settings.signal?.aborted ?? false))) break;
      await this.advance();
    }
    if (this.files && this.saved !== this.step) await this.save();
  }

  /** What has been learned so far, with averaged weights. */
  now(): Promise<Result> {
    return this.task.result(this.average);
  }

  /** What is saved of it: tensors and metadata for `streamSafetensors`, to be written before the next step. */
  file(): WeightsFile {
    const { tensors, metadata } = this.task.file(this.average);
    return { tensors, metadata: { ...metadata, ...originMetadata(this.origin) } };
  }

  /** How what has been learned came to be. */
  get origin(): Origin {
    return originOf(this.task, this.step);
  }

  /** Writes a checkpoint. @throws UserError without a store, or where it cannot be written */
  async save(): Promise<void> {
    if (!this.files) throw new UserError('this training has no store to save to', 'store');
    this.settings.onProgress({ phase: 'saving', step: this.step });
    const { tensors, metadata } = this.file();
    const state = await this.trainer.wholeState();
    // The others go on to the next step, where they wait.
    if (!this.group.rank) await this.files.save(state, this.task.weightsFile, streamSafetensors(tensors, metadata));
    this.saved = this.step;
    this.lastSave = performance.now();
  }

  /** One step with the time of each kernel. It counts as a step and reports nothing else. */
  profileStep(): Promise<KernelTime[]> {
    return this.trainer.profileStep();
  }

  /** Gives its memory on the device back. */
  dispose(): void {
    this.trainer.dispose();
  }

  /** The same as `dispose`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  private readonly average: Trainer['average'] = (learner, name) => this.trainer.average(learner, name);

  /** The ranks that make this training together. */
  private get group() {
    return this.trainer.device.group;
  }

  private async advance(): Promise<void> {
    const { logEvery, saveEvery, onProgress } = this.settings;
    this.window = await ofFirst(this.group, this.window);
    const start = performance.now();
    const metrics = await this.trainer.advance(this.window).catch((error: Error) => {
      throw error instanceof DivergenceError ? this.diverged(error) : error;
    });
    const seconds = (performance.now() - start) / 1000;
    this.seconds += seconds;
    this.window = Math.max(1, Math.min(64, Math.round((metrics.length * windowSeconds) / seconds)));
    const stepsPerSecond = this.measured ? this.rate(metrics.length, seconds) : metrics.length / seconds;
    const pace = { stepsPerSecond, seconds: this.seconds };
    const logged = metrics.filter(({ step }) => step % logEvery === 0 || step === this.steps);
    await this.files?.log(
      logged.map((line): StepMetrics => ({ ...line, ...this.trainer.scheduleOf(line.step), ...line, ...pace })),
    );
    this.unseen.push(...metrics);
    if (this.measured || this.finished)
      onProgress({ phase: 'training', step: this.step, steps: this.steps, stepsPerSecond, metrics: metrics.at(-1)! });
    this.measured = true;
    const due = await ofFirst(this.group, performance.now() - this.lastSave > saveEvery * 1000);
    if (this.files && due) await this.save();
  }

  /** Steps a second over the last windows. */
  private rate(steps: number, seconds: number): number {
    this.recent.push({ steps, seconds });
    const total = () => this.recent.reduce((sum, window) => sum + window.seconds, 0);
    while (this.recent.length > 1 && total() - this.recent[0].seconds > rateSeconds) this.recent.shift();
    return this.recent.reduce((sum, window) => sum + window.steps, 0) / total();
  }

  private diverged({ message, step }: DivergenceError): DivergenceError {
    const kept = this.saved
      ? `the last good checkpoint is step ${this.saved} in ${this.files?.name}`
      : 'no checkpoint had been saved yet';
    return new DivergenceError(`${message}; ${kept}. Lower the learning rate or raise the batch`, step);
  }
}

/**
 * Refuses weights that are no numbers before anything is computed with them.
 * @param whose such as `the teacher`
 * @throws UserError naming the tensor
 */
export async function checkWeights({ parameters }: ParameterLayout, weights: Weights, whose: string): Promise<void> {
  for (const { name } of parameters) {
    const values = await weights.read(name);
    let i = 0;
    while (i < values.length && Number.isFinite(values[i])) i++;
    if (i === values.length) continue;
    const wrong = values[i];
    throw new UserError(`${whose}: the tensor "${name}" holds ${wrong}: its weights are damaged, use another file`);
  }
}
