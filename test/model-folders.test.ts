import { mkdtempSync, mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSafetensors } from '../node/files.js';
import { modelFolderAt } from '../node/folder.js';
import { Float16Array } from '@petamoriken/float16';
import { encodeSafetensors, type TensorData } from '../src/checkpoint/safetensors.js';
import { memoryStore, type Store } from '../src/files/store.js';
import { folderDescription, loadFolder, openFolder } from '../src/flow/folder.js';
import { alphaBars } from '../src/flow/noise-schedule.js';
import { fitNetwork, loadNetwork } from '../src/flow/network.js';
import { lawOf } from '../src/flow/scheduler-config.js';
import { buildModel } from '../src/models/index.js';
import { ParameterLayout, type Parameter } from '../src/nn/parameters.js';
import { runHere } from './support/command-line.js';
import { arenaOf } from './support/weights.js';
import { archive, ordered, tensor } from './pickle-maker.js';

const config = {
  _class_name: 'UNet2DModel',
  _diffusers_version: '0.4.1',
  norm_num_groups: 2,
  block_out_channels: [4],
  down_block_types: ['AttnDownBlock2D'],
  up_block_types: ['UpBlock2D'],
  layers_per_block: 1,
  attention_head_dim: 2,
  sample_size: 4,
};
const scheduler = { _class_name: 'DDPMScheduler', num_train_timesteps: 1000 };
const { _class_name: _, _diffusers_version: __, ...sizes } = config;
const { parameters } = buildModel({ kind: 'unet-2d', ...sizes });
const layout = new ParameterLayout(parameters);
// Numbers that half holds as they are.
const state = parameters.map((parameter, i) => ({
  ...parameter,
  values: Float32Array.from(parameter.initializer(parameter.shape, 3, i), (value) => Math.round(value * 256) / 256),
}));
type Entry = Pick<Parameter, 'name' | 'shape'> & { values: Float32Array };

const whole: TensorData['dtype'] = 'F32';
const file = (entries: readonly Entry[], half = false): Uint8Array =>
  encodeSafetensors(
    Object.fromEntries(
      entries.map(({ name, shape, values }) => [
        name,
        half
          ? { dtype: 'F16' as const, shape, data: new Uint16Array(new Float16Array(values).buffer) }
          : { dtype: whole, shape, data: values },
      ]),
    ),
  );
const picklesOf = (entries: readonly Entry[]): Uint8Array =>
  archive(
    ordered(
      Object.fromEntries(
        entries.map(({ name, shape, values }, i) => [
          name,
          tensor({ key: `${i}`, length: values.length, shape: [...shape] }),
        ]),
      ),
    ),
    Object.fromEntries(entries.map(({ values }, i) => [`${i}`, new Uint8Array(values.buffer)])),
  );
const indexOf = (parts: Record<string, readonly Entry[]>): string =>
  JSON.stringify({
    metadata: { total_size: 1 },
    weight_map: Object.fromEntries(
      Object.entries(parts).flatMap(([path, entries]) => entries.map(({ name }) => [name, path])),
    ),
  });

/** A folder in memory. */
async function store(files: Record<string, Uint8Array | string | object>): Promise<Store> {
  const made = memoryStore('folder');
  for (const [path, content] of Object.entries(files))
    await made.write(
      path,
      typeof content === 'string' || content instanceof Uint8Array ? content : JSON.stringify(content),
    );
  return made;
}

const stem = 'diffusion_pytorch_model';
const halves = [state.slice(0, 9), state.slice(9)];
const former = (name: string) =>
  name
    .replace('.to_q.', '.query.')
    .replace('.to_k.', '.key.')
    .replace('.to_v.', '.value.')
    .replace('.to_out.0.', '.proj_attn.');
const renamed = state.map((entry) => ({ ...entry, name: former(entry.name) }));
const asConvolutions = state.map((entry) =>
  /to_q\.weight/.test(entry.name) ? { ...entry, shape: [...entry.shape, 1, 1] } : entry,
);
const extra: Entry = { name: 'num_batches_tracked', shape: [1], values: new Float32Array(1) };

