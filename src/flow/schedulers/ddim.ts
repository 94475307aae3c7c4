import * as z from 'zod';
import { clipOf, clipOptions, defineScheduler, levelAt, option, spacingOptions } from './scheduler.js';
import { timesteps } from './spacing.js';

/** DDIM (Song et al., 2021), η of fresh noise. */
export const ddimScheduler = defineScheduler({
  className: 'DDIMScheduler',
  options: z.object({
    ...spacingOptions('leading'),
    ...clipOptions(true),
    set_alpha_to_one: option(z.boolean(), true),
  }),
  plan: (options, { bars, prediction, steps, start, strength: eta }) => {
    const { timestep_spacing: spacing, steps_offset: offset } = options;
    const levels = bars.length;
    const last = options.set_alpha_to_one ? 1 : bars[0];
    const planned = timesteps({ spacing, levels, steps, offset }).map((timestep) => {
      const [bar, before] = [bars[timestep], bars[timestep - Math.floor(levels / steps)] ?? last];
      const variance = eta ** 2 * ((1 - before) / (1 - bar)) * (1 - bar / before);
      return {
        timestep,
        ...levelAt(bar),
        next: {
          data: Math.sqrt(before),
          noise: Math.sqrt(Math.max(0, 1 - before - variance)),
          ...(eta > 0 && { fresh: Math.sqrt(Math.max(0, variance)) }),
        },
      };
    });
    return { steps: planned.slice(start), initial: 1, ...clipOf(options), prediction, straight: false };
  },
});
