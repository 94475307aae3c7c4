import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compile } from '../src/autodiff/compile.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork, studentOf } from '../src/flow/network.js';
import { drawSamples } from '../src/flow/sampling.js';
import { Ahead } from '../src/gpu/ahead.js';
import { Device } from '../src/gpu/device.js';
import { alone } from '../src/gpu/group.js';
import { sum } from '../src/ops/broadcast.js';
import { add, exp } from '../src/ops/pointwise.js';
import { tensor } from '../src/tensor/tensor.js';
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

describe('while kernels compile', () => {
  let device: Device;
  beforeAll(async () => {
    device = await openNullDevice({ family: 'plain' });
  });
  afterAll(() => device.dispose());
  const x = tensor([1, 2, 3, 4]);
  const outputs = { a: exp(x), b: exp(add(x, 1)), sum: sum(exp(x)), c: exp(exp(x)) };

  it('each counts once, in order, to the last', async () => {
    const seen: number[][] = [];
    const program = await compile(device, { outputs, onProgress: (ready, total) => seen.push([ready, total]) });
    const total = new Set(program.dispatches.map(({ pipeline }) => pipeline)).size;
    expect(seen).toEqual(Array.from({ length: total }, (_, i) => [i + 1, total]));
    expect(total).toBeGreaterThan(2);
    program.dispose();
  });
  it('an abort is heard between two of them, and nothing is kept', async () => {
    const before = device.memory;
    const stop = new AbortController();
    let heard = 0;
    const onProgress = (ready: number) => {
      heard = ready;
      if (ready === 2) stop.abort();
    };
    await expect(compile(device, { outputs, onProgress, signal: stop.signal })).rejects.toThrow(/abort/i);
    expect(heard).toBe(2);
    expect(device.memory).toEqual(before);
  });
  it.each([true, false])('slowly, other devices compile some of them and each counts once: %s', async (able) => {
    const [asked, seen]: [string[], number[][]] = [[], []];
    const opened: Device[] = [];
    const open = async () => {
      if (!able) throw new Error('there is no memory');
      opened.push(await openNullDevice({ family: 'plain' }));
      return opened.at(-1)!.gpu;
    };
    class Counted extends Ahead {
      override compile(which: number, source: string, bindings: number) {
        asked.push(source);
        return super.compile(which, source, bindings);
      }
    }
    const slowly = async <T>(result: Promise<T>): Promise<T> => {
      await new Promise((done) => setTimeout(done, 100));
      return result;
    };
    const { gpu, profile } = await openNullDevice({ family: 'plain' });
    const ahead = new Counted(2, open, (result) => result);
    const slow = new Device(gpu, { ...profile, software: true }, 'checked', undefined, slowly, alone, undefined, ahead);
    const program = await compile(slow, { outputs, onProgress: (ready, total) => seen.push([ready, total]) });
    const total = new Set(program.dispatches.map(({ pipeline }) => pipeline)).size;
    expect(seen).toEqual(Array.from({ length: total }, (_, i) => [i + 1, total]));
    expect(new Set(asked).size).toBe(asked.length);
    expect(asked.length).toBeGreaterThan(1);
    expect(opened.length).toBe(able ? 2 : 0);
    program.dispose();
    slow.dispose();
    if (able) await Promise.all(opened.map((device) => device.gpu.lost));
  });
});