const forms: Record<string, { files: Record<string, Uint8Array | string | object>; variant?: string; note?: RegExp }> =
  {
    'one safetensors file': { files: { [`${stem}.safetensors`]: file(state) } },
    'PyTorch beside an adapter and an optimizer': {
      files: {
        [`${stem}.bin`]: picklesOf(state),
        'pytorch_lora_weights.safetensors': file([extra]),
        'optimizer.bin': picklesOf([extra]),
      },
    },
    'shards with an index': {
      files: {
        [`${stem}-00001-of-00002.safetensors`]: file(halves[0]),
        [`${stem}-00002-of-00002.safetensors`]: file(halves[1]),
        [`${stem}.safetensors.index.json`]: indexOf({
          [`${stem}-00001-of-00002.safetensors`]: halves[0],
          [`${stem}-00002-of-00002.safetensors`]: halves[1],
        }),
      },
    },
    'shards of PyTorch, of a variant alone': {
      files: {
        [`${stem}.fp16-00001-of-00002.bin`]: picklesOf(halves[0]),
        [`${stem}.fp16-00002-of-00002.bin`]: picklesOf(halves[1]),
        [`${stem}.bin.index.fp16.json`]: indexOf({
          [`${stem}.fp16-00001-of-00002.bin`]: halves[0],
          [`${stem}.fp16-00002-of-00002.bin`]: halves[1],
        }),
      },
      note: /index.fp16.json, the only ones/,
    },
    'a variant in half, the only one': {
      files: { [`${stem}.fp16.safetensors`]: file(state, true) },
      note: /fp16.safetensors, the only ones/,
    },
    'a variant that is chosen': {
      files: {
        [`${stem}.fp16.safetensors`]: file(state, true),
        [`${stem}.non_ema.safetensors`]: file(
          renamed.map((entry) => ({ ...entry, values: entry.values.map(() => 7) })),
        ),
        [`${stem}.safetensors`]: file(state.map((entry) => ({ ...entry, values: entry.values.map(() => 7) }))),
      },
      variant: 'fp16',
    },
    'safetensors before PyTorch, plain before variants': {
      files: {
        [`${stem}.safetensors`]: file(state),
        [`${stem}.bin`]: picklesOf([extra]),
        [`${stem}.fp16.safetensors`]: file([extra]),
      },
    },
    'former names': { files: { [`${stem}.bin`]: picklesOf(renamed) }, note: /former names/ },
    'matrices kept as 1 x 1 convolutions': { files: { [`${stem}.safetensors`]: file(asConvolutions) } },
    'a tensor that nobody asks for': {
      files: { [`${stem}.safetensors`]: file([...state, extra]) },
      note: /passed over.*num_batches_tracked/,
    },
  };

describe('weights in a folder', () => {
  it.each(Object.entries(forms))('%s', async (_, { files, variant, note }) => {
    const folder = await openFolder(
      await store({ 'config.json': config, 'scheduler_config.json': scheduler, ...files }),
    );
    const { network, file: opened } = await loadFolder(folder!, variant);
    const wanted = await layout.collect({
      dtype: 'f32',
      read: async (name) => state.find((entry) => entry.name === name)!.values.slice(),
    });
    expect(await arenaOf(network)).toEqual(wanted);
    const notes = (opened.notes ?? []).join('; ');
    if (note) expect(notes).toMatch(note);
    else expect(notes).toBe('');
  });

  const plain = { [`${stem}.safetensors`]: file(state) };
  it.each<[string, Record<string, Uint8Array | string | object>, RegExp, string?]>([
    ['no weights', {}, /holds no weights: diffusion_pytorch_model.safetensors is looked for/],
    ['an adapter alone', { 'pytorch_lora_weights.safetensors': file([extra]) }, /holds no weights/],
    [
      'two variants',
      { [`${stem}.fp16.safetensors`]: file(state), [`${stem}.non_ema.bin`]: picklesOf(state) },
      /holds no plain weights, but the variants fp16, non_ema: choose one/,
    ],
    ['another variant', plain, /holds no bf16 weights, only plain ones/, 'bf16'],
    [
      'a shard that is missing',
      { [`${stem}.safetensors.index.json`]: indexOf({ 'a.safetensors': state }) },
      /names a.safetensors, which the folder does not hold/,
    ],
    [
      'a shard outside',
      { [`${stem}.safetensors.index.json`]: indexOf({ '../a.safetensors': state }) },
      /names \.\.\/a.safetensors, which the folder does not hold/,
    ],
    [
      'a shard with other tensors',
      {
        'a.safetensors': file(halves[0]),
        [`${stem}.safetensors.index.json`]: indexOf({ 'a.safetensors': state }),
      },
      /in a.safetensors, which does not hold it/,
    ],
    ['an index without a map', { [`${stem}.safetensors.index.json`]: {} }, /has no weight_map/],
    ['a tensor that is missing', { [`${stem}.safetensors`]: file(state.slice(1)) }, /has no tensor "conv_in.weight"/],
  ])('%s: one line', async (_, files, message, variant) => {
    const folder = await openFolder(
      await store({ 'config.json': config, 'scheduler_config.json': scheduler, ...files }),
    );
    await expect(loadFolder(folder!, variant)).rejects.toThrow(message);
  });
});

