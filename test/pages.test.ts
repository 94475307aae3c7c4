import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { encodeSafetensors, openSafetensors } from '../src/checkpoint/safetensors.js';
import { compile } from '../src/autodiff/compile.js';
import { gradients } from '../src/autodiff/gradients.js';
import { evaluate } from '../src/autodiff/eager.js';
import { fingerprint } from '../src/files/fingerprint.js';
import { bytesSource } from '../src/files/source.js';
import { collected, memoryStore } from '../src/files/store.js';
import { parseDescription } from '../src/flow/description.js';
import { deviceBytes, MemoryError } from '../src/flow/memory.js';
import {
  bindNetwork,
  checkpointed,
  createNetwork,
  exportNetwork,
  loadNetwork,
  type Network,
} from '../src/flow/network.js';
import { Runner } from '../src/flow/runner.js';
import { planSampling } from '../src/flow/sampling.js';
import type { Device } from '../src/gpu/device.js';
import { TensorStorage, type DType, type HostArray } from '../src/gpu/storage.js';
import { zeros } from '../src/nn/initializers.js';
import { ParameterLayout } from '../src/nn/parameters.js';
import { sum, sumOfSquares } from '../src/ops/broadcast.js';
import { matmul } from '../src/ops/matmul.js';
import { concat, gather, reshape, slice, transpose } from '../src/ops/movement.js';
import { softmax } from '../src/ops/normalization.js';
import { assign } from '../src/ops/optimizer.js';
import { add, mul, sin, square, sub } from '../src/ops/pointwise.js';
import { normal } from '../src/ops/random.js';
import { random } from '../src/tensor/philox.js';
import type { Shape } from '../src/tensor/shape.js';
import { fromStorage, tensor, type Tensor } from '../src/tensor/tensor.js';
import { distillationDefaults, lambdaOf, teacherDefaults, type DistillationConfig } from '../trainers/config.js';
import { distil, planDistillation, planTeacher, trainTeacher } from '../trainers/runs.js';
import { decodeState, encodeState } from '../trainers/state-file.js';
import { Trainer } from '../trainers/trainer.js';
import { full } from './support/full.js';
import { openNullDevice } from './support/null-device.js';
import { arenaOf, bytesOf, changed, stateOf, valuesOf } from './support/weights.js';

/** Everything in one page, and in as many as a few KiB make. */
let whole: Device;
let paged: Device;
beforeAll(async () => {
  whole = await openDevice({ toggles: 'checked' });
  paged = inPages(whole, 16384);
});
afterAll(() => whole.dispose());

/** The same device, with smaller pages. */
const inPages = (device: Device, bytes: number): Device =>
  Object.create(device, { pageBytes: { value: bytes } }) as Device;

const draw = random(7);
const values = Float32Array.from({ length: 64 }, () => draw.normal());
const data = { shape: [2], count: 32, values, range: [0, 1] as const };
const description = parseDescription(
  {
    architecture: { kind: 'mlp', dim: 2, width: 64, depth: 2, activation: 'silu', time: 'concat' },
    prediction: 'velocity',
  },
  'test',
);
const fresh = changed(createNetwork(description, 1), (value) => value + 0.05 * draw.normal());

