import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { DeviceFlags } from './session.js';
import { shipped } from './shipped.js';
import { train } from './train.js';

/** A recipe short enough for software Vulkan; the full one is the default of `semiflow train`. */
const steps = '3000';

/** `semiflow demo`: distils the shipped checkerboard teacher and says what came of it. */
export async function demo(flags: DeviceFlags & { out: string }): Promise<void> {
  // The demo is made anew each time: nobody keeps work in its folder.
  if (existsSync(join(flags.out, 'config.yaml'))) rmSync(flags.out, { recursive: true });
  const folder = await train({
    ...flags,
    teacher: shipped('rf-checkerboard.safetensors'),
    data: 'checkerboard',
    steps,
  });
  if (folder)
    console.log(
      '\nA flow map goes from noise to data in one jump, or in any number of hops: `semiflow train --help` shows the knobs.',
    );
}
