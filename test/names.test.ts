import { describe, expect, it } from 'vitest';
import { encodeSafetensors, type TensorData } from '../src/checkpoint/safetensors.js';
import { openWeights } from '../src/checkpoint/weights.js';
import { bytesSource } from '../src/files/source.js';
import { parseDescription, type Description } from '../src/flow/description.js';
import { createNetwork, fitFor, loadNetwork } from '../src/flow/network.js';
import { buildModel } from '../src/models/index.js';
import { gridPositions } from '../src/nn/initializers.js';
import { UserError } from '../src/errors.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { sizeOf, type Shape } from '../src/tensor/shape.js';
import { tensor } from '../src/tensor/tensor.js';
import { interpret } from './support/interpreter.js';

const sizes = {
  sit: { inputSize: 8, patchSize: 4, inChannels: 1, hiddenSize: 8, depth: 2, numHeads: 2, numClasses: 3 },
  vit: { imageSize: 8, patchSize: 4, channels: 1, width: 8, depth: 2, heads: 2, mlpWidth: 12, norm: 'pre', classes: 3 },
  unet: {
    imageSize: 4,
    inChannels: 1,
    modelChannels: 32,
    numResBlocks: 1,
    channelMult: [1],
    numHeads: 1,
    numClasses: 3,
  },
  mlp: { dim: 2, width: 8, depth: 2, activation: 'silu', time: 'concat' },
};
type Kind = keyof typeof sizes;
const described = (kind: Kind, others: object = {}): Description =>
  parseDescription({ architecture: { kind, ...sizes[kind], ...others }, prediction: 'velocity' }, 'the description');

type Shapes = Record<string, Shape>;
const shapesOf = (description: Description): Shapes =>
  Object.fromEntries(buildModel(description.architecture).parameters.map(({ name, shape }) => [name, shape]));

/** A file of numbers under names, opened as one that is described. */
async function load(shapes: Shapes, description: Description, chosen?: string) {
  const entry = ([name, shape]: [string, Shape], i: number): [string, TensorData] => [
    name,
    { dtype: 'F32', shape, data: new Float32Array(sizeOf(shape)).fill(i + 1) },
  ];
  const bytes = encodeSafetensors(Object.fromEntries(Object.entries(shapes).map(entry)));
  const file = await openWeights(bytesSource(bytes, 'w.safetensors'), { fit: fitFor(description), chosen });
  return { file, network: await loadNetwork(file, description) };
}

async function told(action: Promise<unknown>): Promise<string> {
  const error = await action.then(
    () => new Error('nothing was refused'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UserError);
  expect((error as UserError).message).toMatch(/^w\.safetensors/);
  return (error as UserError).message;
}

const prefixed = (prefix: string, shapes: Shapes): Shapes =>
  Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [prefix + name, shape]));
const kinds = Object.keys(sizes) as Kind[];

