import * as z from 'zod';
import { defineScheduler, fixed, levelAt } from './scheduler.js';
import { skippedTimesteps, skippingOptions } from './skipping.js';

/** Trajectory consistency (Zheng et al., 2024): to a timestep s = (1 - γ) t' without noise, and up to t' by fresh noise. */
export const tcdScheduler = defineScheduler({
  className: 'TCDScheduler',
  options: z.object({ ...skippingOptions, thresholding: fixed(false) }),
  plan: (options, { bars, prediction, steps, start, strength: gamma }) => {
    const times = skippedTimesteps(bars.length, options.original_inference_steps, steps);
    const planned = times.map((timestep, i) => {
      const last = i === times.length - 1;
      const after = times[i + 1] ?? 0;
      const reached = levelAt(bars[Math.floor((1 - gamma) * after)]);
      // What is left of the signal on the way back up.
      const kept = gamma > 0 && !last ? Math.sqrt(bars[after]) / reached.signal : 1;
      return {
        timestep,
        ...levelAt(bars[timestep]),
        next: {
          data: kept * reached.signal,
          noise: kept * reached.noise,
          ...(gamma > 0 && !last && { fresh: Math.sqrt(Math.max(0, 1 - kept ** 2)) }),
        },
      };
    });
    return { steps: planned.slice(start), initial: 1, prediction, straight: false };
  },
});
