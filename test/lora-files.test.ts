import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { prepare as prepareTraining, type TrainFlags } from '../cli/train.js';
import { adapterAt } from '../node/adapter.js';
import { openDevice } from '../node/device.js';
import { readSafetensors, writeSafetensors } from '../node/files.js';
import { modelFolderAt } from '../node/folder.js';
import { evaluate } from '../src/autodiff/eager.js';
import { gradients } from '../src/autodiff/gradients.js';
import { openLora, withLoras, type PeftOptions } from '../src/checkpoint/lora.js';
import { encodeSafetensors, openSafetensors, type SafetensorsFile } from '../src/checkpoint/safetensors.js';
import { bytesSource } from '../src/files/source.js';
import { withAdapters } from '../src/flow/adapter.js';
import { parseDescription } from '../src/flow/description.js';
import { loadComponent, loadFolder } from '../src/flow/folder.js';
import { createNetwork, exportNetwork, loadNetwork, type Network } from '../src/flow/network.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { clipText } from '../src/models/diffusers/clip-text.js';
import { adaptedParameters, loraParameters } from '../src/nn/lora.js';
import { ParameterLayout } from '../src/nn/parameters.js';
import type { Weights } from '../src/nn/weights.js';
import { sum } from '../src/ops/broadcast.js';
import { slice } from '../src/ops/movement.js';
import { mul } from '../src/ops/pointwise.js';
import { random } from '../src/tensor/philox.js';
import { sizeOf, type Shape } from '../src/tensor/shape.js';
import { tensor, type Tensor } from '../src/tensor/tensor.js';
import { runHere } from './support/command-line.js';
import { interpret } from './support/interpreter.js';
import { inFileOrder, load, relative } from './support/parity.js';

const { normal } = random(11);
const numbers = (size: number) => Float32Array.from({ length: size }, () => normal());

/** Modules of a network, linear layers and convolutions, with names that have underscores of their own. */
const shapes: Record<string, Shape> = {
  'down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q': [6, 4],
  'down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0': [5, 6],
  'mid_block.resnets.0.conv_shortcut': [3, 7, 1, 1],
  'up_blocks.1.upsamplers.0.conv': [4, 2, 3, 3],
};
const textShapes: Record<string, Shape> = {
  'text_model.encoder.layers.0.self_attn.q_proj': [4, 4],
  'text_model.encoder.layers.0.mlp.fc1': [8, 4],
};
const parametersOf = (modules: Record<string, Shape>) =>
  Object.entries(modules).map(([name, shape]) => ({ name: `${name}.weight`, shape }));
const weightsOf = (modules: Record<string, Shape>) =>
  new Map(parametersOf(modules).map(({ name, shape }) => [name, numbers(sizeOf(shape))]));
const base = weightsOf(shapes);
const textBase = weightsOf(textShapes);
const reading = (values: ReadonlyMap<string, Float32Array>): Weights => ({
  dtype: 'f32',
  read: async (name) => values.get(name)!.slice(),
});

const rank = 2;
/** A and B of each module, as every file of these tests has them. */
const matrices = new Map(
  Object.entries({ ...shapes, ...textShapes }).map(([name, [outputs, ...inputs]]) => [
    name,
    {
      down: { shape: [rank, ...inputs], data: numbers(rank * sizeOf(inputs)) },
      up: { shape: [outputs, rank, ...inputs.slice(1).map(() => 1)], data: numbers(outputs * rank) },
    },
  ]),
);
/** W + scale · B A, straight from the definition. */
function folded(name: string, from: ReadonlyMap<string, Float32Array>, scale: number): Float32Array {
  const { down, up } = matrices.get(name)!;
  const inputs = down.data.length / rank;
  return from.get(`${name}.weight`)!.map((value, i) => {
    const [row, column] = [Math.floor(i / inputs), i % inputs];
    return (
      value + scale * (up.data[row * rank] * down.data[column] + up.data[row * rank + 1] * down.data[inputs + column])
    );
  });
}

type Tensors = Record<string, { shape: readonly number[]; data: Float32Array }>;
const fileOf = (tensors: Tensors, metadata: Record<string, string> = {}): Promise<SafetensorsFile> =>
  openSafetensors(
    bytesSource(
      encodeSafetensors(
        Object.fromEntries(Object.entries(tensors).map(([name, entry]) => [name, { dtype: 'F32' as const, ...entry }])),
        metadata,
      ),
      'adapter',
    ),
  );