describe('tensors that nobody asks for', () => {
  it.each(kinds)('are passed over with a line beside a %s', async (kind) => {
    const description = described(kind);
    const own = shapesOf(description);
    const others: Shapes = {
      'projectors.0.0.weight': [4, 4],
      'discriminator.head.bias': [1],
      step: [1],
      'loss_fn.logvar': [1],
      n_averaged: [1],
    };
    const { file, network } = await load({ ...others, ...own }, description);
    expect(file.notes).toEqual([
      'passed over: 5 tensors that the network does not have (discriminator.head.bias, loss_fn.logvar, n_averaged, projectors.0.0.weight, …)',
    ]);
    const plain = await load(prefixed('module.model.', own), description);
    expect(plain.file.notes).toEqual(['the names without module.model. in front']);
    // The same numbers, whatever lies beside: the first of the others count five more.
    const [name] = Object.keys(own).slice(-1);
    const [a, b] = [await network.weights.read(name), await plain.network.weights.read(name)];
    expect(a[0] - b[0]).toBe(5);
    const within = await load({ ...prefixed('net.ema.', own), ...prefixed('vae.', { 'encoder.x': [1] }) }, description);
    expect(within.file.notes).toEqual([
      'the names without net.ema. in front',
      'passed over: 1 tensor that the network does not have (vae.encoder.x)',
    ]);
  });

  it.each(kinds)('raw weights of a %s beside their average are never guessed between', async (kind) => {
    const description = described(kind);
    const own = shapesOf(description);
    const both = { ...prefixed('model.', own), ...prefixed('model_ema.', own) };
    expect(await told(load(both, description))).toMatch(
      /several sets of weights that fit, whose names begin with "model\." and "model_ema\.": choose one \(model or model_ema\)/,
    );
    const { network } = await load(both, description, 'model_ema');
    const [first] = Object.keys(own);
    expect((await network.weights.read(first))[0]).toBe(Object.keys(own).length + 1);
    expect(await told(load(both, description, 'other'))).toMatch(
      /no weights at "other": its names begin with model, model_ema/,
    );
    const beside = { ...own, ...prefixed('ema.', own) };
    expect(await told(load(beside, description))).toMatch(/begin with "ema\." and "": choose one \(ema or \.\)/);
    expect((await (await load(beside, description, '.')).network.weights.read(first))[0]).toBe(1);
  });

  it('but not what makes it another network', async () => {
    for (const [kind, extra, cause] of [
      ['sit', 'blocks.2.attn.qkv.weight', /is it deeper than described/],
      ['sit', 'blocks.0.attn.q_norm.weight', /is the described architecture the file’s/],
      ['vit', 'transformer.7.norm1.bias', /is it deeper than described/],
      ['mlp', 'net.6.weight', /is it deeper than described/],
      ['unet', 'input_blocks.0.1.qkv.weight', /./],
    ] as const)
      expect(await told(load({ ...shapesOf(described(kind)), [extra]: [8] }, described(kind)))).toMatch(cause);
    // Classes that the description does not know.
    for (const [kind, without] of [
      ['sit', { numClasses: 0 }],
      ['vit', { classes: 0 }],
      ['unet', { numClasses: 0 }],
    ] as const)
      expect(await told(load(shapesOf(described(kind)), described(kind, without)))).toMatch(
        /holds "(y_|label_)\S+", which the described architecture does not have: does it know classes/,
      );
  });
});

