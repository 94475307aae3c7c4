import { UserError } from '../src/errors.js';
import { endToEnd } from '../src/files/bytes.js';
import { fingerprint } from '../src/files/fingerprint.js';
import { readText, type Files, type Store } from '../src/files/store.js';
import {
  encodeEvent,
  encodeFileVersion,
  encodeHyperparameters,
  encodePicture,
  encodeRestart,
  eventsUntil,
} from '../src/report/tensorboard.js';
import { readAll } from '../src/files/source.js';
import { version } from '../src/version.js';
import { decodeState, encodeState } from './state-file.js';
import type { StepMetrics, TrainerState } from './trainer.js';

/** The mark of a run: a folder without it holds nothing that a run wrote. */
const markFile = 'run.json';
const stateFile = 'state.safetensors';
const metricsFile = 'metrics.jsonl';
const format = 1;

/** What a run is, and what it was made from. */
export interface RunIdentity {
  /** What is trained: `flow-map`, `teacher`, `classifier`. */
  kind: string;
  /** Plain data; of a run that goes on, `steps` alone may be another. */
  recipe: { readonly steps: number };
  /** Fingerprints of what it learns from, by the name of the option that gives it: `teacher`, `data`. */
  inputs: Readonly<Record<string, string>>;
  /** A recipe that was written before some keys were there, with what leaving them out meant. */
  complete?: (recipe: object) => object;
}

/** What `run.json` says. */
export interface RunMark extends Omit<RunIdentity, 'complete'> {
  format: number;
  semiflow: string;
  /** Made anew by whoever made it, such as the demo. */
  disposable?: true;
  /** Everything that the run wrote; nothing else in its place is ever replaced or removed. */
  files: string[];
}

/** The files of a run in a store: its mark, configuration, metrics, checkpoints, pictures, report. */
export class RunFiles {
  private events = '';
  private constructor(
    readonly store: Store,
    private mark: RunMark,
    private readonly onNote: (note: string) => void,
  ) {}

  /**
   * A new run. What a run that never saved a step, or a disposable one, left in the place is removed.
   * @param names what the run is going to write
   * @throws UserError when the place holds a run, or a file of one of these names that no run wrote
   */
  static async create(
    store: Store,
    { kind, recipe, inputs }: RunIdentity,
    { names = [], disposable = false, onNote = () => {} }: RunFilesOptions & { names?: readonly string[] } = {},
  ): Promise<RunFiles> {
    const own = await RunFiles.checkFree(store, names, disposable);
    for (const name of own) await store.remove(name);
    const mark: RunMark = {
      format,
      semiflow: version,
      kind,
      ...(disposable && { disposable }),
      recipe,
      inputs,
      files: [markFile],
    };
    const files = new RunFiles(store, mark, onNote);
    await files.write(metricsFile, '');
    files.events = `events.out.tfevents.${Date.now()}.semiflow`;
    const now = Date.now() / 1000;
    await files.write(files.events, endToEnd([encodeFileVersion(now), encodeHyperparameters(now, leaves(recipe))]));
    return files;
  }

  /**
   * Refuses a place where a new run would destroy something.
   * @returns the files that a run left there which may be removed
   * @throws UserError as `create`
   */
  static async checkFree(store: Store, names: readonly string[] = [], disposable = false): Promise<readonly string[]> {
    const before = await readMark(store);
    const saved = before && (await store.open(stateFile));
    if (saved && !(disposable && before.disposable))
      throw new UserError(`${store.name} holds a run already: resume it, or choose another place`, 'out');
    for (const name of [metricsFile, stateFile, ...names])
      if (!before?.files.includes(name) && (await store.open(name)))
        throw new UserError(`${store.name} holds a ${name} that no run wrote: choose another place`, 'out');
    return before?.files ?? [];
  }

  /** Refuses a place that cannot be written to while nothing is lost by it. @throws UserError as the store does */
  static async checkWritable(store: Store): Promise<void> {
    const name = `${markFile}.try`;
    await store.write(name, '');
    await store.remove(name);
  }

  /**
   * A run that is there already.
   * @throws UserError where there is none, or one of another kind
   */
  static async open(store: Store, kind: string, { onNote = () => {} }: RunFilesOptions = {}): Promise<RunFiles> {
    const mark = await readMark(store);
    if (!mark) {
      const old = (await store.open('config.yaml')) && (await store.open(stateFile));
      throw new UserError(
        old
          ? `${store.name} holds a run of an older semiflow, which this one cannot resume: start a new one`
          : `${store.name} holds no run: it has no ${markFile}`,
      );
    }
    if (mark.kind !== kind)
      throw new UserError(`${store.name} holds the training of a ${mark.kind}, not of a ${kind}: resume it as that`);
    return new RunFiles(store, mark, onNote);
  }