describe('the pages of an arena', () => {
  it('tile it, end where parameters do unless one is longer, and are no longer than asked', () => {
    for (let round = 0; round < 200; round++) {
      const sizes = Array.from({ length: 1 + draw.below(9) }, () => 1 + draw.below(draw.below(4) ? 700 : 5000));
      const layout = new ParameterLayout(
        sizes.map((size, i) => ({ name: String(i), shape: [size], initializer: zeros })),
      );
      const most = 128 + draw.below(3000);
      const pages = layout.pages(most);
      expect(pages[0].start).toBe(0);
      expect(pages.at(-1)!.end).toBe(layout.length);
      pages.forEach(({ start, end }, i) => {
        expect(end - start).toBeGreaterThan(0);
        expect(end - start).toBeLessThanOrEqual(Math.floor(most / 128) * 128);
        expect(start % 128).toBe(0);
        if (i) expect(start).toBe(pages[i - 1].end);
        // Whoever is cut would not have fitted a page of its own.
        const cut = sizes.findIndex((size, k) => layout.offsets[k] < start && start < layout.offsets[k] + size);
        if (cut >= 0) expect(Math.ceil(sizes[cut] / 128) * 128).toBeGreaterThan(Math.floor(most / 128) * 128);
      });
    }
  });

  it('hold together what lies in several, in every order of axes', async () => {
    const parameters = [
      { name: 'a', shape: [7, 3, 5, 11], order: [2, 3, 1, 0], initializer: zeros },
      { name: 'b', shape: [100], initializer: zeros },
      { name: 'c', shape: [13, 29], initializer: zeros },
    ];
    const layout = new ParameterLayout(parameters);
    const weights = {
      dtype: 'f32' as const,
      read: async (name: string) => Float32Array.from({ length: 1155 }, (_, i) => i + name.charCodeAt(0)),
    };
    const sized = {
      ...weights,
      read: async (name: string) =>
        (await weights.read(name)).subarray(0, { a: 1155, b: 100, c: 377 }[name as 'a' | 'b' | 'c']),
    };
    const one = bindNetwork({ layout, weights: sized }, 'one', whole.profile);
    const arena = await layout.collect(sized);
    const spans = layout.pages(256);
    expect(spans.length).toBeGreaterThan(5);
    const many = layout.bind(
      spans.map((span) => ({
        ...span,
        storage: new TensorStorage('page', 'f32', span.end - span.start, arena.slice(span.start, span.end), true),
      })),
    );
    for (const { name } of parameters) {
      const { a, b } = await evaluate(whole, { a: one(name), b: many(name) });
      expect(a).toEqual(b);
      expect(one(name).shape).toEqual(many(name).shape);
    }
    expect(await layout.collect(layout.weightsOf(arena))).toEqual(arena);
  });
});

describe('the norm over pages', () => {
  it.each([
    [[128, 384]],
    [[128 * 33, 128 * 70, 128 * 53]],
    [[128 * 257, 128, 128 * 3, 128 * 250]],
    [[65536, 65536, 65536]],
    [Array.from({ length: 20 }, () => 128 * 31)],
  ])('of %j is that of one arena, to the bit', async (sizes) => {
    const total = sizes.reduce((a, b) => a + b);
    const all = tensor(Float32Array.from({ length: total }, (_, i) => Math.sin(i * 1.3) * (1 + (i % 7))));
    let at = 0;
    const parts = sizes.map((size) => slice(all, 0, at, (at += size)));
    const { one, many } = await evaluate(whole, {
      one: sum(square(concat([all], 0))),
      many: sumOfSquares(parts),
    });
    expect(many[0]).toBe(one[0]);
    const exact = Float64Array.from({ length: total }, (_, i) => Math.fround(Math.sin(i * 1.3) * (1 + (i % 7))) ** 2);
    expect(many[0] / exact.reduce((a, b) => a + b) - 1).toBeCloseTo(0, 5);
  });
});

describe('training in pages', () => {
  const defaults = distillationDefaults([2], 'velocity');
  const recipe: DistillationConfig = {
    ...defaults,
    steps: 6,
    batch: 16,
    // One call of the network, so that there is little to compile.
    lambda: lambdaOf({ diagonal: 1 }),
    // At the start a student is its teacher: what it has to learn comes from the data.
    velocity: 'data',
    // Every step is clipped: one norm over all pages decides.
    optimizer: { ...defaults.optimizer, clipNorm: 1e-5, weightDecay: 0.1 },
  };
  const recipes: [string, DistillationConfig][] = [
    ['f32', recipe],
    ...(full ? [['f16', { ...recipe, precision: 'f16' }] as [string, DistillationConfig]] : []),
    ['a low-rank adapter', { ...recipe, student: { ...recipe.student, loraRank: 40 } }],
  ];

  it.for(recipes)(
    'with %s takes the steps of one page, and resumes there and back, to the bit',
    async ([, config], { skip }) => {
      skip(config.precision === 'f16' && !whole.profile.f16, 'this adapter has no f16');
      const runs = await Promise.all([whole, paged].map((device) => distil({ device, teacher: fresh, data }, config)));
      const losses = [];
      for (const { trainer } of runs) losses.push(await trainer.advance(3));
      expect(losses[1]).toEqual(losses[0]);
      expect(losses[0].at(-1)!.gradientNorm).toBeGreaterThan(1e-5);
      const [state, other] = [await valuesOf(runs[0].trainer.state()), await valuesOf(runs[1].trainer.state())];
      expect(other).toEqual(state);
      // Each goes on from the other's.
      const crossed = await Promise.all(
        [paged, whole].map((device) => distil({ device, teacher: fresh, data }, config)),
      );
      for (const [i, { trainer }] of crossed.entries()) {
        await trainer.restore(stateOf(i ? other : state));
        await trainer.advance(3);
        await runs[i].trainer.advance(3);
        expect(await valuesOf(trainer.state())).toEqual(await valuesOf(runs[i].trainer.state()));
      }
      expect(await arenaOf(await crossed[0].now())).toEqual(await arenaOf(await runs[0].now()));
      for (const run of [...runs, ...crossed]) run.dispose();
    },
  );

  it('of a teacher starts from the same weights, in more than one page', async () => {
    const config = { ...teacherDefaults([2]), steps: 2, batch: 8 };
    const states = [];
    for (const device of [whole, paged]) {
      const run = await trainTeacher({ device, teacher: fresh, data }, config);
      expect((await arenaOf(await run.now())).slice(0, 200)).toEqual((await arenaOf(fresh)).slice(0, 200));
      await run.trainer.advance(2);
      states.push(await valuesOf(run.trainer.state()));
      run.dispose();
    }
    expect(states[1]).toEqual(states[0]);
    expect(fresh.layout.pages(paged.pageBytes / 4).length).toBeGreaterThan(1);
  });
});

