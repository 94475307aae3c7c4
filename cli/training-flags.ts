import cliProgress from 'cli-progress';
import { stringify } from 'yaml';
import type * as z from 'zod';
import { UserError } from '../src/errors.js';
import { ofFirst } from '../src/gpu/group.js';
import { memoryLine } from '../src/flow/memory.js';
import type { RunFiles } from '../trainers/run-files.js';
import type { Progress, Training, TrainOptions } from '../trainers/train.js';
import { readTextFile } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import { check, parseRecipe, type Locate, type RecipeFile } from './config.js';
import { printTables, profileTable } from './print.js';
import type { DeviceFlags } from './session.js';
import { called } from './called.js';
import { begin, detail, done, say } from './status.js';

/** What every command that trains takes. */
export interface TrainingFlags extends DeviceFlags, Record<string, unknown> {
  arch?: string;
  data?: string;
  config?: string;
  resume?: string;
  logEvery?: number;
  saveEvery?: number;
  accumulate?: number;
  exchange?: 'f32' | 'f16';
  profile?: boolean;
  printConfig?: boolean;
  /** A port, or whichever is free. */
  watch?: number | true;
}

/** The recipe and where things come from, for readers and for `--resume`. */
export const configFile = 'config.yaml';

/** Files that the commands add to a run, beside what training writes. */
const reportFiles = ['flow-map.png', 'teacher.png', 'samples.png', 'evaluation.json', 'report.html', 'README.md'];

/**
 * Ctrl-C or a termination: the first ends a training after a checkpoint, or what comes before it within seconds; the second
 * ends all at once.
 */
class Interruption extends AbortController {
  /** Whether there is a training that saves. */
  training = false;

  constructor() {
    super();
    for (const name of signals) process.on(name, this.interrupt);
  }

  /** No longer listens. */
  release(): void {
    for (const name of signals) process.off(name, this.interrupt);
  }

  private readonly interrupt = () => {
    if (this.signal.aborted) process.exit(130);
    this.abort();
    // As if whatever does not listen had thrown it.
    const giveUp = () => {
      throw this.signal.reason;
    };
    if (!this.training) setTimeout(giveUp, patience).unref();
  };
}
/** Milliseconds for whatever makes a training ready to give up and clear its place. */
const patience = 5000;
const signals = ['SIGINT', 'SIGTERM'] as const;

/** A command's training as its flags describe it. It listens for signals from now on, until it was followed to its end. */
export function trainOptions(
  flags: TrainingFlags,
  folder: string,
  config: object,
): TrainOptions & { interruption: Interruption } {
  const interruption = new Interruption();
  return {
    store: folderStore(folder),
    resume: flags.resume !== undefined,
    files: { [configFile]: stringify(config) },
    names: reportFiles,
    interruption,
    signal: interruption.signal,
    onProgress: progressPrinter(),
    logEvery: flags.logEvery,
    saveEvery: flags.saveEvery,
    accumulate: flags.accumulate,
    exchange: flags.exchange,
  };
}

/** Seconds between pictures, at least; and how much longer than it takes to draw them, where a network is large. */
const drawSeconds = 59;
const drawShare = 20;

/**
 * Runs a training to its end, or until it is interrupted: Ctrl-C saves and leaves, twice leaves at once.
 * @param command that goes on with it
 * @param onSave called after a checkpoint on the way, to draw samples: no more often than each minute, and for a twentieth of
 * the time at most
 * @returns whether it came to the end
 */
export async function followTraining<Result>(
  training: Training<Result>,
  flags: TrainingFlags,
  interruption: Interruption,
  { command, onSave = async () => {} }: { command: string; onSave?: () => Promise<void> },
): Promise<boolean> {
  interruption.training = true;
  const { files, trainer, trained, steps } = training;
  const first = training.step;
  const place = files!.name;
  done();
  console.log(
    `${first ? `going on at step ${first}` : 'training'} in ${place}: ${trained} parameters, ${trainer.dispatches} kernels a step on ${trainer.device.profile.description}`,
  );
  const started = performance.now();
  try {
    if (flags.profile)
      printTables([{ heading: 'One step by kernel', table: profileTable(await training.profileStep()) }]);
    let [{ saved }, drawn, rest] = [training, started, drawSeconds * 1000];
    if (!training.finished) begin('the first steps');
    for await (const _ of training) {
      // Pictures can cost more than the steps between two checkpoints.
      if (training.saved === saved || training.finished) continue;
      if (await ofFirst(trainer.device.group, performance.now() - drawn < rest)) continue;
      const began = performance.now();
      if (bar) bar.update({ left: 'drawing' });
      else begin('drawing samples of now');
      await unlessAborted(onSave, interruption.signal);
      [saved, drawn] = [training.saved, performance.now()];
      rest = Math.max(rest, drawShare * (drawn - began));
    }
  } finally {
    done();
    endProgress();
    interruption.release();
  }
  const { exchange } = trainer;
  if (exchange)
    console.log(
      `${trainer.device.group.size} ranks: a step gave the others ${(exchange.bytes / 1e6).toFixed(2)} MB, and waited ${exchange.milliseconds.toFixed(1)} ms for theirs once its own gradient was there`,
    );
  if (training.finished) console.log(`trained to step ${steps} in ${duration((performance.now() - started) / 1000)}`);
  else console.log(`saved at step ${training.step}; go on with: ${called} ${command} --resume ${place}`);
  return training.finished;
}