  /** How messages call the place. */
  get name(): string {
    return this.store.name;
  }

  /** How messages call a file. */
  path(name: string): string {
    return `${this.name}/${name}`;
  }

  /**
   * Goes on as `identity`, which may ask for other steps and nothing else.
   * @returns the saved state; null before the first checkpoint
   * @throws UserError naming what differs from what the run was started with, or what is wrong with its state
   */
  async resume({ recipe, inputs, complete = (same) => same }: RunIdentity): Promise<TrainerState | null> {
    const started = leaves(complete(this.mark.recipe));
    for (const [path, now] of leaves(recipe)) {
      const before = started.get(path);
      if (path !== 'steps' && now !== before)
        throw new UserError(
          `${path} is ${now}, but this run was started with ${before}: a run keeps its recipe, its steps alone may change`,
          path,
        );
    }
    for (const [path, before] of started)
      if (!leaves(recipe).has(path))
        throw new UserError(`${path} is missing, but this run was started with ${before}`, path);
    for (const name of new Set([...Object.keys(inputs), ...Object.keys(this.mark.inputs)]))
      if (inputs[name] !== this.mark.inputs[name])
        throw new UserError(
          `the ${name} is not what this run was started with (its content differs): give that, or start a new run`,
          name,
        );
    const state = await this.state();
    const step = state?.step ?? 0;
    if (step > recipe.steps)
      throw new UserError(`${step} steps are done already: ask for at least as many, not ${recipe.steps}`, 'steps');
    if (this.mark.semiflow !== version)
      this.onNote(`the run was started with semiflow ${this.mark.semiflow} and goes on with ${version}`);
    await this.dropMetricsAfter(step);
    await this.dropEventsAfter(step);
    if (recipe.steps !== this.mark.recipe.steps)
      this.onNote(
        `${recipe.steps} steps instead of ${this.mark.recipe.steps}: rates and schedules follow the new number`,
      );
    // As it was written: which run it is must not change.
    this.mark = { ...this.mark, recipe: { ...this.mark.recipe, steps: recipe.steps } };
    await this.writeMark();
    return state;
  }

  /**
   * The last checkpoint; null before the first.
   * @throws UserError where it is damaged, or of another run
   */
  async state(): Promise<TrainerState | null> {
    const source = await this.store.open(stateFile);
    return source && decodeState(source, await this.id());
  }

  /**
   * Replaces a file of the run whole.
   * @throws UserError where it is there and the run did not write it
   */
  async write(name: string, content: Parameters<Store['write']>[1]): Promise<void> {
    await this.own(name);
    await this.store.write(name, content);
  }

  /** A file's text; null where there is none. */
  text(name: string): Promise<string | null> {
    return readText(this.store, name);
  }

  /** Appends the metrics of some steps. They are a log: where they cannot be written the run goes on without. */
  async log(metrics: readonly StepMetrics[]): Promise<void> {
    if (!metrics.length) return;
    const wallTime = Date.now() / 1000;
    const events = metrics.flatMap(({ step, ...values }) =>
      Object.entries(values).map(([tag, value]) => encodeEvent({ wallTime, step, tag, value })),
    );
    await this.append(async () => {
      await this.store.append(metricsFile, metrics.map((line) => `${JSON.stringify(line)}\n`).join(''));
      await this.store.append(this.events, endToEnd(events));
    });
  }

  /** Adds a picture of a step to TensorBoard's events, which are a log as metrics are. */
  async logPicture(step: number, tag: string, png: Uint8Array): Promise<void> {
    await this.append(() => this.store.append(this.events, encodePicture(Date.now() / 1000, step, tag, png)));
  }