const described = async (files: Record<string, object | string>) =>
  folderDescription((await openFolder(await store(files)))!);
const index = (components: object) => ({ _class_name: 'DDPMPipeline', _diffusers_version: '0.1', ...components });
const alone = { unet: ['diffusers', 'UNet2DModel'], scheduler: ['diffusers', 'DDPMScheduler'] };

describe('folders and what they are', () => {
  const wanted = { prediction: 'noise', dataRange: [-1, 1], path: { kind: 'vp', schedule: 'linear', steps: 1000 } };

  it.each<[string, Record<string, object>]>([
    ['all files in one folder', { 'config.json': config, 'scheduler_config.json': scheduler }],
    [
      'all files in one folder, with an index',
      { 'model_index.json': index(alone), 'config.json': config, 'scheduler_config.json': scheduler },
    ],
    [
      'a folder each',
      { 'model_index.json': index(alone), 'unet/config.json': config, 'scheduler/scheduler_config.json': scheduler },
    ],
  ])('%s', async (_, files) => {
    expect(await described(files)).toMatchObject(wanted);
  });

  it('a component of a whole finds the scheduler beside it, and no other', async () => {
    const place = mkdtempSync(join(tmpdir(), 'semiflow-folders-'));
    for (const name of ['unet', 'scheduler']) mkdirSync(join(place, name));
    writeFileSync(join(place, 'unet', 'config.json'), JSON.stringify(config));
    writeFileSync(join(place, 'scheduler', 'scheduler_config.json'), JSON.stringify(scheduler));
    const ask = async () => folderDescription((await modelFolderAt(join(place, 'unet')))!.folder);
    await expect(ask()).rejects.toThrow(
      /does not say on which path its UNet2DModel was trained: put its scheduler_config/,
    );
    writeFileSync(join(place, 'model_index.json'), JSON.stringify(index(alone)));
    expect(await ask()).toMatchObject(wanted);
    expect((await modelFolderAt(`${join(place, 'unet')}#fp16`))!.variant).toBe('fp16');
    expect(await modelFolderAt(join(place, 'unet', 'config.json'))).toBe(null);
  });

  it('what an autoencoder made smaller are no pixels', async () => {
    const latent = { ...alone, vae: ['diffusers', 'AutoencoderKL'] };
    const files = { 'model_index.json': index(latent), 'unet/config.json': config, 'scheduler_config.json': scheduler };
    expect((await described(files)).dataRange).toBe(undefined);
  });

  it('is no folder of others where nothing says so', async () => {
    expect(await openFolder(await store({ 'config.json': { recipe: 1 } }))).toBe(null);
    expect(await openFolder(await store({ 'run.json': {} }))).toBe(null);
  });

  const both = (options: object) => ({ 'config.json': { ...config, ...options }, 'scheduler_config.json': scheduler });
  const text = { ...config, _class_name: 'UNet2DConditionModel', down_block_types: ['DownBlock2D'] };
  const conditional = (options: object) => ({
    'config.json': { ...text, ...options },
    'scheduler_config.json': scheduler,
  });
  it.each<[string, Record<string, object | string>, RegExp]>([
    [
      'an unknown class',
      both({ _class_name: 'SkyNet' }),
      /holds the class SkyNet, which is none of those that are known/,
    ],
    ['an unknown option', both({ warp: 2 }), /config.json: warp is an option of UNet2DModel that is not supported/],
    [
      'an embedding of another kind',
      both({ time_embedding_type: 'fourier' }),
      /time_embedding_type: "fourier" is not supported, only positional/,
    ],
    ['a block of another kind', both({ down_block_types: ['SkipDownBlock2D'] }), /down_block_types.0: .*DownBlock2D/],
    ['levels that differ', both({ up_block_types: ['UpBlock2D', 'UpBlock2D'] }), /up_block_types: 2 for 1 levels/],
    ['groups that do not divide', both({ norm_num_groups: 3 }), /norm_num_groups: 3 groups do not divide 4 channels/],
    [
      'a head that is too wide',
      both({ attention_head_dim: 8 }),
      /attention_head_dim: a head of 8 is wider than the 4 channels/,
    ],
    ['another type', both({ layers_per_block: 'two' }), /config.json: layers_per_block: /],
    [
      'double cross attention',
      conditional({ dual_cross_attention: true }),
      /dual_cross_attention: true is not supported, only false/,
    ],
    [
      'embeddings of SDXL',
      conditional({ addition_embed_type: 'text_time' }),
      /addition_embed_type: "text_time" is not supported, only null/,
    ],
    [
      'contexts of two widths',
      conditional({
        block_out_channels: [4, 4],
        down_block_types: ['CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'],
        up_block_types: ['UpBlock2D', 'UpBlock2D'],
        cross_attention_dim: [4, 8],
      }),
      /cross_attention_dim: one context cannot have the widths 4 and 8/,
    ],
    [
      'a projection of nothing',
      conditional({ class_embed_type: 'projection' }),
      /projection_class_embeddings_input_dim: projection needs/,
    ],
    ['no JSON', { 'config.json': '{' }, /config.json is no JSON object/],
    [
      'an index without networks',
      { 'model_index.json': index({ scheduler: alone.scheduler }) },
      /no component predicts on a path/,
    ],
    [
      'an index that names what is missing',
      { 'model_index.json': index(alone) },
      /names unet, but there is no unet\/config.json/,
    ],
  ])('%s: one line that names it', async (_, files, message) => {
    await expect(described(files)).rejects.toThrow(message);
  });

  it('options that say nothing of the network are passed over: unknown ones without a value, those of training scripts', async () => {
    expect(await described(both({ new_thing: null, other: false }))).toMatchObject(wanted);
    expect(await described(both({ decay: 0.9999, optimization_step: 7, dropout: 0.3 }))).toMatchObject(wanted);
  });

  it('names that blocks had in the first versions are read', async () => {
    const first = { down_block_types: ['UNetResAttnDownBlock2D'], up_block_types: ['UNetResUpBlock2D'] };
    expect((await described(both(first))).architecture).toEqual((await described(both({}))).architecture);
  });

  it('numbers that JSON does not have, as Python writes them, are no obstacle', async () => {
    const text = JSON.stringify({ ...scheduler, lambda_min_clipped: 0 }).replace(':0', ':-Infinity');
    expect(text).toContain('-Infinity');
    expect(await described({ 'config.json': config, 'scheduler_config.json': text })).toMatchObject(wanted);
  });

  it('heads by their number alone', async () => {
    const heads = { attention_head_dim: null, num_attention_heads: 2, down_block_types: ['CrossAttnDownBlock2D'] };
    expect((await described(conditional(heads))).architecture).toMatchObject({ num_attention_heads: 2 });
    await expect(described(conditional({ ...heads, num_attention_heads: null }))).rejects.toThrow(
      /num_attention_heads: this or attention_head_dim is needed/,
    );
  });
});