describe('a near miss names the tensor and the likely cause', () => {
  const own = shapesOf(described('sit'));
  const name = 'blocks.1.mlp.fc1.weight';
  const cases: [string, Shapes, Description, RegExp][] = [
    [
      'transposed',
      { ...own, [name]: [...own[name]].reverse() },
      described('sit'),
      /"blocks\.1\.mlp\.fc1\.weight" has shape \[8,32\].*it is transposed/,
    ],
    [
      'another width',
      shapesOf(described('sit', { hiddenSize: 16 })),
      described('sit'),
      /another width is described, 8 where the file has 16/,
    ],
    [
      'another patch',
      shapesOf(described('sit', { patchSize: 2, inputSize: 4 })),
      described('sit'),
      /"x_embedder\.proj\.weight" has shape \[8,1,2,2\].*another patch or kernel/,
    ],
    [
      'another size of picture',
      shapesOf(described('sit', { inputSize: 16 })),
      described('sit'),
      /"pos_embed" .*16 places, not 4: another size of picture/,
    ],
    [
      'no null row',
      { ...own, 'y_embedder.embedding_table.weight': [3, 8] },
      described('sit'),
      /no row for no class: say nullClass: false/,
    ],
    [
      'another number of classes',
      { ...own, 'y_embedder.embedding_table.weight': [11, 8] },
      described('sit'),
      /another number of classes/,
    ],
    [
      'less depth',
      shapesOf(described('sit', { depth: 1 })),
      described('sit'),
      /has no tensor "blocks\.1\.attn\.qkv\.weight": there are 1 such, more are described/,
    ],
    [
      'positions that are not saved',
      shapesOf(described('sit', { savedPositions: false })),
      described('sit'),
      /no tensor "pos_embed": .*savedPositions: false/,
    ],
    [
      'no bias',
      shapesOf(described('sit', { qkvBias: false })),
      described('sit'),
      /no tensor "blocks\.0\.attn\.qkv\.bias": is that layer without a bias/,
    ],
    [
      'another name',
      { ...own, 'blocks.1.mlp.fc3.weight': own[name] },
      described('sit', {}),
      /holds "blocks\.1\.mlp\.fc3\.weight"/,
    ],
    [
      'another network',
      shapesOf(described('mlp')),
      described('sit'),
      /none of its 6 tensors \(net\.0\.bias, .*\) is of the described/,
    ],
    [
      'a prefix and another width',
      prefixed('model.', shapesOf(described('vit', { width: 16 }))),
      described('vit'),
      /"model\.pos_embed" has shape \[1,4,16\]/,
    ],
    [
      'a matrix for a convolution',
      { ...own, 'x_embedder.proj.weight': [8, 16] },
      described('sit'),
      /the same weights in another form/,
    ],
  ];
  it.each(cases)('%s', async (_, shapes, description, expected) =>
    expect(await told(load(shapes, description))).toMatch(expected),
  );

  it('a name that is written otherwise', async () => {
    const { [name]: shape, ...rest } = own;
    const message = await told(load({ ...rest, 'blocks.1.mlp.up.weight': shape }, described('sit')));
    expect(message).toMatch(/no tensor "blocks\.1\.mlp\.fc1\.weight": /);
  });
});

describe('variants that a description can state', () => {
  it('positions that are not saved are the fixed ones', async () => {
    const [saved, fixed] = [described('sit'), described('sit', { savedPositions: false })];
    const outputs = [];
    for (const description of [saved, fixed]) {
      const { layout, model, weights } = createNetwork(description, 3);
      const arena = await layout.collect(weights);
      const position = layout.parameters.findIndex((parameter) => parameter.name === 'pos_embed');
      expect(position < 0).toBe(description === fixed);
      if (position >= 0) arena.set(gridPositions(2)([1, 4, 8], 0, 0), layout.spanOf(position).start);
      // The same weights, by their names.
      layout.parameters.forEach((parameter, i) => {
        const { start, end } = layout.spanOf(i);
        if (parameter.name === 'pos_embed') return;
        for (let k = start; k < end; k++) arena[k] = Math.sin(k - start + parameter.name.length);
      });
      const storage = new TensorStorage('w', 'f32', arena.length, arena);
      const x = tensor(
        Float32Array.from({ length: 64 }, (_, i) => Math.sin(i)),
        [1, 1, 8, 8],
      );
      const inputs = { x, time: tensor([0.4]), labels: tensor(Uint32Array.of(1)) };
      outputs.push([...interpret([model.apply(layout.bind(storage), inputs)])[0]]);
    }
    expect(outputs[1]).toEqual(outputs[0]);
    expect(new Set(outputs[0]).size).toBeGreaterThan(10);
  });

  it.each(['sit', 'vit'] as const)('a table of classes of a %s without a row for none', (kind) => {
    const { parameters, nullClass, classes, apply, sampleShape } = buildModel(
      described(kind, { nullClass: false }).architecture,
    );
    const table = parameters.find(({ name }) => name.startsWith('y_'))!;
    expect([table.shape[0], nullClass, classes]).toEqual([3, false, 3]);
    const x = tensor(new Float32Array(64), [1, ...sampleShape]);
    const shapeOf = new Map(parameters.map((parameter) => [parameter.name, parameter.shape]));
    const weights = (name: string) => tensor(new Float32Array(sizeOf(shapeOf.get(name)!)), shapeOf.get(name)!);
    expect(() => apply(weights, { x, time: tensor([0]) })).toThrow(/no sample without a class/);
  });
});
