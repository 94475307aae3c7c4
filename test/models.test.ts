import { existsSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { compile } from '../src/autodiff/compile.js';
import { evaluate } from '../src/autodiff/eager.js';
import { readDescription } from '../cli/networks.js';
import { openDevice } from '../node/device.js';
import { gradients } from '../src/autodiff/gradients.js';
import { readSafetensors, writeSafetensors } from '../node/files.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork, exportNetwork, loadNetwork } from '../src/flow/network.js';
import { Runner } from '../src/flow/runner.js';
import type { Device } from '../src/gpu/device.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { buildModel, type Architecture } from '../src/models/index.js';
import { embedJump, jumpParameters, quickHarmonics, slowHarmonics } from '../src/nn/layers.js';
import { ParameterLayout } from '../src/nn/parameters.js';
import { sum } from '../src/ops/broadcast.js';
import { div, mul, neg, sub } from '../src/ops/pointwise.js';
import { reshape } from '../src/ops/movement.js';
import { sizeOf } from '../src/tensor/shape.js';
import { fromStorage, tensor, type Tensor } from '../src/tensor/tensor.js';
import { full } from './support/full.js';
import { bindFile, halfParity, labelsOf, load, parity, relative } from './support/parity.js';
import { drawn } from './support/weights.js';

const devices = new Map<string, Promise<Device>>();
const device = (toggles: 'fast' | 'checked') => {
  if (!devices.has(toggles)) devices.set(toggles, openDevice({ toggles }));
  return devices.get(toggles)!;
};
afterAll(async () => {
  for (const opened of devices.values()) (await opened).dispose();
});

const shared = '../shared/data/teachers';
const haveShared = existsSync(shared);
if (!haveShared) console.log('skipped: the public teachers are not here (../shared/data/teachers)');

const fixtures: { name: string; architecture: Architecture }[] = [
  { name: 'mlp-2d', architecture: { kind: 'mlp', dim: 2, width: 64, depth: 3, activation: 'selu', time: 'concat' } },
  {
    name: 'sit-tiny',
    architecture: {
      kind: 'sit',
      inputSize: 8,
      patchSize: 2,
      inChannels: 4,
      hiddenSize: 64,
      depth: 3,
      numHeads: 4,
      mlpRatio: 4,
      numClasses: 10,
      learnSigma: true,
    },
  },
];

describe.each(full ? (['checked', 'fast'] as const) : (['fast'] as const))(
  'parity with PyTorch, %s toggles',
  (toggles) => {
    it.each(fixtures)('$name: output within 2e-5, every gradient within 1e-4', async ({ name, architecture }) =>
      parity(`test/fixtures/${name}`, architecture, await device(toggles)),
    );
  },
);

describe('blocks computed anew in the backward pass', () => {
  const sit = fixtures[1];
  it('give the same gradients, in less memory', async () => {
    await parity(`test/fixtures/${sit.name}`, sit.architecture, await device('fast'), true);
    const [whole, anew] = await Promise.all([false, true].map((again) => memoryOf(sit.architecture, again)));
    expect(anew).toBeLessThan(0.75 * whole);
  });
});

/** Bytes that a backward pass of 16 samples takes. */
async function memoryOf(architecture: Architecture, checkpointBlocks: boolean): Promise<number> {
  const model = buildModel(architecture, { checkpointBlocks });
  const layout = new ParameterLayout(model.parameters);
  const parameters = layout.bind(new TensorStorage('weights', 'f32', layout.length));
  const x = fromStorage(new TensorStorage('x', 'f32', 16 * sizeOf(model.sampleShape)), [16, ...model.sampleShape]);
  const y = model.apply(parameters, { x, time: fromStorage(new TensorStorage('t', 'f32', 16)) });
  const trained = layout.parameters.filter(({ frozen }) => !frozen);
  const slopes = gradients(
    sum(mul(y, y)),
    trained.map(({ name }) => parameters(name)),
  );
  const outputs = Object.fromEntries(slopes.map((slope, i) => [i, slope]));
  const program = await compile(await device('fast'), { outputs });
  program.dispose();
  return program.memory.bytes;
}

describe('f16', () => {
  it.for(full ? fixtures : [fixtures[0]])('$name: output within 2e-2', async ({ name, architecture }, { skip }) => {
    const fast = await device('fast');
    skip(!fast.profile.f16, 'this adapter has no f16');
    await halfParity(`test/fixtures/${name}`, architecture, fast);
  });
});

const mnistVit: Architecture = {
  kind: 'vit',
  imageSize: 28,
  patchSize: 7,
  channels: 1,
  width: 64,
  depth: 4,
  heads: 4,
  mlpWidth: 256,
  norm: 'post',
  activation: 'gelu',
  normEpsilon: 1e-5,
  classes: 10,
};

describe.skipIf(!haveShared)('public teachers', () => {
  it('MNIST transformer: samples guided by 2 between two times, as its author draws them, within 1e-4', async () => {
    const description = await readDescription('docs/teachers/mnist-flow-vit.yaml');
    const file = await readSafetensors(`${shared}/mnist-flow-vit/model.safetensors`);
    const flow = await readSafetensors(`${shared}/mnist-flow-vit/ref-flow.safetensors`);
    const teacher = await loadNetwork(file, { ...description, guidanceTimes: { from: 0.3, to: 0.7 } });
    const labels = Uint32Array.from(await flow.readF32('y'));
    const runner = new Runner(await device('fast'), teacher, labels.length, 2);
    const [t, s] = [new Float32Array(labels.length).fill(1), new Float32Array(labels.length)];
    for (const steps of [4, 50]) {
      const reached = await runner.integrate({ x: await flow.readF32('x0'), t, s, labels }, steps, 'euler');
      const expected = await flow.readF32(`euler${steps}_w2`);
      reached.forEach((value, i) => expect(Math.abs(value - expected[i])).toBeLessThan(1e-4));
    }
    runner.dispose();
  });

  it('MNIST transformer: velocity within 2e-5, gradients within 1e-4', async () => {
    const model = buildModel(mnistVit);
    const { layout, parameters } = await bindFile(model, `${shared}/mnist-flow-vit/model.safetensors`);
    const io = await readSafetensors(`${shared}/mnist-flow-vit/ref-forward.safetensors`);
    const [x, time, target] = [await load(io, 'x'), await load(io, 't'), await load(io, 'fm_target')];
    const labels = labelsOf(await io.readF32('y'), 10);
    const prediction = model.apply(parameters, { x, time, labels });
    const left = reshape(sub(1, time), [time.size, 1, 1, 1]);
    const velocity = div(sub(prediction, x), left);
    const error = sub(velocity, target);
    const loss = mul(sum(mul(error, error)), 1 / x.size);
    const slopes = gradients(
      loss,
      layout.parameters.map((p) => parameters(p.name)),
    );
    const gradient = Object.fromEntries(layout.parameters.map((p, i) => [p.name, slopes[i]]));
    const results = await evaluate(await device('fast'), { prediction, velocity, loss, ...gradient });
    expect(relative(results.prediction, await io.readF32('pred_x1'))).toBeLessThan(2e-5);
    expect(relative(results.velocity, await io.readF32('velocity'))).toBeLessThan(2e-5);
    expect(relative(results.loss, await io.readF32('fm_loss'))).toBeLessThan(1e-5);
    const reference = await readSafetensors(`${shared}/mnist-flow-vit/ref-grads.safetensors`);
    let compared = 0;
    for (const [name] of reference.tensors) {
      expect(
        relative((results as Record<string, Float32Array>)[name], await reference.readF32(name)),
        name,
      ).toBeLessThan(1e-4);
      compared++;
    }
    expect(compared).toBe(54);
  });

  it.each(['gaussian-moons-cfm', 'gaussian-moons-otcfm', '8gaussian-moons-cfm'])(
    '%s: velocity within 2e-5',
    async (name) => {
      const model = buildModel({ kind: 'mlp', dim: 2, width: 64, depth: 3, activation: 'selu', time: 'concat' });
      const { parameters } = await bindFile(model, `${shared}/toy2d/${name}.safetensors`);
      const io = await readSafetensors(`${shared}/toy2d/${name}.ref.safetensors`);
      const out = model.apply(parameters, { x: await load(io, 'x'), time: await load(io, 't') });
      const { out: got } = await evaluate(await device('fast'), { out });
      expect(relative(got, await io.readF32('velocity'))).toBeLessThan(2e-5);
    },
  );
});

const sizes: { name: string; architecture: Architecture }[] = [
  { name: 'mlp', architecture: { kind: 'mlp', dim: 2, width: 37, depth: 2, activation: 'gelu', time: 'features' } },
  {
    name: 'unconditional sit',
    architecture: {
      kind: 'sit',
      inputSize: 6,
      patchSize: 3,
      inChannels: 1,
      hiddenSize: 20,
      depth: 1,
      numHeads: 5,
      mlpRatio: 2,
      numClasses: 0,
      learnSigma: false,
    },
  },
  {
    name: 'pre-norm vit',
    architecture: {
      kind: 'vit',
      imageSize: 6,
      patchSize: 2,
      channels: 3,
      width: 12,
      depth: 1,
      heads: 3,
      mlpWidth: 20,
      norm: 'pre',
      activation: 'silu',
      normEpsilon: 1e-5,
      classes: 3,
    },
  },
  {
    name: 'unet',
    architecture: {
      kind: 'unet',
      imageSize: 4,
      inChannels: 2,
      modelChannels: 32,
      numResBlocks: 1,
      channelMult: [1],
      attentionResolutions: [],
      numHeads: 1,
      numHeadChannels: -1,
      numHeadsUpsample: -1,
      useScaleShiftNorm: false,
      resblockUpdown: false,
      useNewAttentionOrder: false,
      numClasses: 0,
    },
  },
];

describe.each(full ? sizes : sizes.slice(0, -1))('$name with a second time input', ({ architecture }) => {
  it('is the one-time network at the start, and lets gradients into the second input', async () => {
    const [single, double] = [buildModel(architecture), buildModel(architecture, { twoTime: true })];
    const layout = new ParameterLayout(double.parameters);
    const arena = await drawn(layout, 3);
    // Zero-initialised outputs would hide everything: give every ordinary parameter some value.
    double.parameters.forEach(({ name, shape }, i) => {
      const size = shape.reduce((a, b) => a * b, 1);
      if (!double.studentParameters.has(name))
        for (let k = 0; k < size; k++) arena[layout.offsets[i] + k] += 0.2 * Math.sin(i + 7 * k);
    });
    const p2 = layout.bind(new TensorStorage('two', 'f32', layout.length, arena));
    const layout1 = new ParameterLayout(single.parameters);
    const kept = await layout1.collect(layout.weightsOf(arena));
    const p1 = layout1.bind(new TensorStorage('one', 'f32', layout1.length, kept));
    const size = single.sampleShape.reduce((a, b) => a * b, 1);
    const x = tensor(
      Float32Array.from({ length: 3 * size }, (_, i) => Math.sin(i * 1.7)),
      [3, ...single.sampleShape],
    );
    const [time, s] = [tensor([0.2, 0.5, 0.9]), tensor([0.1, 0, 0.6])];
    const labels = single.classes ? tensor(Uint32Array.of(0, 3, 1)) : undefined;
    const one = single.apply(p1, { x, time, labels });
    const two = double.apply(p2, { x, time, jump: { t: time, s }, labels });
    const last = [...double.studentParameters].filter((name) => /\.(2|gains)\.weight$/.test(name));
    const slopes = gradients(sum(mul(neg(two), two)), last.map(p2));
    const outputs: Record<string, Tensor> = {
      one,
      two,
      ...Object.fromEntries(slopes.map((slope, i) => [last[i], slope])),
    };
    const results = await evaluate(await device('checked'), outputs);
    // Fused kernels may round the sum with a zero differently: the last bit, no more.
    expect(relative(results.two, results.one)).toBeLessThan(1e-6);
    expect(Math.max(...results.one.map(Math.abs))).toBeGreaterThan(1e-3);
    const steepness = last.map((name) => Math.max(...results[name].map(Math.abs)));
    expect(Math.min(...steepness)).toBeGreaterThan(1e-6);
  });
});

describe('the embedding of a jump', () => {
  it.each([
    ['slow', slowHarmonics],
    ['quick', quickHarmonics],
  ] as const)('tells a short jump from a long one by %s harmonics', async (_, multiples) => {
    const parameters = jumpParameters(64);
    const layout = new ParameterLayout(parameters);
    const arena = await drawn(layout, 11);
    // The last layer is zero at the start: an identity shows what it is given.
    const last = layout.offsets[parameters.findIndex(({ name }) => name === 'jump_embedder.2.weight')];
    for (let i = 0; i < 64; i++) arena[last + 65 * i] = 1;
    const p = layout.bind(new TensorStorage('jumps', 'f32', layout.length, arena));
    const embedded = embedJump(p, { t: tensor([1, 1, 1]), s: tensor([0.9, 0.5, 0]) }, multiples);
    const { values } = await evaluate(await device('checked'), { values: embedded });
    const rows = [0, 1, 2].map((i) => values.subarray(64 * i, 64 * (i + 1)));
    for (const [a, b] of [
      [0, 1],
      [1, 2],
      [0, 2],
    ]) {
      const distance = Math.hypot(...rows[a].map((value, k) => value - rows[b][k]));
      expect(distance).toBeGreaterThan(0.2 * Math.hypot(...rows[a]));
    }
  });
});

describe('a multilayer perceptron of two times', () => {
  const architecture = { kind: 'mlp', dim: 3, width: 12, depth: 2, activation: 'silu', time: 'concat' };
  const [x, t, s] = [
    [0.3, -1.2, 0.8, 1.1, 0.4, -0.7],
    [0.9, 0.4],
    [0.1, 0.3],
  ];

  /** u of two samples in float64, row by row: shift after the first layer, gains before every activation. */
  function reference(parameter: (name: string) => Float32Array, gains: boolean): number[] {
    const layer = (name: string, input: number[]) =>
      Array.from(parameter(`${name}.bias`), (bias, o) =>
        input.reduce((total, value, i) => total + value * parameter(`${name}.weight`)[o * input.length + i], bias),
      );
    const silu = (values: number[]) => values.map((value) => value / (1 + Math.exp(-value)));
    const waves = (time: number) => [
      time,
      ...[1, 2, 4, 8].map((k) => Math.sin(k * Math.PI * time)),
      ...[1, 2, 4, 8].map((k) => Math.cos(k * Math.PI * time)),
    ];
    return t.flatMap((time, row) => {
      const hidden = silu(layer('jump_embedder.0', [...waves(time), ...waves(time - s[row])]));
      const gain = gains ? layer('jump_embedder.gains', hidden) : new Array<number>(24).fill(0);
      const shift = layer('jump_embedder.2', hidden);
      const scaled = (values: number[], at: number) => values.map((value, i) => value * (1 + gain[12 * at + i]));
      const first = layer('net.0', [...x.slice(3 * row, 3 * row + 3), time]).map((value, i) => value + shift[i]);
      return layer('net.4', silu(scaled(layer('net.2', silu(scaled(first, 0))), 1)));
    });
  }

  it.each([true, false])('scales hidden units by the jump; a file without gains has none (gains %s)', async (gains) => {
    const network = createNetwork(
      parseDescription(
        { role: 'flow-map', architecture, time: 'noise-at-1', prediction: 'velocity', source: { kind: 'normal' } },
        'test',
      ),
      5,
    );
    const tensors = new Map<string, { dtype: 'F32'; shape: readonly number[]; data: Float32Array }>();
    for (const [i, { name, shape }] of network.layout.parameters.entries()) {
      const data = Float32Array.from({ length: sizeOf(shape) }, (_, k) => 0.4 * Math.sin(3 * i + 1.7 * k));
      if (gains || !name.includes('gains')) tensors.set(name, { dtype: 'F32', shape, data });
    }
    const path = join(tmpdir(), `two-times-${gains}-${process.pid}.safetensors`);
    await writeSafetensors(path, Object.fromEntries(tensors), exportNetwork(network).metadata);
    const { model, layout, weights } = await loadNetwork(await readSafetensors(path));
    const p = layout.bind(new TensorStorage('mlp', 'f32', layout.length, await layout.collect(weights)));
    rmSync(path);
    const jump = { t: tensor(t), s: tensor(s) };
    const { u } = await evaluate(await device('checked'), {
      u: model.apply(p, { x: tensor(x, [2, 3]), time: jump.t, jump }),
    });
    expect(
      relative(
        u,
        reference((name) => tensors.get(name)!.data, gains),
      ),
    ).toBeLessThan(1e-5);
  });
});