const underscored = (path: string) => path.replaceAll('.', '_');
/** Names of both matrices in the styles that people's files have. */
const styles: Record<string, (path: string, text: boolean) => [down: string, up: string]> = {
  kohya: (path, text) => {
    const module = `lora_${text ? 'te' : 'unet'}_${underscored(path)}`;
    return [`${module}.lora_down.weight`, `${module}.lora_up.weight`];
  },
  peft: (path, text) => {
    const module = `${text ? 'text_encoder' : 'unet'}.${path}`;
    return [`${module}.lora_A.weight`, `${module}.lora_B.weight`];
  },
  'peft, by its own save': (path, text) => {
    const module = `base_model.model.${text ? 'text_encoder.' : ''}${path}`;
    return [`${module}.lora_A.default.weight`, `${module}.lora_B.default.weight`];
  },
  'peft, of a transformer': (path, text) => {
    const module = `${text ? 'text_encoder' : 'transformer'}.${path}`;
    return [`${module}.lora_A.weight`, `${module}.lora_B.weight`];
  },
  updown: (path, text) => {
    const module = text ? `text_encoder.${path}.lora_linear_layer` : `unet.${path}.lora`;
    return [`${module}.down.weight`, `${module}.up.weight`];
  },
};
const adapterOf = (style: keyof typeof styles, modules: readonly string[], alphas?: Record<string, number>): Tensors =>
  Object.fromEntries(
    modules.flatMap((path) => {
      const [down, up] = styles[style](path, path in textShapes);
      const { down: a, up: b } = matrices.get(path)!;
      const alpha = alphas?.[path];
      return [
        [down, a],
        [up, b],
        ...(alpha === undefined
          ? []
          : [[down.replace(/\.lora.*$/, '.alpha'), { shape: [], data: Float32Array.of(alpha) }] as const]),
      ];
    }),
  );
const all = [...Object.keys(shapes), ...Object.keys(textShapes)];

describe.each(Object.keys(styles))('an adapter in the style of %s', (style) => {
  it('is folded into network and text encoder, each passing over what is for the other', async () => {
    const lora = await openLora(await fileOf(adapterOf(style, all)));
    const { weights, notes } = withLoras(reading(base), parametersOf(shapes), [{ lora, scale: 0.5 }]);
    for (const name of Object.keys(shapes))
      expect(relative(await weights.read(`${name}.weight`), folded(name, base, 0.5)), name).toBeLessThan(1e-6);
    expect(notes).toEqual([
      'adapter folded into 4 weights of the network, 0.5 times, its 2 for other networks passed over',
    ]);
    const text = withLoras(reading(textBase), parametersOf(textShapes), [{ lora, scale: 1 }], 'text encoder');
    for (const name of Object.keys(textShapes))
      expect(relative(await text.weights.read(`${name}.weight`), folded(name, textBase, 1)), name).toBeLessThan(1e-6);
  });

  it('takes alpha from its tensors, one a module', async () => {
    const alphas = Object.fromEntries(all.map((name, i) => [name, 1 + i]));
    const lora = await openLora(await fileOf(adapterOf(style, all, alphas)), { lora_alpha: 77, r: rank });
    const { weights } = withLoras(reading(base), parametersOf(shapes), [{ lora, scale: 1 }]);
    for (const name of Object.keys(shapes))
      expect(relative(await weights.read(`${name}.weight`), folded(name, base, alphas[name] / rank))).toBeLessThan(
        1e-6,
      );
  });
});

