import { drawSamplesBy, type Runner } from '../../index.js';
import type { SampleRequest, SampleTile } from '../protocol.js';
import type { Models } from './models.js';

/** Runners whose programs are compiled: what they take is then the network's time. */
const warm = new WeakSet<Runner>();

/** The same noise through every member of a family, by each of the schedules. */
export async function sample(
  models: Models,
  { family, seed, label, count, schedules }: SampleRequest,
  tell: (tile: SampleTile) => void,
  signal: AbortSignal,
): Promise<void> {
  const { members } = await models.family(family);
  for (const [schedule, steps] of schedules.entries())
    for (const { name: member } of members) {
      signal.throwIfAborted();
      const runner = await models.runner(family, member);
      const request = { count, seed, label: label ?? undefined };
      if (!warm.has(runner)) await drawSamplesBy(runner, { ...request, steps: 1 });
      warm.add(runner);
      const start = performance.now();
      const { noise, x } = await drawSamplesBy(runner, { ...request, steps });
      tell({ member, schedule, noise, x, milliseconds: performance.now() - start });
    }
}
