import * as z from 'zod';
import type { Combination } from './schedule.js';
import { defineScheduler, fixed, option, spacingOptions } from './scheduler.js';
import { interpolated, karrasSigmas, sigmasOf, timestepOf, withFiniteEnd } from './sigmas.js';
import { roundHalfEven, timesteps, trailing } from './spacing.js';

/** DPM-Solver++ with the data of up to three steps (Lu et al., 2022). */
export const dpmSolverScheduler = defineScheduler({
  className: 'DPMSolverMultistepScheduler',
  options: z.object({
    ...spacingOptions('linspace'),
    algorithm_type: fixed('dpmsolver++'),
    solver_order: option(z.union([z.literal(1), z.literal(2), z.literal(3)]), 2),
    solver_type: option(z.enum(['midpoint', 'heun', 'bh1', 'bh2', 'logrho']), 'midpoint'),
    lower_order_final: option(z.boolean(), true),
    euler_at_final: option(z.boolean(), false),
    use_karras_sigmas: option(z.boolean(), false),
    use_exponential_sigmas: fixed(false),
    use_beta_sigmas: fixed(false),
    use_lu_lambdas: fixed(false),
    thresholding: fixed(false),
    final_sigmas_type: option(z.enum(['zero', 'sigma_min']), 'zero'),
    lambda_min_clipped: z.number().nullish(),
    beta_schedule: z.string().nullish(),
  }),
  plan: (options, { bars: given, prediction, steps, start }) => {
    const { timestep_spacing: spacing, steps_offset: offset, solver_order: order } = options;
    const bars = withFiniteEnd(given);
    const table = sigmasOf(bars);
    // What has more noise than that is never asked about.
    const cut = options.lambda_min_clipped ?? -Infinity;
    const levels = table.length - table.filter((sigma) => -Math.log(sigma) < cut).length;
    const spaced = (): number[] => {
      if (spacing === 'trailing') return trailing(levels, table.length / steps);
      // One more than is wanted, whose last is the end.
      return timesteps({ spacing, levels, steps: steps + 1, offset }).slice(0, -1);
    };
    const karras = options.use_karras_sigmas ? karrasSigmas(table[table.length - 1], table[0], steps) : null;
    // Under a cosine law diffusers cuts fractions off.
    const whole = options.beta_schedule === 'squaredcos_cap_v2' ? Math.floor : roundHalfEven;
    const times = karras?.map((sigma) => whole(timestepOf(sigma, table))) ?? spaced();
    const end = options.final_sigmas_type === 'zero' ? 0 : table[0];
    const sigmas = [...(karras ?? times.map((time) => interpolated(table, time))), end];
    const lambda = (i: number) => -Math.log(sigmas[i]);
    const count = times.length;
    const short = options.lower_order_final && count < 15;

    const next = (i: number): Combination => {
      const known = i - start;
      const last = i === count - 1 && (options.euler_at_final || short || end === 0);
      const used = Math.min(order, known + 1, last ? 1 : i === count - 2 && short ? 2 : 3);
      const [signal, from] = [1 / Math.hypot(sigmas[i + 1], 1), 1 / Math.hypot(sigmas[i], 1)];
      const h = lambda(i + 1) - lambda(i);
      const fall = Math.expm1(-h);
      const x = (sigmas[i + 1] * signal) / (sigmas[i] * from);
      if (used === 1) return { x, data: -signal * fall };
      const near = (lambda(i) - lambda(i - 1)) / h;
      if (used === 2) {
        const bend = options.solver_type === 'heun' ? signal * (fall / h + 1) : -0.5 * signal * fall;
        return { x, data: -signal * fall + bend / near, 'data-1': -bend / near };
      }
      const far = (lambda(i - 1) - lambda(i - 2)) / h;
      const [first, second] = [signal * (fall / h + 1), -signal * ((fall + h) / h ** 2 - 0.5)];
      // Differences of the data: d0 of the newest two, d1 of those before.
      const d0 = first * (1 + near / (near + far)) + second / (near + far);
      const d1 = -(first * near + second) / (near + far);
      return {
        x,
        data: -signal * fall + d0 / near,
        'data-1': -d0 / near + d1 / far,
        'data-2': -d1 / far,
      };
    };
    const planned = times.map((timestep, i) => {
      const signal = 1 / Math.hypot(sigmas[i], 1);
      return { timestep, signal, noise: sigmas[i] * signal, next: i < start ? {} : next(i) };
    });
    return { steps: planned.slice(start), initial: 1, prediction, straight: false };
  },
});