describe('tensors larger than a binding', () => {
  // Windows of 2 KiB, in buffers of 6 KiB.
  const limits = { maxStorageBufferBindingSize: 3000, maxBufferSize: 7000 };
  let windowed: Device;
  beforeAll(async () => {
    windowed = await openDevice({ toggles: 'checked', limits });
  });
  afterAll(() => windowed.dispose());
  /** The same numbers whenever they are asked for. */
  const seeded = (count: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(1.7 * i));
  const numbers = (count: number) => Float32Array.from({ length: count }, () => draw.normal());
  const stored = (dtype: DType, array: HostArray, shape: Shape, offset = 0) =>
    fromStorage(new TensorStorage(dtype, dtype, array.length, array, true), shape, offset);
  const x = tensor(numbers(800), [8, 100]);
  const odd = tensor(numbers(9 * 97), [9, 97]);
  const bytes = Uint8Array.from({ length: 3501 }, () => draw.below(256));
  const cases: Record<string, () => Tensor> = {
    'pointwise, vec4s': () => sub(sin(x), mul(x, 0.3)),
    'pointwise, one by one': () => sin(transpose(odd)),
    'a product of large tensors': () => matmul(x, tensor(numbers(800), [100, 8])),
    'sums along rows and columns': () => concat([sum(x, [1]), sum(x, [0]), sum(odd, [0])], 0),
    'rows of a softmax': () => softmax(odd),
    'rows of bytes': () => gather(stored('u8', bytes, [1000, 3], 1), tensor(Uint32Array.of(0, 999, 681, 682, 85))),
    'words, from a place within them': () => add(stored('f32', numbers(1003), [1000], 3), 1),
    'rows added to a table': () => {
      const table = tensor(numbers(960), [160, 6]);
      const rows = gather(table, tensor(Uint32Array.from({ length: 100 }, (_, i) => (i * 7) % 160)));
      return gradients(sum(mul(rows, sin(rows))), [table])[0];
    },
    'random numbers': () => normal(tensor(Uint32Array.of(1, 2, 3)), 4, [1111]),
    'more than a buffer holds': () => sin(tensor(numbers(2000))),
  };

  it.each(Object.entries(cases))('are read and written through windows: %s', async (_, make) => {
    const node = make();
    expect(await evaluate(windowed, node)).toEqual(await evaluate(whole, node));
  });

  it('in half, and written over storages', async ({ skip }) => {
    skip(!whole.profile.f16, 'this adapter has no f16');
    const read = [];
    for (const device of [whole, windowed]) {
      const kept = [
        new TensorStorage('half', 'f16', 2001),
        new TensorStorage('bytes', 'u8', 3101),
        new TensorStorage('words', 'f32', 800),
      ];
      const x0 = tensor(seeded(1000));
      const y = matmul(x, transpose(x));
      const program = await compile(device, {
        outputs: { y: sin(mul(matmul(x, transpose(sin(x))), y)) },
        effects: [
          assign(kept[0], concat([slice(sin(tensor(seeded(1500))), 0, 7, 1008), slice(x0, 0, 0, 1000)], 0)),
          assign(kept[1], slice(stored('u8', bytes, [3501]), 0, 3, 3104)),
          assign(kept[2], reshape(mul(x, 2), [800])),
        ],
        half: true,
      });
      program.run();
      read.push([await program.read('y'), ...(await Promise.all(kept.map((storage) => device.read(storage))))]);
      program.dispose();
      for (const storage of kept) storage.dispose();
    }
    expect(read[1]).toEqual(read[0]);
  });

  it('train a network whose table is larger than a binding', async () => {
    const layout = new ParameterLayout([{ name: 'table', shape: [300, 5], initializer: () => seeded(1500) }]);
    const states = [];
    for (const device of [whole, inPages(windowed, 1024)]) {
      const trainer = await Trainer.create(device, {
        steps: 3,
        seed: 0,
        precision: 'f32',
        learners: [
          {
            name: 'a',
            layout,
            initial: layout.drawn(0),
            averages: {},
            optimizer: {
              rate: { peak: 0.1, warmup: 0, finalShare: 1 },
              beta1: 0.9,
              beta2: 0.99,
              epsilon: 1e-8,
              weightDecay: 0,
              clipNorm: 0.1,
            },
            loss: ({ parameters }) => {
              const rows = gather(parameters('table'), tensor(Uint32Array.from({ length: 100 }, (_, i) => i * 2)));
              return { total: sum(square(sub(rows, 1))), parts: {} };
            },
          },
        ],
      });
      await trainer.advance(3);
      states.push(await valuesOf(trainer.state()));
      trainer.dispose();
    }
    expect(states[1]).toEqual(states[0]);
  });

  it('that need more windows than a kernel binds are refused with what helps', async () => {
    const large = tensor(numbers(20000));
    await expect(evaluate(windowed, sin(large))).rejects.toThrow(
      /needs \d+ storage buffers, this device allows \d+ a kernel: its tensors are bound .* at a time.*smaller batch/,
    );
  });
});

