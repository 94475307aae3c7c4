import * as z from 'zod';
import { clipOf, clipOptions, defineScheduler, levelAt, option } from './scheduler.js';
import { skippedTimesteps, skippingOptions } from './skipping.js';

/** Half the spread of data that the boundary scalings take. */
const sigmaData = 0.5;

/** The shares of the state and of the data in what a timestep means: in f32, as networks were distilled with. */
function scalings(time: number): { skip: number; out: number } {
  const f32 = Math.fround;
  const squared = f32(f32(f32(time) ** 2) + sigmaData ** 2);
  return { skip: f32(sigmaData ** 2 / squared), out: f32(f32(time) / f32(Math.sqrt(squared))) };
}

/** Latent consistency (Luo et al., 2023): to the data by the boundary scalings, and back to the next timestep by fresh noise. */
export const lcmScheduler = defineScheduler({
  className: 'LCMScheduler',
  options: z.object({
    ...skippingOptions,
    ...clipOptions(false),
    timestep_scaling: option(z.number().positive(), 10),
  }),
  plan: (options, { bars, prediction, steps, start }) => {
    const times = skippedTimesteps(bars.length, options.original_inference_steps, steps);
    const planned = times.map((timestep, i) => {
      const { skip, out } = scalings(timestep * options.timestep_scaling);
      const last = i === times.length - 1;
      const after = last ? { signal: 1, noise: 0 } : levelAt(bars[times[i + 1]]);
      return {
        timestep,
        ...levelAt(bars[timestep]),
        next: { data: after.signal * out, x: after.signal * skip, ...(!last && { fresh: after.noise }) },
      };
    });
    return { steps: planned.slice(start), initial: 1, ...clipOf(options), prediction, straight: false };
  },
});