describe('adapters', () => {
  const [query, out, shortcut, upsampler] = Object.keys(shapes);
  const scaleOf = async (options: PeftOptions | undefined, metadata = {}, modules = Object.keys(shapes)) => {
    const { modules: made } = await openLora(await fileOf(adapterOf('peft', modules), metadata), options);
    return modules.map((path) => made.find(({ key }) => key.endsWith(path))!.scale);
  };

  it("take alpha from PEFT's options beside them, or in their metadata", async () => {
    expect(await scaleOf(undefined)).toEqual([1, 1, 1, 1]);
    expect(await scaleOf({ r: rank, lora_alpha: 8 })).toEqual([4, 4, 4, 4]);
    expect(await scaleOf({ r: rank, lora_alpha: 8, use_rslora: true })).toEqual(Array(4).fill(8 / Math.SQRT2));
    const patterns = {
      r: 16,
      rank_pattern: { '.*': rank },
      lora_alpha: 8,
      alpha_pattern: { [out]: 2, '^down_blocks.0.*attn1.to_[qk]': 6 },
    };
    expect(await scaleOf(patterns)).toEqual([3, 1, 4, 4]);
    const stated = { 'unet.r': rank, 'unet.lora_alpha': 6, 'text_encoder.r': rank, 'text_encoder.lora_alpha': 2 };
    const metadata = { lora_adapter_metadata: JSON.stringify(stated) };
    expect(await scaleOf(undefined, metadata, [query, ...Object.keys(textShapes)])).toEqual([3, 1, 1]);
  });

  it('add up, in any number and at any scale', async () => {
    const one = await openLora(await fileOf(adapterOf('kohya', [query, upsampler])));
    const two = await openLora(await fileOf(adapterOf('updown', [shortcut, upsampler])));
    const both = [
      { lora: one, scale: 2 },
      { lora: two, scale: -0.25 },
    ];
    const { weights } = withLoras(reading(base), parametersOf(shapes), both);
    const expected = { [query]: 2, [out]: 0, [shortcut]: -0.25, [upsampler]: 1.75 };
    for (const [name, scale] of Object.entries(expected))
      expect(relative(await weights.read(`${name}.weight`), folded(name, base, scale)), name).toBeLessThan(1e-6);
  });

  it('of attention processors are for the projections, by their former names', async () => {
    const { down, up } = matrices.get(out)!;
    const module = out.replace('.to_out.0', '.processor.to_out_lora');
    const file = await fileOf({ [`${module}.down.weight`]: down, [`${module}.up.weight`]: up });
    const { weights } = withLoras(reading(base), parametersOf(shapes), [{ lora: await openLora(file), scale: 1 }]);
    expect(relative(await weights.read(`${out}.weight`), folded(out, base, 1))).toBeLessThan(1e-6);
  });

  it('of a matrix fit the 1 x 1 convolution that it is, and the other way round', async () => {
    const { down, up } = matrices.get(shortcut)!;
    const file = await fileOf({
      [`unet.${shortcut}.lora_A.weight`]: { ...down, shape: [rank, 7] },
      [`unet.${shortcut}.lora_B.weight`]: { ...up, shape: [3, rank] },
    });
    const { weights } = withLoras(reading(base), parametersOf(shapes), [{ lora: await openLora(file), scale: 1 }]);
    expect(relative(await weights.read(`${shortcut}.weight`), folded(shortcut, base, 1))).toBeLessThan(1e-6);
  });

  const matrix = (...shape: number[]) => ({ shape, data: new Float32Array(sizeOf(shape)).fill(0.5) });
  const ab = { [`unet.${query}.lora_A.weight`]: matrix(2, 4), [`unet.${query}.lora_B.weight`]: matrix(6, 2) };
  it.each<[string, Tensors, PeftOptions | undefined, Record<string, string>, RegExp]>([
    [
      'a module that the network does not have',
      { 'unet.up.9.lora_A.weight': matrix(2, 4), 'unet.up.9.lora_B.weight': matrix(6, 2) },
      undefined,
      {},
      /"unet\.up\.9" fits no weight of the network/,
    ],
    [
      'another width',
      { ...ab, [`unet.${query}.lora_A.weight`]: matrix(2, 5) },
      undefined,
      {},
      /makes a weight of \[6,5\].*has \[6,4\]/,
    ],
    ['ranks that differ', { ...ab, [`unet.${query}.lora_B.weight`]: matrix(6, 3) }, undefined, {}, /have no product/],
    ['one matrix alone', { [`unet.${query}.lora_A.weight`]: matrix(2, 4) }, undefined, {}, /one of its two matrices/],
    [
      'an alpha alone',
      { ...ab, 'unet.other.alpha': matrix() },
      undefined,
      {},
      /"unet\.other\.alpha" belongs to no matrices/,
    ],
    [
      'an alpha that is none',
      { ...ab, [`unet.${query}.alpha`]: { shape: [], data: Float32Array.of(NaN) } },
      undefined,
      {},
      /no finite alpha/,
    ],
    [
      'no adapter',
      { 'net.0.weight': matrix(2, 2) },
      undefined,
      {},
      /"net\.0\.weight" is no part of a low-rank adapter/,
    ],
    ['nothing', {}, undefined, {}, /holds no low-rank adapter/],
    ['DoRA', { ...ab, [`unet.${query}.dora_scale`]: matrix(6, 1) }, undefined, {}, /DoRA/],
    ['LoHa', { [`lora_unet_x.hada_w1_a`]: matrix(6, 1) }, undefined, {}, /LoHa/],
    ['LoKr', { [`lora_unet_x.lokr_w1`]: matrix(6, 1) }, undefined, {}, /LoKr/],
    ['a core tensor', { [`lora_unet_x.lora_mid.weight`]: matrix(2, 2, 3, 3) }, undefined, {}, /core tensor/],
    ['differences', { [`lora_unet_x.diff`]: matrix(2, 2) }, undefined, {}, /whole weights/],
    ['biases', { ...ab, [`unet.${query}.lora_B.bias`]: matrix(6) }, undefined, {}, /biases/],
    ['DoRA by its options', ab, { use_dora: true }, {}, /use_dora/],
    ['options of another rank', ab, { r: 4, lora_alpha: 4 }, {}, /has rank 2.*say 4/],
    ['an alpha that is no number', ab, { r: 2, lora_alpha: 'much' }, {}, /lora_alpha/],
    ['a pattern that never ends', ab, { alpha_pattern: { '(a+)+b': 1 } }, {}, /too involved/],
    ['a pattern that is none', ab, { alpha_pattern: { '[': 1 } }, {}, /no regular expression/],
    ['metadata that are no JSON', ab, undefined, { lora_adapter_metadata: '{' }, /not JSON/],
  ])('with %s are refused by name', async (_, tensors, options, metadata, message) => {
    const file = await fileOf(tensors, metadata);
    const fold = async () =>
      withLoras(reading(base), parametersOf(shapes), [{ lora: await openLora(file, options), scale: 1 }]);
    await expect(fold()).rejects.toThrow(message);
    await expect(fold()).rejects.toMatchObject({ code: 'input', field: 'lora' });
  });
});

