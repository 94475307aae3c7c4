import * as z from 'zod';
import { clipOf, clipOptions, defineScheduler, levelAt, option, spacingOptions } from './scheduler.js';
import { timesteps } from './spacing.js';

const variances = ['fixed_small', 'fixed_small_log', 'fixed_large'] as const;

/** The reverse chain of DDPM (Ho et al., 2020), equations 6 and 7. */
export const ddpmScheduler = defineScheduler({
  className: 'DDPMScheduler',
  options: z.object({
    ...spacingOptions('leading'),
    ...clipOptions(true),
    variance_type: option(
      z.enum(variances, { error: ({ input }) => `${String(input)} is not supported, only ${variances.join(', ')}` }),
      'fixed_small',
    ),
  }),
  plan: (options, { bars, prediction, steps, start }) => {
    const { timestep_spacing: spacing, steps_offset: offset } = options;
    const times = timesteps({ spacing, levels: bars.length, steps, offset });
    const planned = times.map((timestep, i) => {
      const [bar, before] = [bars[timestep], bars[times[i + 1]] ?? 1];
      const beta = 1 - bar / before;
      const small = Math.max(((1 - before) / (1 - bar)) * beta, 1e-20);
      const variance = options.variance_type === 'fixed_large' ? beta : small;
      return {
        timestep,
        ...levelAt(bar),
        next: {
          data: (Math.sqrt(before) * beta) / (1 - bar),
          x: (Math.sqrt(1 - beta) * (1 - before)) / (1 - bar),
          ...(timestep > 0 && { fresh: Math.sqrt(variance) }),
        },
      };
    });
    return { steps: planned.slice(start), initial: 1, ...clipOf(options), prediction, straight: false };
  },
});