describe('a network for other sides and tokens', () => {
  it('has the same weights, and says so in its description', async () => {
    const options = {
      ...config,
      _class_name: 'UNet2DConditionModel',
      in_channels: 9,
      out_channels: 4,
      cross_attention_dim: 3,
      down_block_types: ['CrossAttnDownBlock2D'],
    };
    const { _class_name: _, _diffusers_version: __, ...own } = options;
    const files = await store({ 'config.json': options, 'scheduler_config.json': scheduler });
    const { parameters: wanted } = buildModel({ kind: 'unet-2d-condition', ...own });
    await files.write(
      `${stem}.safetensors`,
      file(wanted.map((p, i) => ({ ...p, values: p.initializer(p.shape, 1, i) }))),
    );
    const { network } = await loadFolder((await openFolder(files))!);
    expect(network.model.conditions).toEqual({ context: { shape: [77, 3] }, channels: { shape: [5, 4, 4] } });
    const fitted = fitNetwork(network, { sample: [4, 6, 5], conditions: { context: [2, 3] } });
    expect(fitted.model.sampleShape).toEqual([4, 6, 5]);
    expect(fitted.model.conditions).toEqual({ context: { shape: [2, 3] }, channels: { shape: [5, 6, 5] } });
    expect(fitted.weights).toBe(network.weights);
    expect(fitted.description.architecture).toMatchObject({ sample_size: [6, 5], context_tokens: 2 });
    expect(fitNetwork(network, { sample: [3, 6, 5] })).toBe(network);
    expect(fitNetwork(network, { sample: [4, 4, 4] })).toBe(network);
  });
});

