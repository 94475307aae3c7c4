import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { openSafetensors } from '../src/checkpoint/safetensors.js';
import { UserError } from '../src/errors.js';
import { createClassifier, exportClassifier, loadClassifier } from '../src/features/classifier-file.js';
import { bytesSource } from '../src/files/source.js';
import { adapterOptions, withAdapters } from '../src/flow/adapter.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork, exportNetwork, loadNetwork, networkOf, studentOf } from '../src/flow/network.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { defaultClassifier } from '../src/models/classifier.js';
import { defineBackbone } from '../src/models/backbone.js';
import { backboneNames, buildModel, defaultArchitecture, registerBackbone } from '../src/models/index.js';
import { jumpParameters, linearParameters } from '../src/nn/layers.js';
import { ParameterLayout } from '../src/nn/parameters.js';
import { gridPositions } from '../src/nn/initializers.js';
import { sizeOf } from '../src/tensor/shape.js';
import { tensor } from '../src/tensor/tensor.js';
import { interpret } from './support/interpreter.js';
import { arenaOf, bytesOf, drawn } from './support/weights.js';

const pictures = [
  [1, 28, 28],
  [3, 32, 32],
  [3, 50, 50],
  [1, 53, 53],
  [2, 7, 7],
  [4, 1, 1],
  [1, 30, 17],
  [3, 256, 128],
  [5, 3, 200],
];

describe('default architectures', () => {
  it.each(pictures)('pictures of %i x %i x %i, in every backbone for them, few tokens each', (...shape) => {
    for (const kind of [undefined, 'sit', 'vit', 'unet']) {
      const architecture = defaultArchitecture({ shape, classes: 3 }, kind);
      const model = buildModel(architecture, { twoTime: true });
      expect(model.sampleShape).toEqual(shape);
      expect(model.classes).toBe(3);
      const positions = model.parameters.find(({ name }) => name === 'pos_embed');
      if (positions) expect(positions.shape[1]).toBeLessThanOrEqual(256);
      expect(architecture.kind).toBe(kind ?? 'sit');
    }
  });
  it.each([[[2]], [[1]], [[7]], [[3, 5]], [[2, 3, 4, 5]]])('other samples of shape %j', (shape) => {
    const architecture = defaultArchitecture({ shape, classes: 0 });
    expect(architecture.kind).toBe('mlp');
    expect(buildModel(architecture, { twoTime: true }).sampleShape).toEqual(shape);
  });
  it('are as they were for the sizes that were there before', () => {
    const patches = [4, 8, 12, 16, 20, 24, 28, 32, 7, 14, 10].map(
      (side) => defaultArchitecture({ shape: [1, side, side], classes: 0 }).patchSize,
    );
    expect(patches).toEqual([4, 4, 4, 4, 4, 4, 4, 4, 1, 1, 1]);
    expect(defaultArchitecture({ shape: [3, 32, 32], classes: 0 }, 'unet')).toMatchObject({
      channelMult: [1, 2, 2],
      attentionResolutions: [8],
    });
  });
  it('say which backbones there are for samples that one is not for', () => {
    expect(() => defaultArchitecture({ shape: [2], classes: 0 }, 'sit')).toThrow(/shape \[2\].*use mlp/);
    for (const name of ['toString', '__proto__', 'constructor', ''])
      expect(() => defaultArchitecture({ shape: [2], classes: 0 }, name)).toThrow(/none of the known backbones/);
  });
});

const points = { kind: 'mlp', dim: 2, width: 8, depth: 2, activation: 'silu', time: 'features' };
const picture = {
  kind: 'sit',
  inputSize: 4,
  patchSize: 2,
  inChannels: 1,
  hiddenSize: 8,
  depth: 1,
  numHeads: 2,
  numClasses: 0,
};
const block = {
  kind: 'vit',
  imageSize: 4,
  patchSize: 2,
  channels: 1,
  width: 8,
  depth: 1,
  heads: 2,
  mlpWidth: 8,
  norm: 'pre',
  classes: 0,
};
const adm = {
  kind: 'unet',
  imageSize: 4,
  inChannels: 1,
  modelChannels: 32,
  numResBlocks: 1,
  channelMult: [1],
  attentionResolutions: [],
};
const described = (architecture: object, rest: object = {}) =>
  parseDescription({ architecture, prediction: 'velocity', ...rest }, 'test');

