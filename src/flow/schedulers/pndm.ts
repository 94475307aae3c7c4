import * as z from 'zod';
import { UserError } from '../../errors.js';
import type { Combination } from './schedule.js';
import { defineScheduler, levelAt, option, spacingOptions } from './scheduler.js';
import { timesteps } from './spacing.js';

/** Weights of the outputs, the newest first, by how many there were before (Adams-Bashforth). */
const multistep = [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]];

/** Pseudo linear multistep (Liu et al., 2022) as Stable Diffusion ships it: Euler's first step is taken twice, to its average slope. */
export const pndmScheduler = defineScheduler({
  className: 'PNDMScheduler',
  options: z.object({
    ...spacingOptions('leading'),
    set_alpha_to_one: option(z.boolean(), false),
    skip_prk_steps: option(z.boolean(), false).refine((skipped) => skipped, 'false is not supported, only true'),
  }),
  plan: (options, { bars, prediction, steps, start }) => {
    if (prediction !== 'noise' && prediction !== 'v')
      throw new UserError(
        'PNDMScheduler averages what networks say of noise or v, and this one says the data: take ddim',
        'sampler',
      );
    const { timestep_spacing: spacing, steps_offset: offset } = options;
    const levels = bars.length;
    const distance = Math.floor(levels / steps);
    const single = timesteps({ spacing, levels, steps, offset });
    const times = single.length > 1 ? [single[0], single[1], ...single.slice(1)] : single;
    const final = options.set_alpha_to_one ? 1 : bars[0];
    const planned = times.slice(start).map((timestep, count) => {
      // Of the calls so far the second is only for the first step's average.
      const calls = Array.from({ length: count + 1 }, (_, call) => call).filter((call) => count === 1 || call !== 1);
      // The second call is at the end of the first step, which is taken again.
      const [from, to] = count === 1 ? [timestep + distance, timestep] : [timestep, timestep - distance];
      const [bar, before] = [bars[Math.min(from, levels - 1)], bars[to] ?? final];
      const outputs = count === 1 ? [1 / 2, 1 / 2] : multistep[Math.min(calls.length, 4) - 1];
      const slope = -(before - bar) / (bar * Math.sqrt(1 - before) + Math.sqrt(bar * (1 - bar) * before));
      // An average of v is turned into noise at the state that the step starts from.
      const [ofState, ofOutput] = prediction === 'v' ? [Math.sqrt(1 - bar), Math.sqrt(bar)] : [0, 1];
      const state = Math.sqrt(before / bar) + slope * ofState;
      const weights = outputs.map((weight, i) => {
        const back = count - calls[calls.length - 1 - i];
        return [back ? `output-${back}` : 'output', slope * ofOutput * weight];
      });
      return {
        timestep,
        ...levelAt(bars[timestep]),
        next: { [count === 1 ? 'x-1' : 'x']: state, ...Object.fromEntries(weights) } as Combination,
      };
    });
    return { steps: planned, initial: 1, prediction, straight: false };
  },
});
