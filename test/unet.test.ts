import { existsSync } from 'node:fs';
import { describe, it } from 'vitest';
import { openDevice } from '../node/device.js';
import type { DeviceOptions } from '../src/gpu/device.js';
import type { Architecture } from '../src/models/index.js';
import { full } from './support/full.js';
import { halfParity, parity } from './support/parity.js';

const unetFixtures: { name: string; architecture: Architecture }[] = [
  {
    name: 'adm-unet-tiny',
    architecture: {
      kind: 'unet',
      imageSize: 16,
      inChannels: 3,
      modelChannels: 32,
      numResBlocks: 1,
      channelMult: [1, 2],
      attentionResolutions: [8],
      numHeads: 2,
      numHeadChannels: -1,
      numHeadsUpsample: -1,
      useScaleShiftNorm: false,
      resblockUpdown: false,
      useNewAttentionOrder: false,
      numClasses: 0,
    },
  },
  {
    name: 'adm-unet-scaleshift',
    architecture: {
      kind: 'unet',
      imageSize: 16,
      inChannels: 1,
      modelChannels: 32,
      numResBlocks: 1,
      channelMult: [1, 2],
      attentionResolutions: [16, 8],
      numHeads: -1,
      numHeadChannels: 16,
      numHeadsUpsample: -1,
      useScaleShiftNorm: true,
      resblockUpdown: true,
      useNewAttentionOrder: true,
      numClasses: 10,
    },
  },
];

const folder = '../shared/fixtures';
const found = existsSync(folder);
if (!found) console.log(`skipped: the recorded UNets are not here (${folder})`);

/** Software Vulkan compiles a UNet's kernels for minutes in each of these, so by default only in the first. */
const ways: Record<string, DeviceOptions> = {
  'plain family, fast toggles': { toggles: 'fast' },
  'plain family, checked toggles': { toggles: 'checked' },
  'plain family without subgroups': { toggles: 'checked', without: ['subgroups'] },
  'tiled family, fast toggles': { toggles: 'fast', family: 'tiled' },
};
const chosen = Object.entries(ways).slice(0, process.env.UNET_FAMILIES === 'all' ? undefined : 1);
if (chosen.length === 1) console.log('UNets in one kernel family only: UNET_FAMILIES=all runs them in every one');

describe.skipIf(!found)('UNets against PyTorch', () => {
  for (const [i, { name, architecture }] of unetFixtures.entries()) {
    it.skipIf(i > 0 && !full).each(chosen)(
      `${name}, %s: output within 2e-5, every gradient within 1e-4`,
      { timeout: 600_000 },
      async (_, options) => {
        const device = await openDevice(options);
        await parity(`${folder}/${name}`, architecture, device);
        device.dispose();
      },
    );
    it.skipIf(!full)(`${name} in f16: output within 2e-2`, { timeout: 600_000 }, async (context) => {
      const device = await openDevice({ toggles: 'fast' });
      if (!device.profile.f16) context.skip('this adapter has no f16');
      await halfParity(`${folder}/${name}`, architecture, device);
      device.dispose();
    });
  }
});
