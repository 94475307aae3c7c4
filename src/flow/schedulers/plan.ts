import { UserError } from '../../errors.js';
import { issueText } from '../../issue.js';
import { alphaBars } from '../noise-schedule.js';
import type { Law } from '../scheduler-config.js';
import { flowMatchScheduler } from './flow-match.js';
import type { Schedule } from './schedule.js';
import type { Scheduler } from './scheduler.js';

/** What is wanted of a scheduler. */
export interface ScheduleOptions {
  readonly steps: number;
  /** The first of the steps that is taken; by default all are. */
  readonly start?: number;
  /** The sampler's option, such as DDIM's η. */
  readonly strength?: number;
}

/**
 * The steps of a scheduler for a network.
 * @param law the network's path and prediction
 * @param config options of diffusers' scheduler_config.json, whatever class it was written for
 * @throws UserError naming the option, or where there cannot be so many steps
 */
export function scheduleOf(
  scheduler: Scheduler,
  { path, prediction }: Law,
  config: Readonly<Record<string, unknown>>,
  { steps, start = 0, strength = 0 }: ScheduleOptions,
): Schedule {
  const straight = scheduler === flowMatchScheduler;
  if (path.kind !== (straight ? 'straight' : 'vp'))
    throw new UserError(
      `${scheduler.className} is for networks of ${straight ? 'the straight path' : 'a variance-preserving path'}, and this one is of a ${path.kind} path`,
      'sampler',
    );
  const bars = path.kind === 'vp' ? alphaBars(path) : new Float64Array(config.num_train_timesteps as number);
  const parsed = scheduler.options.safeParse(config);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new UserError(`${scheduler.className}: ${issue.path.join('.')}: ${issueText(issue)}`);
  }
  const levels = straight ? Infinity : bars.length;
  if (steps > levels)
    throw new UserError(`${steps} steps, and the network was trained at ${levels} timesteps: ask for fewer`, 'steps');
  const schedule = scheduler.plan(parsed.data, { bars, prediction, steps, start, strength });
  const beyond = schedule.steps.find(({ timestep }) => timestep > levels - 1);
  if (beyond)
    throw new UserError(
      `${steps} steps reach the timestep ${beyond.timestep}, and the network was trained at ${levels}: ask for fewer`,
      'steps',
    );
  if (prediction === 'noise' && schedule.steps.some(({ signal }) => signal === 0))
    throw new UserError(
      `${scheduler.className} starts from noise alone, where a network that predicts noise says nothing of the data: leave rescale_betas_zero_snr out, or take euler`,
      'sampler',
    );
  return schedule;
}