const fileOf = async (
  metadata: Record<string, string>,
  tensors = exportNetwork(createNetwork(described(points), 0)).tensors,
) => openSafetensors(bytesSource(await bytesOf({ tensors, metadata }), 'claims.safetensors'));

/** The one line of a refusal, which must come within a second. */
async function refusal(job: () => Promise<unknown>): Promise<string> {
  const start = performance.now();
  const error = await job().then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(performance.now() - start).toBeLessThan(1000);
  expect(error).toBeInstanceOf(UserError);
  expect((error as Error).message).not.toMatch(/\n/);
  return (error as Error).message;
}

describe('sizes that a file claims and does not hold', () => {
  const sizes = [1e6, 2 ** 24, 2 ** 31, 2 ** 40, 1e7, 1e300, -1, 0, 1.5, '8', null];
  const claims = [points, picture, block, adm].flatMap((architecture) =>
    Object.keys(architecture)
      .filter((key) => typeof (architecture as Record<string, unknown>)[key] === 'number')
      .flatMap((key) => sizes.map((size) => ({ ...architecture, [key]: size }))),
  );
  it(`are refused in one line, whatever key it is (${claims.length} claims)`, async () => {
    for (const architecture of claims) {
      const file = await fileOf({ semiflow: JSON.stringify({ architecture, prediction: 'velocity' }) });
      expect(await refusal(() => loadNetwork(file))).toMatch(/^claims\.safetensors/);
    }
  }, 60_000);
  it('also lists, schedules and sources', async () => {
    const long = Array.from({ length: 1e5 }, () => 1);
    for (const description of [
      { architecture: { ...adm, channelMult: long }, prediction: 'velocity' },
      { architecture: { ...adm, attentionResolutions: long }, prediction: 'velocity' },
      { architecture: { ...points, dim: long }, prediction: 'velocity' },
      { architecture: points, prediction: 'noise', path: { kind: 'vp', schedule: 'linear', steps: 1e9 } },
      { architecture: points, prediction: 'velocity', source: { kind: 'gaussians', centers: [[1, 2, 3]], std: 1 } },
    ])
      await refusal(async () => loadNetwork(await fileOf({ semiflow: JSON.stringify(description) })));
  });
  it('also where weights are drawn instead of read', async () => {
    await refusal(async () => createNetwork(described({ ...points, width: 2 ** 24 }), 0));
    await refusal(async () => createNetwork(described({ ...picture, hiddenSize: 2 ** 20 }), 0));
  });
});

describe('metadata of an adapter that is none', () => {
  const deep = '['.repeat(50_000) + ']'.repeat(50_000);
  it.each([
    ['not JSON', '{'],
    ['null', 'null'],
    ['a number', '3'],
    ['a list', '[]'],
    ['nested deeply', deep],
    ['without rank', '{"alpha":1,"description":{}}'],
    ['of a huge rank', '{"rank":1e300,"alpha":1,"description":{}}'],
    ['without description', '{"rank":1,"alpha":1}'],
    ['of a deep description', `{"rank":1,"alpha":1,"description":{"architecture":${deep}}}`],
  ])('%s', async (_, text) => {
    const file = await fileOf({ 'semiflow-adapter': text });
    expect(await refusal(async () => adapterOptions(file))).toMatch(/^claims\.safetensors/);
    const teacher = createNetwork(described(points), 0);
    await refusal(() => withAdapters(teacher, [{ file, scale: 1 }]));
  });
  it('a rank that the file does not hold', async () => {
    const description = described(points, { role: 'flow-map' });
    const file = await fileOf({ 'semiflow-adapter': JSON.stringify({ rank: 2 ** 23, alpha: 1, description }) });
    await refusal(() => withAdapters(createNetwork(described(points), 0), [{ file, scale: 1 }]));
  });
});

