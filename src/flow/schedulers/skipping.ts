import * as z from 'zod';
import { UserError } from '../../errors.js';
import { option } from './scheduler.js';

/** Options of samplers for consistency-distilled networks: the steps of the solver that they were distilled with. */
export const skippingOptions = {
  original_inference_steps: option(z.number().int().positive(), 50),
};

/**
 * Timesteps out of those that a network was distilled at: every `levels / original`-th one, of which the wanted number is
 * taken from the last on, as evenly as whole skips allow (Luo et al., LCM, 2023).
 * @throws UserError where there are fewer of them than steps
 */
export function skippedTimesteps(levels: number, original: number, steps: number): number[] {
  if (original > levels)
    throw new UserError(`original_inference_steps ${original} are more than the ${levels} timesteps of training`);
  if (steps > original)
    throw new UserError(
      `${steps} steps, and the network was distilled at ${original} timesteps: ask for fewer`,
      'steps',
    );
  const distance = Math.floor(levels / original);
  return Array.from({ length: steps }, (_, i) => (original - Math.floor(i * (original / steps))) * distance - 1);
}