describe("a scheduler's configuration", () => {
  const law = (stated: object) => lawOf({ _class_name: 'DDIMScheduler', ...stated }, 'scheduler_config.json');
  /** ᾱ by diffusers' formulas, in float64. */
  const cumulated = (betas: number[]) => {
    let product = 1;
    return betas.map((beta) => (product *= 1 - beta));
  };
  const linspace = (low: number, high: number, n: number) =>
    Array.from({ length: n }, (_, i) => low + ((high - low) * i) / (n - 1));
  const squared = (x: number) => x * x;

  it.each<[string, object, string, () => number[]]>([
    ['defaults of DDIM', {}, 'noise', () => linspace(1e-4, 0.02, 1000)],
    [
      'Stable Diffusion',
      { beta_start: 0.00085, beta_end: 0.012, beta_schedule: 'scaled_linear', skip_prk_steps: true },
      'noise',
      () => linspace(Math.sqrt(0.00085), Math.sqrt(0.012), 1000).map(squared),
    ],
    [
      'defaults of LCM',
      { _class_name: 'LCMScheduler' },
      'noise',
      () => linspace(Math.sqrt(0.00085), Math.sqrt(0.012), 1000).map(squared),
    ],
    ['defaults of Heun', { _class_name: 'HeunDiscreteScheduler' }, 'noise', () => linspace(0.00085, 0.012, 1000)],
    [
      'few levels are not stretched',
      { num_train_timesteps: 50, beta_end: 0.1 },
      'noise',
      () => linspace(1e-4, 0.1, 50),
    ],
    [
      'sigmoid',
      { beta_schedule: 'sigmoid', num_train_timesteps: 20, prediction_type: 'sample' },
      'data',
      () => linspace(-6, 6, 20).map((x) => (0.02 - 1e-4) / (1 + Math.exp(-x)) + 1e-4),
    ],
    [
      'cosine',
      { beta_schedule: 'squaredcos_cap_v2', num_train_timesteps: 10, prediction_type: 'v_prediction' },
      'v',
      () => {
        const bar = (t: number) => Math.cos(((t + 0.008) / 1.008) * (Math.PI / 2)) ** 2;
        return Array.from({ length: 10 }, (_, i) => Math.min(1 - bar((i + 1) / 10) / bar(i / 10), 0.999));
      },
    ],
    ['trained betas', { trained_betas: [0.1, 0.5, 0.9], beta_schedule: 'linear' }, 'noise', () => [0.1, 0.5, 0.9]],
    ['the first versions', { predict_epsilon: false }, 'data', () => linspace(1e-4, 0.02, 1000)],
  ])('%s', (_, stated, prediction, betas) => {
    const { path, prediction: got, timeScale } = law(stated);
    expect(got).toBe(prediction);
    expect(timeScale).toBe(1);
    if (path.kind !== 'vp') throw new Error('it is no path of a diffusion');
    const wanted = cumulated(betas());
    expect(path.steps).toBe(wanted.length);
    alphaBars(path).forEach((bar, i) => expect(Math.abs(bar / wanted[i] - 1)).toBeLessThan(1e-9));
  });

  it('rescaled to end in noise alone: the first level stays, the last has no signal, between them √ᾱ is linear in what it was', () => {
    const { path } = law({ rescale_betas_zero_snr: true, prediction_type: 'v_prediction' });
    if (path.kind !== 'vp') throw new Error('it is no path of a diffusion');
    const [bars, plain] = [alphaBars(path), alphaBars({ ...path, zeroTerminal: false })];
    expect(bars[999]).toBe(0);
    expect(bars[0]).toBeCloseTo(plain[0], 12);
    const [first, last, middle] = [plain[0], plain[999], plain[500]].map(Math.sqrt);
    expect(Math.sqrt(bars[500])).toBeCloseTo(((middle - last) * first) / (first - last), 12);
  });

  it('flow matching is the straight path, with velocities, times up to 1000 and steps that its shift moves', () => {
    const flow = (stated: object) => law({ _class_name: 'FlowMatchEulerDiscreteScheduler', ...stated });
    const plain = { path: { kind: 'straight' }, prediction: 'velocity', timeScale: 1000 };
    expect(flow({ shift: 1, base_shift: 0.5, use_dynamic_shifting: false })).toEqual(plain);
    expect(flow({ shift: 3 })).toEqual({ ...plain, timeShift: 3 });
    expect(
      law({
        _class_name: 'UniPCMultistepScheduler',
        prediction_type: 'flow_prediction',
        use_flow_sigmas: true,
        flow_shift: 5,
      }),
    ).toEqual({ ...plain, timeShift: 5 });
  });

  it.each<[string, object, RegExp]>([
    ['a class', { _class_name: 'KarrasVeScheduler' }, /the scheduler KarrasVeScheduler is none of those/],
    ['no class', { _class_name: undefined }, /the scheduler without _class_name is none/],
    ['a schedule', { beta_schedule: 'laplace' }, /beta_schedule: laplace is not supported, only linear, scaled_linear/],
    ['a prediction', { prediction_type: 'score' }, /prediction_type: score is not supported, only epsilon/],
    ['continuous times', { timestep_type: 'continuous' }, /timestep_type: continuous is not supported/],
    [
      'times turned round',
      { _class_name: 'FlowMatchEulerDiscreteScheduler', invert_sigmas: true },
      /invert_sigmas: true is not supported/,
    ],
    ['flow without its noise', { prediction_type: 'flow_prediction' }, /flow_prediction needs use_flow_sigmas/],
    ['a number out of range', { beta_start: 2 }, /scheduler_config.json: beta_start: /],
    ['betas beyond 1', { trained_betas: [0.5, 1.5] }, /trained_betas.1: /],
  ])('%s that is not supported is named', (_, stated, message) => {
    expect(() => law(stated)).toThrow(message);
  });
});

