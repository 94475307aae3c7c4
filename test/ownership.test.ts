import { create, globals } from 'webgpu';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { compile } from '../src/autodiff/compile.js';
import { evaluate } from '../src/autodiff/eager.js';
import { gradients } from '../src/autodiff/gradients.js';
import { SemiflowError } from '../src/errors.js';
import { classifierSchema } from '../src/models/classifier.js';
import { createClassifier } from '../src/features/classifier-file.js';
import { Extractor } from '../src/features/extractor.js';
import { parseDescription } from '../src/flow/description.js';
import { evaluateFlowMap } from '../trainers/evaluation/flow-map.js';
import { createNetwork, studentOf, type Network } from '../src/flow/network.js';
import { Runner } from '../src/flow/runner.js';
import { drawSamples } from '../src/flow/sampling.js';
import type { Device } from '../src/gpu/device.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { sum } from '../src/ops/broadcast.js';
import { matmul } from '../src/ops/matmul.js';
import { assign } from '../src/ops/optimizer.js';
import { add, mul } from '../src/ops/pointwise.js';
import { fromStorage, tensor } from '../src/tensor/tensor.js';
import { classificationDefaults, distillationDefaults, lambdaOf, teacherDefaults } from '../trainers/config.js';
import { distil, trainClassifier, trainTeacher } from '../trainers/runs.js';
import { changed } from './support/weights.js';

const description = parseDescription(
  {
    architecture: { kind: 'mlp', dim: 2, width: 8, depth: 1, activation: 'silu', time: 'features' },
    time: 'noise-at-1',
    prediction: 'velocity',
  },
  'test',
);
const points = { shape: [2], count: 64, values: new Float32Array(128).fill(0.5), range: [-1, 1] as const };
const times = (count: number, value: number) => new Float32Array(count).fill(value);

