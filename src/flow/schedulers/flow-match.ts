import * as z from 'zod';
import { defineScheduler, fixed, option } from './scheduler.js';
import { karrasSigmas } from './sigmas.js';
import { linspace } from './spacing.js';

/** Euler's method on the straight path, with more of the steps in noise by `shift` (Esser et al., 2024). */
export const flowMatchScheduler = defineScheduler({
  className: 'FlowMatchEulerDiscreteScheduler',
  options: z.object({
    num_train_timesteps: option(z.number().int().min(2), 1000),
    shift: option(z.number().positive(), 1),
    use_dynamic_shifting: fixed(false),
    shift_terminal: z.number().positive().max(1).nullish(),
    invert_sigmas: fixed(false),
    use_karras_sigmas: option(z.boolean(), false),
    use_exponential_sigmas: fixed(false),
    use_beta_sigmas: fixed(false),
    stochastic_sampling: option(z.boolean(), false),
  }),
  plan: (options, { prediction, steps, start }) => {
    const { num_train_timesteps: levels, shift, shift_terminal: terminal } = options;
    const shifted = (sigma: number) => (shift * sigma) / (1 + (shift - 1) * sigma);
    // The least noise of training is shifted, and so are the steps that end there.
    const equal = linspace(levels, shifted(1 / levels) * levels, steps).map((time) => shifted(time / levels));
    const share = terminal ? (1 - equal[equal.length - 1]) / (1 - terminal) : 1;
    const stretched = equal.map((sigma) => 1 - (1 - sigma) / share);
    const sigmas = options.use_karras_sigmas
      ? karrasSigmas(stretched[0], stretched[stretched.length - 1], steps)
      : stretched;
    const planned = sigmas.map((sigma, i) => {
      const to = sigmas[i + 1] ?? 0;
      return {
        timestep: sigma * levels,
        signal: 1 - sigma,
        noise: sigma,
        next: options.stochastic_sampling ? { data: 1 - to, fresh: to } : { x: 1, output: to - sigma },
      };
    });
    return { steps: planned.slice(start), initial: 1, prediction, straight: true };
  },
});