  private async append(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      if (!this.silent) this.onNote(`metrics are not logged: ${(error as Error).message.split('\n')[0]}`);
      this.silent = true;
    }
  }
  private silent = false;

  /** All metrics logged so far. */
  async metrics(): Promise<StepMetrics[]> {
    return metricsOf((await this.text(metricsFile)) ?? '').kept;
  }

  /** Saves the weights for use and then all that is needed to go on; each file is whole at every moment. */
  async save(state: TrainerState, weightsFile: string, weights: Parameters<Store['write']>[1]): Promise<void> {
    await this.write(weightsFile, weights);
    await this.write(stateFile, encodeState(state, await this.id()));
  }

  /** Removes all that the run wrote, as after a start that failed. */
  async remove(): Promise<void> {
    for (const name of this.mark.files) await this.store.remove(name);
  }

  /** Which run it is, however many steps it takes. */
  private id(): Promise<string> {
    const { kind, recipe, inputs } = this.mark;
    const keys = [...leaves(recipe)].filter(([path]) => path !== 'steps');
    return fingerprint([JSON.stringify([kind, Object.entries(inputs).sort(), keys.sort()])]);
  }

  private async own(name: string): Promise<void> {
    if (this.mark.files.includes(name)) return;
    if (await this.store.open(name))
      throw new UserError(`${this.name} holds a ${name} that this run did not write: move it away`, 'out');
    this.mark.files.push(name);
    await this.writeMark();
  }

  private async writeMark(): Promise<void> {
    await this.store.write(markFile, `${JSON.stringify(this.mark, null, 2)}\n`);
  }

  private async dropMetricsAfter(step: number): Promise<void> {
    const { kept, damaged } = metricsOf((await this.text(metricsFile)) ?? '', step);
    if (damaged) this.onNote(`${metricsFile}: ${damaged} damaged ${damaged > 1 ? 'lines are' : 'line is'} left out`);
    await this.store.write(metricsFile, kept.map((line) => `${JSON.stringify(line)}\n`).join('')).catch(() => {});
    if (!this.mark.files.includes(metricsFile)) this.mark.files.push(metricsFile);
  }

  /** Cuts the event files to what a checkpoint holds, and starts the one of this resumption. */
  private async dropEventsAfter(step: number): Promise<void> {
    for (const name of this.mark.files.filter((file) => file.includes('.tfevents.'))) {
      const source = await this.store.open(name);
      if (!source) continue;
      const bytes = await readAll(source);
      const kept = eventsUntil(bytes, step);
      if (kept < bytes.length) await this.store.write(name, bytes.subarray(0, kept));
    }
    this.events = `events.out.tfevents.${Date.now()}.semiflow`;
    const now = Date.now() / 1000;
    await this.write(this.events, endToEnd([encodeFileVersion(now), encodeRestart(now, step + 1)]));
  }
}

/** How the files of a run are opened. */
export interface RunFilesOptions {
  disposable?: boolean;
  /** Hears in one line what a user should know though it stops nothing. */
  onNote?: (note: string) => void;
}

/**
 * What a run's folder says of it; null where there is no run.
 * @throws UserError where its mark is damaged or of a newer semiflow
 */
export async function readMark(store: Files): Promise<RunMark | null> {
  const text = await readText(store, markFile);
  if (text === null) return null;
  const broken = new UserError(`${store.name}: its ${markFile} is damaged: put a copy back, or start a new run`);
  let mark: RunMark;
  try {
    mark = JSON.parse(text) as RunMark;
  } catch {
    throw broken;
  }
  const { kind, recipe, inputs, files } = mark ?? {};
  if (typeof mark?.format === 'number' && mark.format > format && typeof mark.semiflow === 'string')
    throw new UserError(`${store.name} holds a run of a newer semiflow (${mark.semiflow}): resume it with that`);
  const isTree = (value: unknown) => typeof value === 'object' && value !== null;
  const named = Array.isArray(files) && files.every((name) => typeof name === 'string' && isInside(name));
  if (mark?.format !== format || typeof kind !== 'string' || !isTree(recipe) || !isTree(inputs) || !named) throw broken;
  return mark;
}

/** Whether a name stays below the place: a mark that someone edited must not reach beyond. */
const isInside = (name: string) => !/^([/\\]|[a-z]:)/i.test(name) && !name.split(/[/\\]/).includes('..');

/** The values of a tree by their paths. */
export function leaves(tree: object, prefix = ''): Map<string, unknown> {
  return new Map(
    Object.entries(tree).flatMap(([key, value]): [string, unknown][] =>
      typeof value === 'object' && value !== null
        ? [...leaves(value as object, `${prefix}${key}.`)]
        : value === undefined
          ? []
          : [[`${prefix}${key}`, value]],
    ),
  );
}

/** The lines of a metrics file up to a step, rising, and how many others could not be read. */
function metricsOf(text: string, until = Infinity): { kept: StepMetrics[]; damaged: number } {
  const kept: StepMetrics[] = [];
  let damaged = 0;
  // A kill may leave half a line at the end, without its newline: nobody needs to hear of it.
  for (const line of text.split('\n').slice(0, -1)) {
    const metrics = parsed(line);
    if (!metrics || metrics.step <= (kept.at(-1)?.step ?? 0)) damaged++;
    else if (metrics.step <= until) kept.push(metrics);
  }
  return { kept, damaged };
}

function parsed(line: string): StepMetrics | null {
  try {
    const metrics = JSON.parse(line) as StepMetrics | null;
    return Number.isSafeInteger(metrics?.step) && typeof metrics!.loss === 'number' ? metrics : null;
  } catch {
    return null;
  }
}
