import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork, studentOf } from '../src/flow/network.js';
import { drawSamples } from '../src/flow/sampling.js';
import type { Device } from '../src/gpu/device.js';
import { openNullDevice } from './support/null-device.js';

/** One of each architecture, as small as can be. */
const architectures = {
  mlp: { kind: 'mlp', dim: 2, width: 8, depth: 2, activation: 'silu', time: 'features' },
  sit: {
    kind: 'sit',
    inputSize: 4,
    patchSize: 2,
    inChannels: 3,
    hiddenSize: 16,
    depth: 1,
    numHeads: 2,
    mlpRatio: 2,
    numClasses: 3,
    learnSigma: false,
  },
  unet: {
    kind: 'unet',
    imageSize: 8,
    inChannels: 3,
    modelChannels: 32,
    numResBlocks: 1,
    channelMult: [1, 2],
    attentionResolutions: [4],
    numHeads: 2,
    numHeadChannels: -1,
    numHeadsUpsample: -1,
    useScaleShiftNorm: false,
    resblockUpdown: false,
    useNewAttentionOrder: false,
    numClasses: 0,
  },
};

describe.each(['plain', 'tiled'] as const)('another number of samples compiles nothing: %s', (family) => {
  let device: Device;
  const texts = new Set<string>();
  beforeAll(async () => {
    device = await openNullDevice({ family });
    const { pipeline } = device;
    device.pipeline = (source, label) => {
      texts.add(source);
      return pipeline.call(device, source, label);
    };
  });
  afterAll(() => device.dispose());

  it.each(Object.entries(architectures))('%s', async (name, architecture) => {
    const teacher = createNetwork(parseDescription({ architecture, prediction: 'velocity' }, name), 1);
    for (const [network, sampler] of [
      [teacher, 'heun'],
      [studentOf(teacher), 'jump'],
    ] as const) {
      const draw = async (count: number) => {
        texts.clear();
        await drawSamples(device, network, { count, seed: 1, steps: 2, sampler: { name: sampler } });
        return [...texts];
      };
      const known = new Set(await draw(64));
      expect(known.size).toBeGreaterThan(3);
      for (const count of [65, 63, 7]) for (const text of await draw(count)) expect(known).toContain(text);
    }
  });
});
