import { appendFileSync, existsSync, mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { stringify } from 'yaml';
import { readSafetensors, writeFileAtomic, writeSafetensors } from '../node/files.js';
import { UserError } from '../src/errors.js';
import { encodeEvent, encodeFileVersion } from '../src/report/tensorboard.js';
import type { Training } from '../trainers/runs.js';
import type { StepMetrics, TrainerState } from '../trainers/trainer.js';

const stateFile = 'state.safetensors';
const metricsFile = 'metrics.jsonl';
const eventsFile = 'events.out.tfevents.semiflow';
const arenas = ['parameters', 'firstMoment', 'secondMoment', 'averages', 'lossScale'] as const;

/** A run's folder: configuration, metrics, checkpoints, pictures, report. */
export class RunFolder {
  private constructor(
    readonly path: string,
    /** Name of the file with the weights ready for use. */
    readonly weightsFile: string,
  ) {}

  /**
   * A new folder with the resolved configuration in it.
   * @throws UserError when it holds a run already or cannot be written
   */
  static async create(path: string, weightsFile: string, config: object): Promise<RunFolder> {
    if (existsSync(join(path, stateFile)) || existsSync(join(path, 'config.yaml'))) {
      throw new UserError(`${path} holds a run already: go on with --resume ${path}, or choose another --out`);
    }
    const folder = new RunFolder(path, weightsFile);
    try {
      makeFolder(path);
      writeFileSync(join(path, metricsFile), '');
      writeFileSync(join(path, eventsFile), encodeFileVersion(Date.now() / 1000));
    } catch (error) {
      throw new UserError(`${path} cannot be written (${(error as NodeJS.ErrnoException).code}): choose another --out`);
    }
    await folder.write('config.yaml', stringify(config));
    return folder;
  }

  /** An existing folder. */
  static open(path: string, weightsFile: string): RunFolder {
    if (!existsSync(join(path, 'config.yaml'))) throw new UserError(`${path} holds no run: it has no config.yaml`);
    return new RunFolder(path, weightsFile);
  }

  file(name: string): string {
    return join(this.path, name);
  }

  write(name: string, content: string | Uint8Array): Promise<void> {
    return writeFileAtomic(this.file(name), content);
  }

  get configText(): string {
    return readFileSync(this.file('config.yaml'), 'utf8');
  }

  /** Appends the metrics of some steps. */
  log(metrics: readonly StepMetrics[]): void {
    const now = Date.now() / 1000;
    appendFileSync(this.file(metricsFile), metrics.map((line) => `${JSON.stringify(line)}\n`).join(''));
    for (const { step, ...values } of metrics) {
      for (const [tag, value] of Object.entries(values)) {
        appendFileSync(this.file(eventsFile), encodeEvent({ wallTime: now, step, tag, value }));
      }
    }
  }

  /** All metrics logged so far. */
  metrics(): StepMetrics[] {
    const lines = readFileSync(this.file(metricsFile), 'utf8').split('\n').filter(Boolean);
    return lines.map((line) => JSON.parse(line) as StepMetrics);
  }

  /** Saves weights for use and all that is needed to go on; each file is whole at every moment. */
  async save(run: Training): Promise<void> {
    const state = await run.trainer.state();
    const tensors = Object.fromEntries(
      arenas.map((name) => [name, { dtype: 'F32' as const, shape: [state[name].length], data: state[name] }]),
    );
    await writeSafetensors(this.file(stateFile), tensors, { step: String(state.step) });
    const { tensors: weights, metadata } = await run.file();
    await writeSafetensors(this.file(this.weightsFile), weights, metadata);
  }

  /** The saved state, or null before the first save; metrics logged after it are dropped, since their steps come again. */
  async load(): Promise<TrainerState | null> {
    if (!existsSync(this.file(stateFile))) {
      this.dropMetricsAfter(0);
      return null;
    }
    const file = await readSafetensors(this.file(stateFile));
    const step = Number(file.metadata.step);
    if (!Number.isInteger(step)) throw new UserError(`${this.file(stateFile)} does not say at which step it was saved`);
    const read = Object.fromEntries(
      await Promise.all(arenas.map(async (name) => [name, await file.readF32(name)] as const)),
    );
    this.dropMetricsAfter(step);
    return { step, ...(read as Record<(typeof arenas)[number], Float32Array>) };
  }

  private dropMetricsAfter(step: number): void {
    const path = this.file(metricsFile);
    if (!existsSync(path) || !statSync(path).size) return;
    const text = readFileSync(path, 'utf8');
    let kept = 0;
    for (const line of text.split('\n')) {
      // A kill may leave half a line at the end.
      if (!line.endsWith('}') || (JSON.parse(line) as StepMetrics).step > step) break;
      kept += Buffer.byteLength(line) + 1;
    }
    truncateSync(path, Math.min(kept, statSync(path).size));
  }
}

/** `mkdirSync`'s own `recursive` never returns where the system refuses a folder with ENOENT, as /proc does. */
function makeFolder(path: string): void {
  if (existsSync(path)) return;
  makeFolder(dirname(path));
  mkdirSync(path);
}
