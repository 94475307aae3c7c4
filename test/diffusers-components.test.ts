import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { evaluate } from '../src/autodiff/eager.js';
import { decompose } from '../src/autodiff/decompose.js';
import { gradients, reachable } from '../src/autodiff/gradients.js';
import { openDevice } from '../node/device.js';
import { readSafetensors } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import type { SafetensorsFile } from '../src/checkpoint/safetensors.js';
import type { Device } from '../src/gpu/device.js';
import type { Profile } from '../src/gpu/profile.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { loadComponent, openFolder } from '../src/flow/folder.js';
import { fileWeights } from '../src/flow/network.js';
import type { Component, ComponentParts } from '../src/models/component.js';
import { architectureSchema, buildModel, fitArchitecture } from '../src/models/index.js';
import { predictionOf, type BuildOptions } from '../src/models/model.js';
import { deviation, drawLatents } from '../src/models/diffusers/autoencoder.js';
import { autoencoderKl } from '../src/models/diffusers/autoencoder-kl.js';
import { autoencoderTiny } from '../src/models/diffusers/autoencoder-tiny.js';
import { clipText, clipTextWithProjection } from '../src/models/diffusers/clip-text.js';
import { dit } from '../src/models/diffusers/dit.js';
import { ParameterLayout, type Parameter, type Parameters } from '../src/nn/parameters.js';
import type { Weights } from '../src/nn/weights.js';
import { attention } from '../src/ops/attention.js';
import { sum } from '../src/ops/broadcast.js';
import { slice } from '../src/ops/movement.js';
import { add, mul, toFloat } from '../src/ops/pointwise.js';
import { random } from '../src/tensor/philox.js';
import { sizeOf, type Shape } from '../src/tensor/shape.js';
import { tensor, type Tensor } from '../src/tensor/tensor.js';
import { interpret } from './support/interpreter.js';
import { inFileOrder, load, relative } from './support/parity.js';

const fixtures = '../shared/fixtures/diffusers';
const found = existsSync(fixtures);
if (!found) console.log(`skipped: the recorded diffusers models are not here (${fixtures})`);
const python = '/usr/bin/python3';
const haveTorch = spawnSync(python, ['-c', 'import torch']).status === 0;
if (!haveTorch) console.log(`skipped: ${python} has no torch to compare with (apt-get install python3-torch)`);
// A device compiles these networks for minutes; the kernels have tests of their own.
const onDevice = process.env.COMPONENTS === 'device';
if (found && !onDevice)
  console.log(
    'recorded components on the host, the autoencoder without gradients: COMPONENTS=device runs all on a device',
  );

const json = (path: string) => JSON.parse(readFileSync(`${fixtures}/${path}`, 'utf8'));
const once = { twoTime: false, guided: false, checkpointBlocks: false };

async function loaded<P extends ComponentParts>(path: string, component: Component<P>) {
  const { parts, layout, weights } = await loadComponent(
    (await openFolder(folderStore(`${fixtures}/${path}`)))!,
    component,
  );
  return { parts, p: await bound(layout, weights) };
}

/** Weights on the host, where a device and the interpreter read them. */
const bound = async (layout: ParameterLayout, weights: Weights): Promise<Parameters> =>
  layout.bind(new TensorStorage('weights', 'f32', layout.length, await layout.collect(weights)));

/** What is computed, on the device if there is one. */
async function valuesOf(device: Device | undefined, computed: Record<string, Tensor>) {
  if (device) return (await evaluate(device, computed)) as Record<string, Float32Array>;
  const names = Object.keys(computed);
  return Object.fromEntries(
    interpret(Object.values(computed)).map((values, i) => [names[i], Float32Array.from(values)]),
  );
}

/** Everything that is computed is within the tolerances of what is recorded under the same name. */
async function compare(
  device: Device | undefined,
  io: SafetensorsFile,
  zeros: string[],
  computed: Record<string, Tensor>,
) {
  const results = await valuesOf(device, computed);
  const greatest = (values: Float32Array) => values.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  const slopes = Object.keys(results).filter((name) => name.startsWith('grad.'));
  const largest = Math.max(...(await Promise.all(slopes.map(async (name) => greatest(await io.readF32(name))))));
  for (const [name, values] of Object.entries(results)) {
    if (zeros.includes(name)) expect(greatest(values), name).toBeLessThan(1e-6 * largest);
    // Of fewer samples than are recorded, the first.
    else
      expect(relative(values, (await io.readF32(name)).subarray(0, values.length)), name).toBeLessThan(
        name.startsWith('grad.') ? 5e-4 : 1e-4,
      );
  }
}

