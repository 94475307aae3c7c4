import { called } from './called.js';
import type { DeviceFlags } from './session.js';
import { shipped } from './shipped.js';
import { train } from './train.js';

/** A recipe short enough for software Vulkan; the full one is the default of `semiflow train`. */
const steps = '3000';

/** `semiflow demo`: distils the shipped checkerboard teacher and says what came of it. */
export async function demo(flags: DeviceFlags & { out: string }): Promise<void> {
  const folder = await train({
    ...flags,
    teacher: shipped('rf-checkerboard.safetensors'),
    data: 'checkerboard',
    steps,
    // The demo is made anew each time, in the place of the last one and of nothing else.
    disposable: true,
  });
  if (folder)
    console.log(
      `\nA flow map goes from noise to data in one jump, or in any number of hops: \`${called} train --help\` shows the knobs.`,
    );
}