describe('weights that are not trained', () => {
  /** A network that counts the tensors that were asked for and not yet given. */
  function watched(network: Network) {
    const seen = { now: 0, most: 0, reads: 0 };
    const read = async (name: string) => {
      seen.most = Math.max(seen.most, ++seen.now);
      seen.reads++;
      await new Promise((resolve) => setTimeout(resolve, 1));
      seen.now--;
      return network.weights.read(name);
    };
    return { seen, network: { ...network, weights: { dtype: network.weights.dtype, read } } };
  }

  it('come a tensor at a time, lie on the device once whoever asks, and go with the last who does', async () => {
    const { seen, network } = watched(fresh);
    const held = whole.memory.bytes;
    const ask = { x: new Float32Array(4), t: Float32Array.of(0.5, 0.2) };
    const runners = [2, 3].map((batch) => new Runner(whole, network, batch));
    const first = await runners[0].velocity(ask);
    const alone = whole.memory.bytes - held;
    await runners[1].integrate({ ...ask, s: new Float32Array(2) }, 2, 'heun');
    expect(whole.memory.bytes - held - alone).toBeLessThan(network.layout.length * 4);
    expect(seen).toMatchObject({ most: 1, reads: network.layout.parameters.length });
    runners[0].dispose();
    expect(await runners[1].velocity(ask)).toEqual(first);
    expect(seen.reads).toBe(network.layout.parameters.length);
    runners[1].dispose();
    expect(whole.memory.bytes).toBe(held);
  });

  it('of a file in half stay half, with the numbers of f32', async ({ skip }) => {
    skip(!whole.profile.f16, 'this adapter has no f16');
    const { Float16Array } = await import('@petamoriken/float16');
    const { metadata } = exportNetwork(fresh);
    const half = await Promise.all(
      fresh.layout.parameters.map(async ({ name, shape }) => {
        const bits = new Uint16Array(new Float16Array(await fresh.weights.read(name)).buffer);
        return [name, { dtype: 'F16' as const, shape, data: bits }] as const;
      }),
    );
    const file = await openSafetensors(bytesSource(encodeSafetensors(new Map(half), metadata), 'half'));
    const network = await loadNetwork(file);
    const wide = await loadNetwork(await openSafetensors(bytesSource(await bytesOf(exportNetwork(network)), 'wide')));
    expect([network.weights.dtype, wide.weights.dtype]).toEqual(['f16', 'f32']);
    const seen = [];
    const bytes = [];
    for (const other of [network, wide]) {
      const held = whole.memory.bytes;
      const runner = new Runner(whole, other, 2);
      seen.push(await runner.velocity({ x: values.subarray(0, 4), t: Float32Array.of(0.5, 0.2) }));
      bytes.push(whole.memory.bytes - held);
      runner.dispose();
    }
    expect(seen[0]).toEqual(seen[1]);
    expect(bytes[1] - bytes[0]).toBe(fresh.layout.length * 2);
  });

  it('that cannot be read are told by whoever needed them, and leave nothing behind', async () => {
    const held = whole.memory.bytes;
    const read = async (name: string) => {
      if (name === fresh.layout.parameters[2].name) throw new Error('the file changed');
      return fresh.weights.read(name);
    };
    const runner = new Runner(whole, { ...fresh, weights: { dtype: 'f32', read } }, 2);
    await expect(runner.velocity({ x: new Float32Array(4), t: new Float32Array(2) })).rejects.toThrow(/file changed/);
    runner.dispose();
    expect(whole.memory.bytes).toBe(held);
  });

  it('are those of the adapter’s base and of the teacher at once', async () => {
    const { seen, network } = watched(fresh);
    const held = whole.memory.bytes;
    const config = { ...distillationDefaults([2], 'velocity'), steps: 1, batch: 8 };
    const run = await distil(
      { device: whole, teacher: network, data },
      { ...config, student: { ...config.student, loraRank: 1 } },
    );
    // Checked, fingerprinted, and brought to the device once; an adapter's start needs none of them.
    expect(seen.reads).toBe(3 * network.layout.parameters.length);
    run.dispose();
    expect(whole.memory.bytes).toBe(held);
  });
});