describe('the command line', () => {
  const folder = mkdtempSync(join(tmpdir(), 'semiflow-lora-files-'));
  const at = (name: string) => join(folder, name);
  const teacher = createNetwork(
    parseDescription(
      {
        architecture: { kind: 'mlp', dim: 2, width: 5, depth: 1, activation: 'silu', time: 'concat' },
        prediction: 'velocity',
      },
      'test',
    ),
    1,
  );
  const write = (name: string, tensors: Tensors) =>
    writeSafetensors(
      at(name),
      Object.fromEntries(Object.entries(tensors).map(([key, entry]) => [key, { dtype: 'F32' as const, ...entry }])),
      {},
    );
  const [down, up] = [
    { shape: [1, 3], data: Float32Array.of(1, 2, 3) },
    { shape: [5, 1], data: Float32Array.of(1, 0, -1, 2, 4) },
  ];
  const prepare = async () => {
    const { tensors, metadata } = exportNetwork(teacher);
    await writeSafetensors(at('teacher.safetensors'), tensors, metadata);
    await write('kohya.safetensors', {
      'lora_unet_net_0.lora_down.weight': down,
      'lora_unet_net_0.lora_up.weight': up,
    });
    mkdirSync(at('peft'), { recursive: true });
    writeFileSync(at('peft/adapter_config.json'), JSON.stringify({ r: 1, lora_alpha: 3 }));
    await write('peft/adapter_model.safetensors', {
      'base_model.model.net.0.lora_A.weight': down,
      'base_model.model.net.0.lora_B.weight': up,
    });
  };

  it('folds several by --lora FILE[:scale], a folder of PEFT with its alpha', async () => {
    await prepare();
    const out = at('merged.safetensors');
    const adapters = ['--lora', `${at('kohya.safetensors')}:0.5`, '--lora', at('peft')];
    const { line } = await runHere(['merge', '--model', at('teacher.safetensors'), ...adapters, '--out', out]);
    expect(line).toBe('');
    const merged = await loadNetwork(await readSafetensors(out));
    const [before, after] = [await teacher.weights.read('net.0.weight'), await merged.weights.read('net.0.weight')];
    const wanted = before.map((value, i) => value + 3.5 * up.data[Math.floor(i / 3)] * down.data[i % 3]);
    expect(relative(after, wanted)).toBeLessThan(1e-6);
    expect(await merged.weights.read('net.2.weight')).toEqual(await teacher.weights.read('net.2.weight'));
    expect((await runHere(['info', at('kohya.safetensors'), at('peft/adapter_model.safetensors')])).line).toBe('');
    expect((await runHere(['info', at('teacher.safetensors'), '--lora', at('peft')])).line).toBe('');
  });

  it('prepares a training of the adapted teacher, which remembers its adapters', async () => {
    await prepare();
    const lora = [`${at('kohya.safetensors')}:0.5`];
    const { from, lora: remembered } = await prepareTraining({
      teacher: at('teacher.safetensors'),
      lora,
    } as TrainFlags);
    expect(remembered).toEqual(lora);
    const before = await teacher.weights.read('net.0.weight');
    const wanted = before.map((value, i) => value + 0.5 * up.data[Math.floor(i / 3)] * down.data[i % 3]);
    expect(relative(await (from as Network).weights.read('net.0.weight'), wanted)).toBeLessThan(1e-6);
    await expect(prepareTraining({ data: 'checkerboard', method: 'meanflow', lora } as TrainFlags)).rejects.toThrow(
      /adapts a teacher/,
    );
  });

  it('says of an adapter in the place of a network what it is', async () => {
    await prepare();
    const [adapter, out] = [at('kohya.safetensors'), at('none.safetensors')];
    const { line, exitCode } = await runHere(['merge', '--model', adapter, '--lora', adapter, '--out', out]);
    expect(line).toMatch(/kohya\.safetensors is an adapter, not a network: fold it into its network/);
    expect(exitCode).toBe(2);
  });

  it.each([
    [['peft:two'], /peft:two.*no such file/],
    [['teacher.safetensors'], /"net\.0\.(weight|bias)" is no part of a low-rank adapter/],
    [['.'], /holds no adapter/],
  ])('refuses %s in one line', async (names, message) => {
    await prepare();
    const given = names.flatMap((name) => ['--lora', at(name)]);
    const { line, exitCode } = await runHere(['info', at('teacher.safetensors'), ...given]);
    expect(line).toMatch(message);
    expect(exitCode).toBe(2);
  });
});