describe('memory of a device', () => {
  let device: Device;
  let teacher: Network;
  let student: Network;
  beforeAll(async () => {
    device = await openDevice();
    teacher = createNetwork(description, 5);
    student = studentOf(teacher);
  });
  afterAll(() => device.dispose());

  const classifier = createClassifier(
    classifierSchema.parse({ kind: 'cnn', imageShape: [1, 4, 4], channels: [4], features: 5, classes: 3 }),
    3,
  );
  const pictures = {
    shape: [1, 4, 4],
    count: 8,
    values: new Uint8Array(128).fill(7),
    range: [0, 1] as const,
    labels: new Uint32Array(8),
  };
  const few = { steps: 2, batch: 8 };
  const uses: Record<string, { times: number; use: (i: number) => Promise<void> }> = {
    evaluations: {
      times: 20,
      use: async () => {
        const data = async (count: number) => ({ x: times(2 * count, 0.1) });
        await evaluateFlowMap(device, teacher, student, { samples: 4, seed: 1, end: 0, data });
      },
    },
    samplings: {
      times: 100,
      use: async (i) => {
        const [network, name] =
          i % 2 ? [teacher, i % 9 ? ('euler' as const) : ('dopri5' as const)] : [student, 'jump' as const];
        await drawSamples(device, network, { count: 5 + (i % 4), batch: 7, seed: i, steps: 1, sampler: { name } });
      },
    },
    distillations: {
      times: 20,
      use: async (i) => {
        const recipe = { ...distillationDefaults([2], 'velocity'), ...few, lambda: lambdaOf({ lmd: 1 }) };
        const lora = { ...recipe.student, loraRank: 2 };
        const { trainer } = await distil(
          { device, teacher, data: points },
          i % 2 ? recipe : { ...recipe, student: lora },
        );
        await trainer.advance(2);
        await trainer.state();
        trainer.dispose();
      },
    },
    'trainings of a teacher': {
      times: 5,
      use: async () => {
        const { trainer } = await trainTeacher({ device, teacher, data: points }, { ...teacherDefaults([2]), ...few });
        await trainer.advance(2);
        trainer.dispose();
      },
    },
    'classifiers and what they see': {
      times: 5,
      use: async () => {
        const { trainer } = await trainClassifier(
          { device, classifier, data: pictures },
          { ...classificationDefaults, ...few },
        );
        await trainer.advance(2);
        trainer.dispose();
        const extractor = await Extractor.create(device, classifier, [1, 4, 4], [0, 1]);
        await extractor.see(new Float32Array(16 * 3));
        extractor.dispose();
      },
    },
    'graphs evaluated once': {
      times: 20,
      use: async (i) => {
        const w = tensor(new Float32Array(i + 1).fill(2));
        await evaluate(device, gradients(sum(mul(w, w)), [w])[0]);
      },
    },
    'programs that cannot be': {
      times: 5,
      use: async () => {
        const storage = new TensorStorage('other', 'f32', 4);
        storage.dispose();
        const outputs = { possible: mul(tensor([1, 2]), 2), not: add(fromStorage(storage), tensor([1, 2, 3, 4])) };
        await expect(evaluate(device, outputs)).rejects.toThrow(/storage other was disposed/);
      },
    },
    'jobs that fail half-way': {
      times: 3,
      use: async () => {
        const endless = changed(teacher, () => NaN);
        const options = { count: 3, seed: 0, steps: 1, sampler: { name: 'dopri5' as const } };
        await expect(drawSamples(device, endless, options)).rejects.toThrow(/not finite/);
      },
    },
  };
  it.each(Object.keys(uses))('is the same after %s as before', { timeout: 300_000 }, async (name) => {
    const { times: count, use } = uses[name];
    const before = device.memory;
    for (let i = 0; i < count; i++) await use(i);
    expect(device.memory).toEqual(before);
    expect(before).toEqual({ buffers: 0, bytes: 0 });
  });

  it('counts what is held, and a second disposal changes nothing', async () => {
    const storage = new TensorStorage('state', 'f32', 1000);
    device.write(storage, Float32Array.of(1));
    expect(device.memory).toEqual({ buffers: 1, bytes: 4000 });
    const program = await compile(device, { effects: [assign(storage, mul(fromStorage(storage), 2))] });
    const held = device.memory.buffers;
    program.run();
    const read = device.read(storage);
    expect(device.memory.buffers).toBe(held + 1);
    expect((await read)[0]).toBe(2);
    expect(device.memory.buffers).toBe(held);
    for (const thing of [program, storage, program, storage]) thing.dispose();
    expect(device.memory).toEqual({ buffers: 0, bytes: 0 });
  });

  it('is given back at the end of a block, and by the device as a whole', async () => {
    const other = await openDevice();
    {
      using runner = new Runner(other, student, 4);
      await runner.jump({ x: times(8, 1), t: times(4, 1), s: times(4, 0) });
      expect(other.memory.buffers).toBeGreaterThan(3);
    }
    expect(other.memory.buffers).toBe(0);
    other.write(new TensorStorage('left behind', 'u8', 5), Uint8Array.of(1));
    other.dispose();
    expect(other.memory).toEqual({ buffers: 0, bytes: 0 });
  });

  it('cannot be used any more: whatever was disposed says so in one line', async () => {
    const storage = new TensorStorage('state', 'f32', 4);
    device.write(storage, Float32Array.of(1));
    const program = await compile(device, { outputs: { y: mul(fromStorage(storage), 2) } });
    const runner = new Runner(device, student, 4);
    const { trainer } = await trainTeacher({ device, teacher, data: points }, { ...teacherDefaults([2]), ...few });
    const extractor = await Extractor.create(device, classifier, [1, 4, 4], [0, 1]);
    for (const thing of [storage, program, runner, trainer, extractor]) thing.dispose();
    const batch = { x: times(8, 1), t: times(4, 1), s: times(4, 0) };
    const attempts: (() => unknown)[] = [
      () => device.write(storage, Float32Array.of(1)),
      () => device.read(storage),
      () => evaluate(device, mul(fromStorage(storage), 2)),
      () => program.run(),
      () => program.read('y'),
      () => program.profile(),
      () => runner.jump(batch),
      () => runner.velocity(batch),
      () => runner.integrate(batch, 2, 'euler'),
      () => trainer.advance(1),
      () => trainer.state(),
      () => trainer.average('teacher', 'export'),
      () => trainer.profileStep(),
      () => extractor.see(new Float32Array(16)),
    ];
    for (const attempt of attempts)
      await expect((async () => attempt())(), String(attempt)).rejects.toThrow(/^.* was disposed and .*$/);
    expect(device.memory.buffers).toBe(0);
  });
});