/** Does something, which is not waited for once somebody asks for the end. */
function unlessAborted(begin: () => Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const left = () => resolve();
    if (signal.aborted) return left();
    signal.addEventListener('abort', left, { once: true });
    begin()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', left));
  });
}

/**
 * What the configuration of a run says, its recipe checked, and where its keys stand.
 * @throws UserError in one line where it is missing or broken
 */
export async function readConfig<Saved extends { recipe: unknown }>(
  files: RunFiles,
  schema: z.ZodType<Saved['recipe']>,
): Promise<{ saved: Saved; locate: Locate }> {
  const text = await files.text(configFile);
  const name = files.path(configFile);
  if (text === null) throw new UserError(`${name} is missing: put a copy of it back, and the run can go on`);
  const { recipe: tree, made, locate, locateMade } = parseRecipe({ name, text });
  const recipe = check(schema, tree, (path, ofName) => `${name}${locate(path, ofName)}`);
  return { saved: { ...made, recipe } as unknown as Saved, locate: locateMade };
}

/** The recipe that `--config` names, as YAML. */
export async function configOf({ config }: TrainingFlags): Promise<RecipeFile | undefined> {
  return config === undefined ? undefined : { name: config, text: await readTextFile(config) };
}

/**
 * Refuses flags that a resumed run cannot take.
 * @param names of flags as commander gives them
 */
export function refuseBesideResume(flags: Record<string, unknown>, names: readonly string[]): void {
  const kebab = (name: string) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  const given = names.find((name) => flags[name] !== undefined);
  if (given) throw new UserError(`--${kebab(given)} cannot go with --resume: a run goes on as what it is, where it is`);
}

let bar: cliProgress.SingleBar | null = null;

function endProgress(): void {
  bar?.stop();
  bar = null;
}

/** Seconds between two lines of a log: nobody waits for longer without a word. */
const lineSeconds = 3;

/** Says phases as they come; steps are a bar on a terminal, elsewhere a plain line every few seconds. */
function progressPrinter(): (progress: Progress) => void {
  const mebibytes = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
  let last = 0;
  return (progress) => {
    switch (progress.phase) {
      case 'note':
        return say(progress.text);
      case 'preparing':
        return begin(progress.what);
      case 'sampling':
        say(`no --data: drawing ${progress.samples} samples of the teacher in ${progress.steps} steps each`);
        return begin('drawing samples of the teacher');
      case 'planned':
        say(
          `a step is ${progress.kernels} kernels over ${mebibytes(progress.bytes)} MiB of planned memory (at least ${mebibytes(progress.lowerBound)})\nmemory: ${memoryLine(progress.needs)}`,
        );
        return begin('compiling');
      case 'compiling':
        return detail(`${progress.ready} of ${progress.of} kernels`);
      case 'saving':
        return void bar?.update({ left: 'saving' });
      case 'training': {
        const { step, steps, stepsPerSecond, metrics } = progress;
        const values = {
          loss: metrics.loss.toPrecision(4),
          rate: stepsPerSecond.toPrecision(3),
          left: duration((steps - step) / stepsPerSecond),
        };
        if (process.stderr.isTTY) {
          if (!bar) done();
          bar ??= startBar(steps, step);
          return bar.update(step, values);
        }
        if (performance.now() - last > lineSeconds * 1000 || step === steps) {
          last = performance.now();
          say(`step ${step}/${steps}  loss ${values.loss}  ${values.rate} steps/s  ${values.left} left`);
        }
        // Of slow steps something is said on the way.
        begin(`training, ${step} of ${steps} steps done`);
      }
    }
  };
}

function startBar(total: number, first: number): cliProgress.SingleBar {
  const made = new cliProgress.SingleBar({
    format: '{bar} {value}/{total} steps  loss {loss}  {rate} steps/s  {left} left',
    hideCursor: true,
  });
  made.start(total, first, { loss: '-', rate: '-', left: '-' });
  return made;
}

/** 75 → "1m15s". */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole}s`;
  const minutes = Math.floor(whole / 60);
  return minutes < 60
    ? `${minutes}m${String(whole % 60).padStart(2, '0')}s`
    : `${Math.floor(minutes / 60)}h${String(minutes % 60).padStart(2, '0')}m`;
}