describe('a plan', () => {
  const architecture = {
    kind: 'sit',
    inputSize: 16,
    patchSize: 2,
    inChannels: 1,
    hiddenSize: 48,
    depth: 3,
    numHeads: 3,
  };
  const pictures = {
    shape: [1, 16, 16],
    count: 8,
    values: new Uint8Array(8 * 256),
    range: [-1, 1] as const,
  };
  const network = createNetwork(
    parseDescription({ architecture: { ...architecture, numClasses: 0 }, prediction: 'velocity' }, 'test'),
    1,
  );
  let machine: Device;
  beforeAll(async () => {
    machine = await openNullDevice({
      toggles: 'checked',
      family: 'tiled',
      limits: { maxStorageBuffersPerShaderStage: 8, maxStorageBufferBindingSize: 2 ** 27, maxBufferSize: 2 ** 28 },
    });
  });
  afterAll(() => machine.dispose());
  const teacher = { ...teacherDefaults([1, 16, 16]), steps: 4, batch: 32, labelDropout: 0 };
  const map = {
    ...distillationDefaults([1, 16, 16], 'velocity'),
    steps: 4,
    batch: 32,
    pool: { samples: 64, steps: 1 },
  };
  const subject = () => ({ device: machine, teacher: network, data: pictures });

  it.each([
    ['a teacher', () => planTeacher(subject(), teacher), () => trainTeacher(subject(), teacher)],
    ['a flow map', () => planDistillation(subject(), map), () => distil(subject(), map)],
    [
      'an adapter in half',
      () => planDistillation(subject(), { ...map, precision: 'f16', student: { ...map.student, loraRank: 2 } }),
      () => distil(subject(), { ...map, precision: 'f16', student: { ...map.student, loraRank: 2 } }),
    ],
  ])('of %s is what the device then holds, and compiles nothing', async (_, plan, run) => {
    const held = machine.memory.bytes;
    const { needs, kernels } = plan();
    expect(machine.memory.bytes).toBe(held);
    const training = await run();
    const taken = machine.memory.bytes - held;
    training.dispose();
    // The numbers that kernels read are known when they are linked: a list of at most this size for each.
    const unplanned = taken - deviceBytes(needs);
    expect(unplanned).toBeGreaterThanOrEqual(0);
    expect(unplanned).toBeLessThanOrEqual(kernels * machine.limits.minUniformBufferOffsetAlignment);
    expect(machine.memory.bytes).toBe(held);
  });

  it('of samples too', async () => {
    const needs = planSampling(machine, network, { count: 100 });
    const held = machine.memory.bytes;
    const runner = new Runner(machine, network, 100);
    await runner.integrate(
      { x: new Float32Array(25600), t: new Float32Array(100), s: new Float32Array(100) },
      1,
      'euler',
    );
    const taken = machine.memory.bytes - held;
    runner.dispose();
    expect(Math.abs(deviceBytes(needs) / taken - 1)).toBeLessThan(0.01);
  });

  it('that does not fit names the figures and what would make it fit, which does', () => {
    const all = deviceBytes(planTeacher(subject(), teacher).needs);
    const changed = (changes: Readonly<Record<string, string>>) => ({
      ...teacher,
      ...('checkpointBlocks' in changes && { checkpointBlocks: true }),
      ...('precision' in changes && { precision: 'f16' as const }),
      ...('batch' in changes && { batch: Number(changes.batch) }),
    });
    let enough = 0;
    for (const share of [0.9, 0.5, 0.25, 0.1, 0.01]) {
      const memory = { device: Math.round(all * share) };
      let error: unknown;
      try {
        planTeacher(subject(), teacher, { memory });
      } catch (reason) {
        error = reason;
      }
      expect(error).toBeInstanceOf(MemoryError);
      const { savings, message, said } = error as MemoryError;
      expect(message).toMatch(/needs .* on the device \(gradients and activations .*and there is/);
      expect(said.call(error, (field) => `--${field}`)).toMatch(/--batch .*|--accumulate .*enough/);
      for (const saving of savings) {
        const recipe = changed(saving.changes);
        const fits = () =>
          planTeacher({ ...subject(), teacher: recipe.checkpointBlocks ? checkpointed(network) : network }, recipe, {
            memory,
            accumulate: Number(saving.changes.accumulate ?? 1),
          });
        if (saving.enough) expect(fits).not.toThrow();
        else expect(fits).toThrow(MemoryError);
        enough += Number(saving.enough);
      }
      if (share === 0.01) expect(message).toMatch(/none of them is enough: use a smaller network/);
    }
    expect(enough).toBeGreaterThan(4);
    expect(() => planDistillation(subject(), map, { memory: { device: 2 ** 20 } })).toThrow(
      /student\.loraRank 8 takes/,
    );
    expect(() => planSampling(machine, network, { count: 1000 }, { device: 2 ** 23 })).toThrow(/n \d+ takes .*enough/);
  });

  it('refuses before a run leaves anything behind', async () => {
    const store = memoryStore();
    const held = machine.memory.bytes;
    const training = trainTeacher(subject(), teacher, { store, memory: { device: 2 ** 20 } });
    await expect(training).rejects.toThrow(/and there is 1 MiB on the device/);
    expect(await store.list()).toEqual([]);
    expect(machine.memory.bytes).toBe(held);
  });
});

describe('the file of a state', () => {
  it('comes part by part as the bytes that one piece would be, and is read so', async () => {
    const arenas = Object.fromEntries(
      ['b.averages', 'a.parameters', 'a.progress'].map((name, k) => [
        name,
        Float32Array.from({ length: 3 + 500 * k }, (_, i) => Math.cos(i + k)),
      ]),
    );
    const state = stateOf({ step: 41, arenas });
    const tensors = Object.fromEntries(
      Object.entries(arenas).map(([name, data]) => [name, { dtype: 'F32' as const, shape: [data.length], data }]),
    );
    const encode = (checksum: string) => encodeSafetensors(tensors, { step: '41', run: 'r', checksum });
    const expected = encode(await fingerprint([encode('0'.repeat(64))]));
    const bytes = await collected(encodeState(state, 'r'));
    expect(bytes).toEqual(expected);
    expect(await valuesOf(await decodeState(bytesSource(bytes, 's'), 'r'))).toEqual({ step: 41, arenas });
    for (let k = 0; k < 40; k++) {
      const damaged = bytes.slice();
      damaged[draw.below(bytes.length)] ^= 1 << draw.below(8);
      await expect(decodeState(bytesSource(damaged, 's'), 'r')).rejects.toThrow(/./);
    }
  });
});