const plain = defineBackbone({
  name: 'plain',
  schema: z.object({ size: z.number().int().positive().default(3), second: z.boolean().default(true) }),
  build: ({ size, second }, { twoTime }) => ({
    sampleShape: [size],
    parameters: [...linearParameters('layer', size, size), ...(twoTime && second ? jumpParameters(size) : [])],
    apply: (_, { x }) => x,
  }),
});

describe("a backbone of one's own", () => {
  it('is refused before it is known, by its module where the file names one', async () => {
    const architecture = { kind: 'plain', module: { name: 'plain.ts', sha256: 'ab'.repeat(32) } };
    const file = await fileOf({ semiflow: JSON.stringify({ architecture, prediction: 'velocity' }) });
    expect(await refusal(() => loadNetwork(file))).toMatch(/"plain" is defined by the module plain\.ts \(sha256 abab/);
    expect(() => described({ kind: 'plain' })).toThrow(/"plain" is none of the known backbones, mlp, sit/);
    expect(() => described({ kind: 'toString' })).toThrow(/none of the known/);
  });
  it('makes networks, files and students once it is registered', async () => {
    registerBackbone(plain, { name: 'plain.ts', sha256: 'cd'.repeat(32) });
    expect(backboneNames()).toContain('plain');
    const network = createNetwork(described({ kind: 'plain', size: 5 }), 1);
    expect(network.model).toMatchObject({ sampleShape: [5], classes: 0, nullClass: false });
    const { tensors, metadata } = exportNetwork(network);
    const file = await fileOf(metadata, tensors);
    const loaded = await loadNetwork(file);
    expect(await arenaOf(loaded)).toEqual(await arenaOf(network));
    expect(loaded.description.architecture.module).toMatchObject({ name: 'plain.ts' });
    const student = studentOf(loaded);
    expect(student.model.studentParameters.size).toBe(4);
    expect(await student.weights.read('layer.weight')).toEqual(await network.weights.read('layer.weight'));
    expect(() => studentOf(createNetwork(described({ kind: 'plain', second: false }), 1))).toThrow(
      /"plain" has no second time input/,
    );
    expect(() => described({ kind: 'plain', sise: 5 })).toThrow(/sise/);
  });
  it('does not take the place of one that is built in, and says what is wrong with it', () => {
    expect(() => registerBackbone({ ...plain, name: 'sit' })).toThrow(/is built in/);
    expect(() => defineBackbone({ name: 'No!', schema: z.object({}), build: () => null as never })).toThrow(
      /lower-case letters/,
    );
    const twice = defineBackbone({
      name: 'twice',
      schema: z.object({}),
      build: () => ({
        sampleShape: [2],
        parameters: [...linearParameters('a', 2, 2), ...linearParameters('a', 2, 2)],
        apply: (_, { x }) => x,
      }),
    });
    registerBackbone(twice);
    expect(() => buildModel({ kind: 'twice' })).toThrow(/two parameters named a\.weight/);
  });
  it('is not even needed: any model makes a network', async () => {
    const { model } = createNetwork(described(points), 0);
    const network = networkOf({ ...model, sampleShape: [2, 1] }, described(points), 4);
    expect(await arenaOf(network)).toEqual(await arenaOf(createNetwork(described(points), 4)));
  });
});

describe('sides of pictures', () => {
  it('may be two numbers, and a number still means a square', () => {
    for (const [kind, key] of [
      ['sit', 'inputSize'],
      ['vit', 'imageSize'],
      ['unet', 'imageSize'],
    ] as const) {
      const square = defaultArchitecture({ shape: [2, 12, 12], classes: 0 }, kind);
      const names = (architecture: object) => {
        const { parameters } = buildModel(architecture as typeof square);
        return parameters.map(({ name, shape }) => `${name} ${shape}`);
      };
      expect(square[key]).toBe(12);
      expect(names({ ...square, [key]: [12, 12] })).toEqual(names(square));
      const { sampleShape, parameters } = buildModel({ ...square, [key]: [9, 14] });
      expect(sampleShape).toEqual([2, 9, 14]);
      expect(new ParameterLayout(parameters).count).toBeGreaterThan(0);
      expect(parameters.every(({ shape }) => sizeOf(shape) > 0)).toBe(true);
    }
  });
  it('that patches or levels do not divide are those of the picture continued by zeros, cut to its size', async () => {
    const small = {
      sit: { patchSize: 4, hiddenSize: 8, numHeads: 2, depth: 1 },
      vit: { patchSize: 4, width: 6, heads: 2, depth: 1, mlpWidth: 8 },
      unet: { channelMult: [1, 1], attentionResolutions: [] },
    };
    for (const [kind, key] of [
      ['sit', 'inputSize'],
      ['vit', 'imageSize'],
      ['unet', 'imageSize'],
    ] as const) {
      const [sizes, whole] =
        kind === 'unet'
          ? [
              [3, 5],
              [4, 6],
            ]
          : [
              [5, 7],
              [8, 8],
            ];
      const base = { ...defaultArchitecture({ shape: [1, 8, 8], classes: 0 }, kind), ...small[kind] };
      const [odd, even] = [sizes, whole].map((sides) => buildModel({ ...base, [key]: sides }));
      const layout = new ParameterLayout(odd.parameters);
      // Zero-initialised outputs would hide everything.
      const arena = (await drawn(layout, 2)).map((value, i) => value + 0.1 * Math.sin(i));
      const p = layout.bind(new TensorStorage('weights', 'f32', layout.length, arena));
      const [[h, w], [H, W]] = [sizes, whole];
      const values = Float32Array.from({ length: 2 * h * w }, (_, i) => Math.cos(3 * i));
      const continued = new Float32Array(2 * H * W);
      for (let n = 0; n < 2; n++)
        for (let y = 0; y < h; y++)
          for (let x = 0; x < w; x++) continued[(n * H + y) * W + x] = values[(n * h + y) * w + x];
      const time = tensor([0.3, 0.8]);
      const [got, full] = interpret([
        odd.apply(p, { x: tensor(values, [2, 1, h, w]), time }),
        even.apply(p, { x: tensor(continued, [2, 1, H, W]), time }),
      ]);
      expect(got).toHaveLength(2 * h * w);
      for (let i = 0; i < got.length; i++) {
        const [n, y, x] = [Math.floor(i / (h * w)), Math.floor(i / w) % h, i % w];
        expect(got[i]).toBeCloseTo(full[(n * H + y) * W + x], 10);
      }
      expect(Math.max(...got.map(Math.abs))).toBeGreaterThan(1e-3);
    }
  });
  it('have positions by row and column', () => {
    const [square, wide] = [gridPositions(5)([1, 25, 8], 0, 0), gridPositions(3)([1, 12, 8], 0, 0)];
    for (let row = 0; row < 4; row++)
      for (let column = 0; column < 3; column++)
        expect(wide.subarray((row * 3 + column) * 8, (row * 3 + column + 1) * 8)).toEqual(
          square.subarray((row * 5 + column) * 8, (row * 5 + column + 1) * 8),
        );
  });
});

describe('a classifier whose file claims other sizes', () => {
  it('is refused in one line, before anything of them is made', async () => {
    const config = defaultClassifier({ shape: [1, 8, 6], classes: 3 });
    expect(config.pooled).toBe(1);
    const { tensors } = exportClassifier(createClassifier(config, 0));
    const sizes = [1e6, 2 ** 24, 2 ** 40, 1e300, -1, 1.5, null];
    for (const claim of sizes.flatMap((size) => [
      { ...config, features: size },
      { ...config, classes: size },
      { ...config, channels: [32, 64, size] },
      { ...config, channels: Array.from({ length: 1e5 }, () => 1) },
      { ...config, imageShape: [1, size, 6] },
      { ...config, imageShape: [size, 8, 6] },
    ])) {
      const file = await fileOf({ 'semiflow-classifier': JSON.stringify(claim) }, tensors);
      expect(await refusal(() => loadClassifier(file))).toMatch(/^claims\.safetensors/);
    }
    const own = await fileOf({ 'semiflow-classifier': JSON.stringify(config) }, tensors);
    expect((await loadClassifier(own)).config).toEqual(config);
  });
});
