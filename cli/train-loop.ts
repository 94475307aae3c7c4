import cliProgress from 'cli-progress';
import { DivergenceError } from '../src/errors.js';
import type { Training } from '../trainers/runs.js';
import { printTables, profileTable } from './print.js';
import type { RunFolder } from './run-folder.js';
import type { DeviceFlags } from './session.js';

/** What every command that trains takes. */
export interface TrainingFlags extends DeviceFlags, Record<string, unknown> {
  arch?: string;
  data?: string;
  config?: string;
  resume?: string;
  logEvery?: number;
  saveEvery?: number;
  profile?: boolean;
  printConfig?: boolean;
}

export interface LoopOptions {
  /** The command's name, for the line that says how to go on. */
  command: string;
  steps: number;
  /** Called after a checkpoint, to draw samples. */
  onSave: () => Promise<void>;
}

/** Seconds that one batch of steps should take: long enough not to stall the device, short enough to be watched. */
const windowSeconds = 0.5;

/**
 * Runs a trainer to its end, from the folder's checkpoint if `--resume` says so, with progress, metrics and checkpoints.
 * Ctrl-C saves and leaves. Returns whether it came to the end.
 */
export async function trainLoop(
  run: Training,
  folder: RunFolder,
  flags: TrainingFlags,
  { command, steps, onSave }: LoopOptions,
): Promise<boolean> {
  const { trainer, trained } = run;
  const state = flags.resume ? await folder.load() : null;
  if (state) trainer.restore(state);
  console.log(
    `${state ? `going on at step ${state.step}` : 'training'} in ${folder.path}: ${trained} parameters, ${trainer.dispatches} kernels a step on ${trainer.device.profile.description}`,
  );
  if (flags.profile) printTables([{ heading: 'One step by kernel', table: profileTable(await trainer.profileStep()) }]);
  const logEvery = flags.logEvery ?? 10;
  const saveEverySeconds = flags.saveEvery ?? 60;
  let interrupted = false;
  const interrupt = () => {
    if (interrupted) process.exit(130);
    interrupted = true;
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  const progress = new Progress(steps, trainer.stepsDone);
  const started = performance.now();
  let lastSave = started;
  let saved = trainer.stepsDone;
  let count = 1;
  try {
    while (trainer.stepsDone < steps && !interrupted) {
      const start = performance.now();
      const metrics = await trainer.advance(count);
      const seconds = (performance.now() - start) / 1000;
      count = Math.max(1, Math.min(64, Math.round((metrics.length * windowSeconds) / seconds)));
      folder.log(metrics.filter(({ step }) => step % logEvery === 0 || step === steps));
      progress.update(trainer.stepsDone, metrics.at(-1)!.loss);
      if (performance.now() - lastSave > saveEverySeconds * 1000) {
        await folder.save(run);
        saved = trainer.stepsDone;
        await onSave();
        lastSave = performance.now();
      }
    }
    await folder.save(run);
  } catch (error) {
    if (!(error instanceof DivergenceError)) throw error;
    const last = saved
      ? `the last good checkpoint is step ${saved} in ${folder.path}`
      : 'no checkpoint had been saved yet';
    throw new DivergenceError(`${error.message}; ${last}. Lower the learning rate or raise the batch`);
  } finally {
    progress.stop();
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  }
  if (interrupted)
    console.log(`saved at step ${trainer.stepsDone}; go on with: semiflow ${command} --resume ${folder.path}`);
  else console.log(`trained to step ${steps} in ${duration((performance.now() - started) / 1000)}`);
  return !interrupted;
}

/** A bar on a terminal, a plain line every ten seconds elsewhere. */
class Progress {
  private readonly bar: cliProgress.SingleBar | null;
  private readonly started = performance.now();
  private lastLine = 0;

  constructor(
    private readonly total: number,
    private readonly first: number,
  ) {
    this.bar = process.stderr.isTTY
      ? new cliProgress.SingleBar({
          format: '{bar} {value}/{total} steps  loss {loss}  {rate} steps/s  {left} left',
          hideCursor: true,
        })
      : null;
    this.bar?.start(total, first, { loss: '-', rate: '-', left: '-' });
  }

  update(step: number, loss: number): void {
    const seconds = (performance.now() - this.started) / 1000;
    const rate = (step - this.first) / seconds;
    const values = { loss: loss.toPrecision(4), rate: rate.toPrecision(3), left: duration((this.total - step) / rate) };
    if (this.bar) this.bar.update(step, values);
    else if (seconds - this.lastLine > 10 || step === this.total) {
      this.lastLine = seconds;
      console.log(`step ${step}/${this.total}  loss ${values.loss}  ${values.rate} steps/s  ${values.left} left`);
    }
  }

  stop(): void {
    this.bar?.stop();
  }
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