describe('the command line', () => {
  const place = mkdtempSync(join(tmpdir(), 'semiflow-command-'));
  const at = (...path: string[]) => join(place, ...path);
  const put = (folder: string, files: Record<string, Uint8Array | object>) => {
    mkdirSync(at(folder));
    for (const [name, content] of Object.entries(files))
      writeFileSync(at(folder, name), content instanceof Uint8Array ? content : JSON.stringify(content));
    return at(folder);
  };
  const weights = { [`${stem}.safetensors`]: file(state), [`${stem}.fp16.safetensors`]: file(state, true) };
  const plain = put('plain', { 'config.json': config, 'scheduler_config.json': scheduler, ...weights });
  const told = {
    ...config,
    _class_name: 'UNet2DConditionModel',
    in_channels: 4,
    out_channels: 3,
    cross_attention_dim: 3,
  };
  const {
    _class_name: _,
    _diffusers_version: __,
    ...toldSizes
  } = {
    ...told,
    down_block_types: ['CrossAttnDownBlock2D'],
  };
  const conditional = put('conditional', {
    'config.json': { ...toldSizes, _class_name: 'UNet2DConditionModel' },
    'scheduler_config.json': scheduler,
    [`${stem}.safetensors`]: file(
      buildModel({ kind: 'unet-2d-condition', ...toldSizes }).parameters.map((parameter, i) => ({
        ...parameter,
        values: parameter.initializer(parameter.shape, 2, i),
      })),
    ),
  });
  const empty = put('empty', { 'notes.json': {} });
  let count = 0;
  const written = (tensors: Record<string, number[]>) => {
    const path = at(`input-${count++}.safetensors`);
    const entries = Object.entries(tensors).map(([name, shape]) => {
      const values = new Float32Array(shape.reduce((size, extent) => size * extent, 1));
      return { name, shape, values };
    });
    writeFileSync(path, file(entries));
    return path;
  };

  it('says what a folder holds, and bakes it into one file', async () => {
    expect((await runHere(['info', plain, conditional])).line).toBe('');
    for (const more of [[], ['--weights', 'fp16']]) {
      const out = at(`baked-${more.length}.safetensors`);
      expect((await runHere(['import', plain, out, ...more])).line).toBe('');
      const baked = await loadNetwork(await readSafetensors(out));
      const { network } = await loadFolder((await modelFolderAt(plain))!.folder);
      expect(baked.description).toEqual(network.description);
      expect(await arenaOf(baked)).toEqual(await arenaOf(network));
    }
  });

  const x = [2, 4, 6, 4];
  const velocity = (model: string, input: string) =>
    `velocity --model ${model} --input ${input} --t 0.5 --out ${at('v.safetensors')}`.split(' ');
  it.each<[string, string[], RegExp]>([
    ['a folder that is described twice', ['info', plain, '--arch', 'a.yaml'], /^--arch: .* says itself what it is/],
    ['a folder of nothing', ['info', empty], /a folder without a run or a network in it/],
    ['a folder of nothing as a model', velocity(empty, at('x')), /without config.json or model_index.json/],
    ['a variant that is not there', ['info', plain, '--weights', 'bf16'], /^--weights: .* no bf16 weights/],
    [
      'a file without context',
      velocity(conditional, written({ x: [2, 3, 6, 4], channels: [2, 1, 6, 4] })),
      /holds no context: the network is told it of each sample, \[2, 77, 3\], or \[77, 3\] for all/,
    ],
    [
      'further channels of other sides',
      velocity(conditional, written({ x: [2, 3, 6, 4], channels: [2, 1, 4, 4], context: [5, 3] })),
      /channels has shape \[2,1,4,4\] beside 2 samples: \[2, 1, 6, 4\] is wanted, or \[1, 6, 4\] for all/,
    ],
    [
      'a context of another width',
      velocity(conditional, written({ x: [2, 3, 6, 4], channels: [1, 6, 4], context: [2, 5, 4] })),
      /context has shape \[2,5,4\] beside 2 samples: \[2, 5, 3\] is wanted/,
    ],
    [
      'samples of other channels',
      velocity(plain, written({ x })),
      /x has shape \[2,4,6,4\], the network takes \[n, 3, 4, 4\]/,
    ],
    [
      'samples without conditions',
      ['sample', '--model', conditional, '--out', at('s.npy')],
      /^--conditions: the network is told context \[77, 3\] and channels \[1, 4, 4\]: give a safetensors file of it/,
    ],
    [
      'conditions that it does not know',
      ['sample', '--model', plain, '--conditions', written({ text: [2] }), '--out', at('s.npy')],
      /^--conditions: .* holds text, and the network is told nothing beside time and class/,
    ],
  ])('%s is refused in one line', async (_, args, message) => {
    const { line, exitCode } = await runHere(args);
    expect(line).toMatch(message);
    expect(exitCode).toBe(2);
  });
});