const slopesByName = (loss: Tensor, p: Parameters, parameters: readonly Parameter[]) => {
  const slopes = gradients(
    loss,
    parameters.map(({ name }) => p(name)),
  );
  return Object.fromEntries(
    parameters.map(({ name, order }, i) => [`grad.param.${name}`, inFileOrder(slopes[i], order)]),
  );
};

describe.skipIf(!found)('recorded diffusers components', () => {
  let device: Device | undefined;
  beforeAll(async () => {
    if (onDevice) device = await openDevice({ toggles: 'fast' });
  });
  afterAll(() => device?.dispose());

  it('AutoencoderKL', async () => {
    const io = await readSafetensors(`${fixtures}/vae-tiny/io.safetensors`);
    const { parts: vae, p } = await loaded('sd-inpaint-tiny/vae', autoencoderKl);
    const [x, noise, g, latent, latentSlope] = await Promise.all(
      ['x', 'noise', 'cotangent', 'latent_sample', 'grad.latent'].map(async (name) => {
        const all = await load(io, name);
        return onDevice ? all : slice(all, 0, 0, 1);
      }),
    );
    const law = vae.encode(p, x);
    const { logvar, mean } = law;
    await compare(device, io, [], {
      moments: vae.moments(p, x),
      mean,
      mode: mean,
      logvar: logvar!,
      std: deviation(logvar!),
      latent_sample: drawLatents(law, noise),
      ...(onDevice && { 'grad.x': gradients(sum(mul(mean, latentSlope)), [x])[0] }),
    });
    const decoded = vae.decode(p, latent);
    await compare(device, io, [], {
      decoded,
      ...(onDevice && { 'grad.latent': gradients(sum(mul(decoded, g)), [latent])[0] }),
    });
  });

  it('CLIPTextModel', async () => {
    const io = await readSafetensors(`${fixtures}/clip-text-tiny/io.safetensors`);
    const { parts: clip, p } = await loaded('sd-inpaint-tiny/text_encoder', clipText);
    const { shape } = io.tensors.get('input_ids')!;
    const { hidden, last, pooled } = clip.encode(p, tensor(Uint32Array.from(await io.readF32('input_ids')), shape));
    await compare(device, io, json('clip-text-tiny/case.json').zero_gradients, {
      last_hidden_state: last,
      pooler_output: pooled,
      ...Object.fromEntries(hidden.map((state, i) => [`hidden_states.${i}`, state])),
      ...slopesByName(sum(mul(last, await load(io, 'cotangent'))), p, clip.parameters),
    });
  });

  it('DiTTransformer2DModel', async () => {
    const io = await readSafetensors(`${fixtures}/dit-tiny/io.safetensors`);
    const config = Object.entries(json('dit-tiny/config.json')).filter(([key]) => !key.startsWith('_'));
    const model = dit.build(dit.schema.parse(Object.fromEntries(config)), once);
    const layout = new ParameterLayout(model.parameters);
    const file = await readSafetensors(`${fixtures}/dit-tiny/weights.safetensors`);
    const p = await bound(layout, await fileWeights(file, layout));
    const [x, time, g] = await Promise.all(['x', 'timesteps', 'cotangent'].map((name) => load(io, name)));
    const labels = tensor(Uint32Array.from(await io.readF32('class_labels')));
    const out = model.apply(p, { x, time, labels });
    const loss = sum(mul(out, g));
    await compare(device, io, json('dit-tiny/case.json').zero_gradients, {
      out,
      'grad.x': gradients(loss, [x])[0],
      ...slopesByName(loss, p, model.parameters),
    });
  });

  it.each([
    ['sd15-vae', (options: object) => autoencoderKl.build(autoencoderKl.schema.parse(options))],
    ['sd15-text-encoder', (options: object) => clipText.build(clipText.schema.parse(options))],
    ['dit-xl-2-256', (options: object) => dit.build(dit.schema.parse(options), once)],
  ])('%s: names and shapes', (name, build) => {
    const { config, tensors } = json(`real-model-shapes/${name}.json`);
    const made = build(config).parameters.map(({ name, shape }) => [name, shape]);
    expect(Object.fromEntries(made)).toEqual(tensors);
  });
});

