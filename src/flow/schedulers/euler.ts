import * as z from 'zod';
import type { Combination, Schedule } from './schedule.js';
import { defineScheduler, fixed, option, spacingOptions, type ScheduleRequest } from './scheduler.js';
import { interpolated, karrasSigmas, sigmasOf, timestepOf, withFiniteEnd } from './sigmas.js';
import { timesteps, type Spacing } from './spacing.js';

/** Where a sampler over σ asks the network: falling σ with the end behind them, and their timesteps. */
interface Ladder {
  readonly sigmas: readonly number[];
  readonly times: readonly number[];
}

const options = {
  ...spacingOptions('linspace'),
  interpolation_type: option(z.enum(['linear', 'log_linear']), 'linear'),
  use_karras_sigmas: option(z.boolean(), false),
  use_exponential_sigmas: fixed(false),
  use_beta_sigmas: fixed(false),
  final_sigmas_type: option(z.enum(['zero', 'sigma_min']), 'zero'),
  sigma_min: z.number().positive().nullish(),
  sigma_max: z.number().positive().nullish(),
};

/**
 * Steps in x = x0 + σ ε, whose network sees x / √(σ² + 1).
 * @param next from one σ to the next
 */
function planned(
  { sigmas, times }: Ladder,
  spacing: Spacing,
  { prediction, start }: ScheduleRequest,
  next: (from: number, to: number) => Combination,
): Schedule {
  const most = Math.max(...sigmas);
  return {
    steps: times
      .map((timestep, i) => ({ timestep, signal: 1, noise: sigmas[i], next: next(sigmas[i], sigmas[i + 1]) }))
      .slice(start),
    // Of schedules that start below the most noise, the state keeps the data's variance as well.
    initial: spacing === 'leading' ? Math.hypot(most, 1) : most,
    prediction,
    straight: false,
  };
}

/** Euler's method in σ (Karras et al., 2022). */
export const eulerScheduler = defineScheduler({
  className: 'EulerDiscreteScheduler',
  options: z.object(options),
  plan: (options, request) => {
    const { timestep_spacing: spacing, steps_offset: offset } = options;
    const { steps } = request;
    const table = sigmasOf(withFiniteEnd(request.bars));
    const given = timesteps({ spacing, levels: table.length, steps, offset, fractional: true });
    const [least, most] = [table[0], table[table.length - 1]];
    const logarithmic = options.interpolation_type === 'log_linear';
    const ratio = Math.log(least / most) / steps;
    // By logarithms there is one σ more than steps, the least.
    const equal = logarithmic
      ? Array.from({ length: steps + 1 }, (_, i) => most * Math.exp(i * ratio))
      : given.map((time) => interpolated(table, time));
    const ladder = (): Ladder => {
      if (!options.use_karras_sigmas) return { sigmas: equal.slice(0, given.length), times: given };
      const [high, low] = [options.sigma_max ?? equal[0], options.sigma_min ?? equal[equal.length - 1]];
      const sigmas = karrasSigmas(high, low, steps);
      return { sigmas, times: sigmas.map((sigma) => timestepOf(sigma, table)) };
    };
    const { sigmas, times } = ladder();
    // By logarithms alone no step goes beyond the least σ.
    const reaches = options.final_sigmas_type === 'zero' && (options.use_karras_sigmas || !logarithmic);
    const end = reaches ? 0 : least;
    return planned({ sigmas: [...sigmas, end], times }, spacing, request, (from, to) => ({
      x: to / from,
      data: 1 - to / from,
    }));
  },
});

/** Euler steps to a lower σ and back up by fresh noise: the reverse SDE. */
export const eulerAncestralScheduler = defineScheduler({
  className: 'EulerAncestralDiscreteScheduler',
  options: z.object(spacingOptions('linspace')),
  plan: ({ timestep_spacing: spacing, steps_offset: offset }, request) => {
    const { steps } = request;
    const table = sigmasOf(withFiniteEnd(request.bars));
    const times = timesteps({ spacing, levels: table.length, steps, offset, fractional: true });
    const sigmas = [...times.map((time) => interpolated(table, time)), 0];
    return planned({ sigmas, times }, spacing, request, (from, to) => {
      const fresh = Math.sqrt(Math.max(0, to ** 2 * (1 - (to / from) ** 2)));
      const down = to ** 2 / from;
      return { x: down / from, data: 1 - down / from, fresh };
    });
  },
});