describe('two devices in one process', () => {
  it('evaluate the same graph, each for itself, also when one is disposed', async () => {
    const [first, second] = [await openDevice(), await openDevice({ family: 'tiled', toggles: 'fast' })];
    const w = tensor([1, 2, 3, 4], [2, 2]);
    const [slope] = gradients(sum(mul(matmul(w, w), w)), [w]);
    const expected = await evaluate(first, slope);
    expect(await evaluate(second, slope)).toEqual(expected);
    first.dispose();
    expect(await evaluate(second, slope)).toEqual(expected);
    await expect(evaluate(first, slope)).rejects.toThrow(/this device was disposed/);
    second.dispose();
  });

  it('do not share a storage: its values live on the one that used it first', async () => {
    const [first, second] = [await openDevice(), await openDevice()];
    const storage = new TensorStorage('state', 'f32', 3, Float32Array.of(1, 2, 3));
    first.write(storage, Float32Array.of(9), 2);
    for (const attempt of [
      async () => second.write(storage, Float32Array.of(1)),
      () => second.read(storage),
      () => evaluate(second, mul(fromStorage(storage), 2)),
    ])
      await expect(attempt()).rejects.toThrow(/^storage state lies on another device/);
    expect(second.memory.buffers).toBe(0);
    expect([...(await first.read(storage))]).toEqual([1, 2, 9]);
    for (const device of [first, second]) device.dispose();
  });
});

describe('errors of a device', () => {
  // Dawn's null backend computes nothing, but has 512 MiB and refuses more.
  let kept: GPU;
  const open = (onFailure?: (message: string) => void) => {
    Object.assign(globalThis, globals);
    kept ??= create(['backend=null']);
    return openDevice({ source: { request: () => kept.requestAdapter(), names: async () => [], mend: '' }, onFailure });
  };
  const rejection = (promise: Promise<unknown>) =>
    promise.then(
      () => expect.unreachable(),
      (error: unknown) => error as SemiflowError,
    );
  const large = (megabytes: number) => new TensorStorage('large', 'f32', megabytes * 2 ** 18);

  it('of memory reach whoever asked for it, and leave the device usable', async () => {
    const failures: string[] = [];
    const device = await open((message) => failures.push(message));
    const storages = Array.from({ length: 6 }, () => large(100));
    const total = storages.map((storage) => sum(fromStorage(storage))).reduce((a, b) => add(a, b));
    const error = await rejection(evaluate(device, total));
    expect(error).toBeInstanceOf(SemiflowError);
    expect(error.code).toBe('device');
    expect(error.message).toMatch(
      /^GPU: the device has no memory for storage large of 100 MiB; 500 MiB .* smaller batch/,
    );
    const read = await rejection(device.read(storages[5]));
    expect(read.message).toMatch(/no memory for storage large/);
    const runner = new Runner(device, studentOf(createNetwork(description, 5)), 2 ** 19);
    const batch = { x: times(2, 1), t: times(1, 1), s: times(1, 0) };
    expect((await rejection(runner.jump(batch))).message).toMatch(/no memory/);
    storages[0].dispose();
    await runner.jump(batch);
    runner.dispose();
    await evaluate(device, sum(fromStorage(storages[5])));
    for (const storage of storages) storage.dispose();
    expect(device.memory.buffers).toBe(0);
    expect(failures).toEqual([]);
    device.dispose();
  });

  it('name the limit where one buffer would be too large', async () => {
    const device = await openDevice({ limits: { maxBufferSize: 2 ** 28, maxStorageBufferBindingSize: 2 ** 27 } });
    const error = await rejection(device.read(large(257)));
    expect(error.code).toBe('device');
    expect(error.message).toMatch(/storage large needs 257 MiB, but this adapter allows 256 MiB in one buffer/);
    expect(device.memory.buffers).toBe(0);
    device.dispose();
  });

  it('of a lost device reach all who wait and all who come', async () => {
    const messages: string[] = [];
    const device = await openDevice({ onFailure: (message) => messages.push(message) });
    const storage = new TensorStorage('state', 'f32', 4);
    const program = await compile(device, { effects: [assign(storage, add(fromStorage(storage), 1))] });
    const waiting = [device.read(storage), device.finished()].map(rejection);
    device.gpu.destroy();
    const errors = await Promise.all(waiting);
    await device.gpu.lost;
    errors.push(await rejection(device.read(storage)), await rejection(evaluate(device, tensor([1]))));
    errors.push(await rejection((async () => program.run())()), await rejection(device.finished()));
    for (const error of errors) {
      expect(error).toBeInstanceOf(SemiflowError);
      expect(error.code).toBe('device');
    }
    expect(errors.at(-1)!.message).toMatch(/the device was lost .*: open it anew/);
    expect(messages).toHaveLength(1);
  });

  it('of opening one say what there is', async () => {
    const error = await rejection(openDevice({ adapter: 'no such adapter' }));
    expect(error.code).toBe('input');
    expect(error.field).toBe('adapter');
    const limit = await rejection(openDevice({ limits: { maxStorageBuffersPerShaderStage: 1e9 } }));
    expect(limit.code).toBe('device');
    expect(limit.message).toMatch(/opens no device/);
  });
});