interface Case {
  title: string;
  network: string;
  options: Record<string, unknown>;
  component: Component<ComponentParts & { apply(p: Parameters, inputs: Tensor[]): Record<string, Tensor> }>;
  /** Whole numbers, timesteps, or anything. */
  inputs: { shape: Shape; whole?: readonly number[]; times?: boolean }[];
}

/** A component under the outputs that the oracle names. */
const named = <P extends ComponentParts>(
  { schema, build }: Component<P>,
  apply: (parts: P, p: Parameters, inputs: Tensor[]) => Record<string, Tensor>,
): Case['component'] => ({
  schema,
  build: (sizes) => {
    const parts = build(sizes);
    return { parameters: parts.parameters, apply: (p, inputs) => apply(parts, p, inputs) };
  },
});
const kl = named(autoencoderKl, (vae, p, [x, latents]) => ({
  moments: vae.moments(p, x),
  decoded: vae.decode(p, latents),
}));
const tiny = named(autoencoderTiny, (vae, p, [x, latents]) => ({
  encoded: vae.encode(p, x).mean,
  decoded: vae.decode(p, latents),
}));
const clip = named(clipTextWithProjection, (text, p, [tokens]) => {
  const { last, pooled, projected } = text.encode(p, tokens);
  return { last, pooled, projected: projected! };
});
const transformer = named({ schema: dit.schema, build: (sizes) => dit.build(sizes, once) }, (model, p, inputs) => {
  const [x, time, labels] = inputs;
  return { out: model.apply(p, { x, time, labels }) };
});

const klOptions = { norm_num_groups: 2, layers_per_block: 1, latent_channels: 2 };
const cases: Case[] = [
  {
    title: 'an autoencoder of two levels with attention everywhere, on odd sides',
    network: 'AutoencoderKL',
    options: {
      ...klOptions,
      block_out_channels: [2, 4],
      down_block_types: ['AttnDownEncoderBlock2D', 'DownEncoderBlock2D'],
      up_block_types: ['UpDecoderBlock2D', 'AttnUpDecoderBlock2D'],
      act_fn: 'mish',
      in_channels: 1,
    },
    component: kl,
    inputs: [{ shape: [2, 1, 5, 7] }, { shape: [1, 2, 2, 3] }],
  },
  {
    title: 'an autoencoder of one level without convolutions of latents and without attention',
    network: 'AutoencoderKL',
    options: {
      ...klOptions,
      layers_per_block: 2,
      block_out_channels: [4],
      use_quant_conv: false,
      use_post_quant_conv: false,
      mid_block_add_attention: false,
    },
    component: kl,
    inputs: [{ shape: [1, 3, 3, 2] }, { shape: [1, 2, 3, 1] }],
  },
  ...(['nearest', 'bilinear'] as const).map((upsample_fn, i) => ({
    title: `a tiny autoencoder, ${upsample_fn}`,
    network: 'AutoencoderTiny',
    options: {
      encoder_block_out_channels: [3, 3, 3].slice(i),
      decoder_block_out_channels: [5, 5, 5].slice(i),
      num_encoder_blocks: [1, 2, 0].slice(i),
      num_decoder_blocks: [1, 0, 2].slice(i),
      latent_channels: 2,
      act_fn: i ? 'gelu' : 'relu',
      upsample_fn,
      upsampling_scaling_factor: 2 + i,
    },
    component: tiny,
    inputs: [{ shape: [2, 3, 4, 6] }, { shape: [1, 2, 2, 3] }],
  })),
  ...[
    { eos_token_id: 3, hidden_act: 'gelu' },
    { eos_token_id: 2, hidden_act: 'quick_gelu' },
  ].map((own) => ({
    title: `a text encoder whose texts end with ${own.eos_token_id}`,
    network: 'CLIPText',
    options: {
      vocab_size: 11,
      hidden_size: 6,
      intermediate_size: 10,
      projection_dim: 4,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      max_position_embeddings: 7,
      layer_norm_eps: 1e-3,
      ...own,
    },
    component: clip,
    inputs: [{ shape: [3, 5], whole: [1, 3, 4, 3, 10, 9, 2, 9, 0, 1, 7, 7, 7, 8, 3] }],
  })),
  ...[
    { activation_fn: 'geglu', norm_elementwise_affine: true, attention_bias: false, norm_eps: 1e-2 },
    { activation_fn: 'geglu-approximate', sample_size: [4, 6], trained_size: 8, out_channels: null },
    { activation_fn: 'gelu' },
  ].map((own) => ({
    title: `a DiT with ${own.activation_fn}`,
    network: 'DiT',
    options: {
      num_attention_heads: 2,
      attention_head_dim: 6,
      in_channels: 1,
      out_channels: 2,
      num_layers: 2,
      sample_size: 4,
      num_embeds_ada_norm: 3,
      ...own,
    },
    component: transformer,
    inputs: [
      { shape: [2, 1, 4, own.sample_size?.[1] ?? 4] },
      { shape: [2], times: true },
      { shape: [2], whole: [1, 3] },
    ],
  })),
];