const fixtures = '../shared/fixtures/diffusers';
const found = existsSync(fixtures);
if (!found) console.log(`skipped: the recorded adapters are not here (${fixtures})`);
const onDevice = process.env.COMPONENTS === 'device';
if (found && !onDevice)
  console.log('recorded adapters by their weights and on the host: COMPONENTS=device runs the UNets, with gradients');

describe.skipIf(!found)('recorded adapters', () => {
  const folder = `${fixtures}/lora-tiny`;
  const recorded = () => readSafetensors(`${folder}/io.safetensors`);
  const opened = async (style: string) => {
    const { file, options } = await adapterAt(`${folder}/pytorch_lora_weights.${style}.safetensors`);
    return openLora(file, options);
  };
  const unet = async () => (await loadFolder((await modelFolderAt(`${fixtures}/sd-inpaint-tiny`))!.folder)).network;
  const names = ['kohya', 'peft', 'updown', 'attn-procs'];

  it.each(names)('%s: fused weights, and those that kohya gives', async (style) => {
    const io = await recorded();
    const network = await unet();
    const parameters = network.layout.parameters;
    const fold = async (name: string) =>
      withLoras(network.weights, parameters, [{ lora: await opened(name), scale: 1 }]);
    const [made, reference] = [await fold(style), await fold('kohya')];
    let changed = 0;
    for (const { name } of parameters) {
      const [values, before] = [await made.weights.read(name), await network.weights.read(name)];
      const other = values.some((value, i) => value !== before[i]);
      changed += Number(other);
      if (style !== 'attn-procs' || other)
        expect(relative(values, await reference.weights.read(name)), name).toBeLessThan(1e-5);
      const fused = `fused.${name}`;
      if (io.tensors.has(fused) && (style !== 'attn-procs' || other))
        expect(relative(values, await io.readF32(fused)), fused).toBeLessThan(1e-5);
    }
    expect(changed).toBe(style === 'attn-procs' ? 88 : 198);
  });

  it('of the text encoder', async () => {
    const io = await recorded();
    const { folder: place } = (await modelFolderAt(`${fixtures}/sd-inpaint-tiny/text_encoder`))!;
    const { parts, layout, weights } = await loadComponent(place, clipText);
    const tokens = tensor(Uint32Array.from(await io.readF32('input_ids')), io.tensors.get('input_ids')!.shape);
    for (const style of ['kohya', 'peft', 'updown']) {
      const lora = await opened(style);
      const folded = withLoras(weights, layout.parameters, [{ lora, scale: 1 }], 'text encoder');
      const arena = await layout.collect(folded.weights);
      const p = layout.bind(new TensorStorage('weights', 'f32', layout.length, arena));
      const [out] = interpret([parts.encode(p, slice(tokens, 0, 0, 1)).last]);
      expect(relative(out, (await io.readF32('text_out')).subarray(0, out.length)), style).toBeLessThan(1e-4);
    }
    const none = withLoras(
      weights,
      layout.parameters,
      [{ lora: await opened('attn-procs'), scale: 1 }],
      'text encoder',
    );
    expect(none.notes[0]).toMatch(/into 0 weights .*88 for other networks passed over/);
  });

  it.runIf(onDevice)('outputs of the UNet, and gradients of A and B', async () => {
    const io = await recorded();
    const network = await unet();
    const { model, layout } = network;
    const device = await openDevice({ toggles: 'fast' });
    const [x, time, context, g] = await Promise.all(
      ['x', 'timesteps', 'encoder_hidden_states', 'cotangent'].map((name) => load(io, name)),
    );
    const inputs = { x: slice(x, 1, 0, 4), time, conditions: { channels: slice(x, 1, 4, 9), context } };
    const cases: [string, string, number][] = [
      ['out', 'kohya', 1],
      ['out_scale0.5', 'peft', 0.5],
      ['out_attn_only', 'attn-procs', 1],
    ];
    for (const [name, style, scale] of cases) {
      const file = await readSafetensors(`${folder}/pytorch_lora_weights.${style}.safetensors`);
      const { network: folded } = await withAdapters(network, [{ file, scale }]);
      const arena = await layout.collect(folded.weights);
      const p = layout.bind(new TensorStorage('weights', 'f32', layout.length, arena));
      const out = await evaluate(device, model.apply(p, inputs));
      expect(relative(out, await io.readF32(name)), name).toBeLessThan(1e-4);
    }
    // Trained, A and B lie in an arena of their own; the recorded ones are those of kohya's file.
    const file = await readSafetensors(`${folder}/pytorch_lora_weights.kohya.safetensors`);
    const { modules } = await openLora(file);
    const wanted = new Set(modules.flatMap(({ paths }) => paths));
    const adapted = { test: (name: string) => wanted.has(underscored(name.replace(/\.weight$/, ''))) } as RegExp;
    const options = { rank: 4, alpha: 2 };
    const own = new ParameterLayout(loraParameters(model.parameters, adapted, new Set(), options.rank));
    const nameOf = (key: string) => {
      const [, module, side] = /^base_model\.model\.(.+)\.lora_([AB])\.weight$/.exec(key)!;
      return `lora_unet_${underscored(module)}.lora_${side === 'A' ? 'down' : 'up'}.weight`;
    };
    const arena = await own.collect({ dtype: 'f32', read: (key) => file.readF32(nameOf(key)) });
    const trained = own.bind(new TensorStorage('adapter', 'f32', own.length, arena));
    const fixed = layout.bind(
      new TensorStorage('weights', 'f32', layout.length, await layout.collect(network.weights)),
    );
    const p = adaptedParameters(fixed, trained, model.parameters, adapted, new Set(), options);
    const slopes = gradients(
      sum(mul(model.apply(p, inputs), g)),
      own.parameters.map(({ name }) => trained(name)),
    );
    const computed: Record<string, Tensor> = Object.fromEntries(
      own.parameters.map(({ name, order }, i) => [name, inFileOrder(slopes[i], order)]),
    );
    const results = await evaluate(device, computed);
    for (const { name } of own.parameters) {
      const key = name.replace('base_model.model.', 'grad.lora.');
      expect(relative(results[name], await io.readF32(key)), key).toBeLessThan(5e-4);
    }
    expect(own.parameters.length).toBe([...io.tensors.keys()].filter((name) => name.startsWith('grad.lora.')).length);
    device.dispose();
  });
});