describe.skipIf(!haveTorch)('components as PyTorch computes them, in float64', () => {
  const { normal } = random(7);
  const draw = async ({ options, component, inputs }: Case) => {
    const completed = component.schema.parse(options);
    const { parameters, apply } = component.build(completed);
    const state = new Map(
      parameters.map(({ name, shape }) => {
        const scale = 0.7 / Math.sqrt(sizeOf(shape.slice(1)));
        return [name, Float32Array.from({ length: sizeOf(shape) }, () => scale * normal())];
      }),
    );
    const p = await bound(new ParameterLayout(parameters), {
      dtype: 'f32',
      read: async (name) => state.get(name)!.slice(),
    });
    const values = inputs.map(
      ({ shape, whole, times }) =>
        whole ?? Array.from({ length: sizeOf(shape) }, () => Math.fround(times ? Math.abs(300 * normal()) : normal())),
    );
    const x = values.map((list, i) => tensor(inputs[i].whole ? Uint32Array.from(list) : list, inputs[i].shape));
    const outputs = apply(p, x);
    const slopes = Object.fromEntries(
      Object.entries(outputs).map(([name, { shape, size }]) => [
        name,
        { shape, values: Array.from({ length: size }, () => Math.fround(normal())) },
      ]),
    );
    return { completed, parameters, state, p, values, x, outputs, slopes };
  };
  let drawn: Awaited<ReturnType<typeof draw>>[];
  let reference: { outputs: Record<string, number[]>; gradients: number[][] }[];
  beforeAll(async () => {
    drawn = [];
    for (const single of cases) drawn.push(await draw(single));
    const request = cases.map(({ network, inputs }, i) => ({
      network,
      options: drawn[i].completed,
      weights: Object.fromEntries(
        drawn[i].parameters.map(({ name, shape }) => [name, { shape, values: [...drawn[i].state.get(name)!] }]),
      ),
      inputs: inputs.map(({ shape, whole }, k) => ({ shape, values: drawn[i].values[k], real: !whole })),
      slopes: drawn[i].slopes,
    }));
    const { stdout, stderr } = spawnSync(python, ['test/support/components.py'], {
      input: JSON.stringify(request),
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
    if (!stdout) throw new Error(stderr);
    reference = JSON.parse(stdout);
  }, 120_000);

  it.each(cases.map(({ title }, i) => [title, i] as const))('%s', (_, i) => {
    const { outputs, slopes, x, p, parameters } = drawn[i];
    const names = Object.keys(outputs);
    const losses = names.map((name) => sum(mul(outputs[name], tensor(slopes[name].values, slopes[name].shape))));
    const real = x.filter(({ dtype }) => dtype === 'f32');
    const derived = gradients(losses.reduce(add), [...real, ...parameters.map(({ name }) => p(name))]);
    const ordered = derived.map((slope, k) => inFileOrder(slope, parameters[k - real.length]?.order));
    const results = interpret([...names.map((name) => toFloat(outputs[name])), ...ordered]);
    names.forEach((name, k) => expect(relative(results[k], reference[i].outputs[name]), name).toBeLessThan(1e-6));
    const scale = Math.max(...reference[i].gradients.flat().map(Math.abs));
    ordered.forEach((_, k) => {
      const [got, wanted] = [results[names.length + k], reference[i].gradients[k]];
      expect(got.length).toBe(wanted.length);
      const worst = wanted.reduce((most, value, at) => Math.max(most, Math.abs(value - got[at])), 0);
      expect(worst / scale, parameters[k - real.length]?.name ?? `input ${k}`).toBeLessThan(1e-6);
    });
  });
});

describe('a DiT as a backbone', () => {
  const sizes = {
    num_attention_heads: 2,
    attention_head_dim: 4,
    in_channels: 2,
    out_channels: 4,
    num_layers: 2,
    sample_size: 4,
    num_embeds_ada_norm: 3,
  };
  const { normal } = random(5);
  const x = tensor(Float32Array.from({ length: 64 }, normal), [2, 2, 4, 4]);
  const [time, s, w] = [tensor([500, 30]), tensor([0.1, 0]), tensor([2, 4])];
  const t = tensor([0.5, 0.2]);
  const built = (options: Partial<BuildOptions>) => {
    const model = buildModel({ kind: 'dit', ...sizes }, options);
    const values = new Map(
      model.parameters.map((parameter, i) => {
        const { name, shape, student } = parameter;
        // What a student has beyond its teacher begins as it does; all else is random, so that nothing hides behind a zero.
        const own = student ? parameter.initializer(shape, 1, i) : null;
        const { normal } = random(name.length * 100 + i);
        return [name, own ?? Float32Array.from({ length: sizeOf(shape) }, () => 0.3 * normal())];
      }),
    );
    const layout = new ParameterLayout(model.parameters);
    return {
      model,
      layout,
      weights: { dtype: 'f32' as const, read: async (name: string) => values.get(name)!.slice() },
    };
  };

  it('is at the start of a student what it was, with a second time and a scale of guidance that have gradients', async () => {
    const student = built({ twoTime: true, guided: true });
    const p = await bound(student.layout, student.weights);
    const jump = { t, s };
    const labels = tensor(Uint32Array.of(1, 3));
    const one = student.model.apply(p, { x, time, labels });
    const two = student.model.apply(p, { x, time, labels, jump, guidance: w });
    const last = ['jump_embedder.2.weight', 'guidance_embedder.2.weight'].map(p);
    const [alone, told, ...slopes] = interpret([one, two, ...gradients(sum(mul(two, two)), last)]);
    expect(relative(told, alone)).toBeLessThan(1e-12);
    for (const slope of slopes) expect(slope.some((value) => Math.abs(value) > 1e-6)).toBe(true);
    expect(one.shape).toEqual([2, 4, 4, 4]);
    expect(predictionOf(student.model, p, { x, time, labels }).shape).toEqual([2, 2, 4, 4]);
  });

  it('takes labels, none by default, and computes blocks anew with the same gradients', async () => {
    const [whole, anew] = [built({}), built({ checkpointBlocks: true })];
    const computed = [];
    for (const { model, layout, weights } of [whole, anew]) {
      const p = await bound(layout, weights);
      const free = model.apply(p, { x, time });
      const none = model.apply(p, { x, time, labels: tensor(Uint32Array.of(3, 3)) });
      const table = p('transformer_blocks.1.norm1.emb.class_embedder.embedding_table.weight');
      computed.push(interpret([free, none, ...gradients(sum(mul(free, free)), [x, table])]));
    }
    const [first, second] = computed;
    expect(first[1]).toEqual(first[0]);
    second.forEach((values, i) => expect(relative(values, first[i])).toBeLessThan(1e-12));
    const adapted = whole.model.parameters.filter(
      ({ shape, name }) => shape.length > 1 && whole.model.adapted.test(name),
    );
    expect(adapted.length).toBe(2 * 6);
  });

  it('takes pictures of other sides that patches tile, with positions over those that it was trained on', () => {
    const whole = architectureSchema.parse({ kind: 'dit', ...sizes });
    const fitted = fitArchitecture(whole, { sample: [2, 6, 8] });
    expect(fitted).toMatchObject({ sample_size: [6, 8], trained_size: 4 });
    expect(fitArchitecture(fitted!, { sample: [2, 4, 4] })).toMatchObject({ sample_size: 4, trained_size: 4 });
    expect(fitArchitecture(whole, { sample: [2, 5, 8] })).toBeNull();
    expect(fitArchitecture(whole, { sample: [3, 4, 4] })).toBeNull();
  });
});

const refusals: [string, { schema: { safeParse(value: unknown): { success: boolean } } }, Record<string, unknown>][] = [
  ['norm_type', dit, { norm_type: 'ada_norm_single' }],
  ['cross_attention_dim', dit, { cross_attention_dim: 768 }],
  ['activation_fn', dit, { activation_fn: 'swiglu' }],
  ['caption_channels', dit, { caption_channels: 4096 }],
  ['down_block_types', autoencoderKl, { down_block_types: ['DownBlock3D'] }],
  ['act_fn', autoencoderKl, { act_fn: 'snake' }],
  ['upsample_fn', autoencoderTiny, { upsample_fn: 'bicubic' }],
  ['hidden_act', clipText, { hidden_act: 'tanh' }],
];
describe('options that are not supported', () => {
  it.each(refusals)('%s is refused by its name', (key, { schema }, options) => {
    const result = schema.safeParse(options) as { success: boolean; error?: { issues: { path: unknown[] }[] } };
    expect(result.error?.issues[0].path[0]).toBe(key);
  });
  it.each<[string, () => unknown]>([
    ['norm_num_groups', () => autoencoderKl.build(autoencoderKl.schema.parse({ norm_num_groups: 7 }))],
    ['down_block_types', () => autoencoderKl.build(autoencoderKl.schema.parse({ block_out_channels: [32, 64] }))],
    ['latents_mean', () => autoencoderKl.build(autoencoderKl.schema.parse({ latents_mean: [0] }))],
    ['num_encoder_blocks', () => autoencoderTiny.build(autoencoderTiny.schema.parse({ num_encoder_blocks: [1] }))],
    [
      'decoder_block_out_channels',
      () => autoencoderTiny.build(autoencoderTiny.schema.parse({ decoder_block_out_channels: [64, 64, 64, 32] })),
    ],
    ['num_attention_heads', () => clipText.build(clipText.schema.parse({ num_attention_heads: 7 }))],
    ['patch_size', () => dit.build(dit.schema.parse({ patch_size: 5 }), once)],
    ['out_channels', () => dit.build(dit.schema.parse({ out_channels: 3 }), once)],
  ])('%s that cannot work is named', (key, build) => {
    expect(build).toThrow(key);
  });
});

describe('scaled latents', () => {
  it.each([
    [{ scaling_factor: 0.3 }, (z: number) => 0.3 * z],
    [{ scaling_factor: 0.36, shift_factor: 0.1 }, (z: number) => 0.36 * (z - 0.1)],
    [
      { latents_mean: [1, 1, 1, 1], latents_std: [2, 2, 2, 2], scaling_factor: 0.5 },
      (z: number) => ((z - 1) / 2) * 0.5,
    ],
    [{}, (z: number) => 0.18215 * z],
  ])('%j', (options, wanted) => {
    const { scaled, unscaled } = autoencoderKl.build(autoencoderKl.schema.parse(options));
    const z = tensor([-1, 0.5, 2, 3], [1, 4, 1, 1]);
    const [made, back] = interpret([scaled(z), unscaled(scaled(z))]);
    expect(relative(made, [-1, 0.5, 2, 3].map(wanted))).toBeLessThan(1e-6);
    expect(relative(back, [-1, 0.5, 2, 3])).toBeLessThan(1e-6);
  });
});

describe('attention over one head of many channels, as autoencoders have it', () => {
  it('becomes products, with the same values and gradients', () => {
    const { normal } = random(3);
    const [q, k, v] = [0, 1, 2].map(() => tensor(Float32Array.from({ length: 3 * 260 }, normal), [1, 3, 260]));
    const mixed = attention(q, k, v, 1);
    const wanted = [mixed, ...gradients(sum(mul(mixed, v)), [q, k, v])];
    const profile = { family: 'plain', half: false } as Profile;
    const made = decompose(wanted, profile);
    expect(reachable(made).some(({ op }) => op.startsWith('attention'))).toBe(false);
    const [actual, expected] = [interpret(made), interpret(wanted)];
    actual.forEach((values, i) => expect(relative(values, expected[i])).toBeLessThan(1e-9));
    expect(decompose([attention(q, k, v, 2)], profile)[0].op).toBe('attention');
  });
});
