import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { z } from 'zod';
import { evaluate } from '../src/autodiff/eager.js';
import { gradients } from '../src/autodiff/gradients.js';
import { openDevice } from '../node/device.js';
import { readSafetensors } from '../node/files.js';
import type { DeviceOptions } from '../src/gpu/device.js';
import { folderClasses } from '../src/models/diffusers/index.js';
import { buildModel, type Architecture } from '../src/models/index.js';
import type { Model, NetworkInputs } from '../src/models/model.js';
import { ParameterLayout } from '../src/nn/parameters.js';
import { guidanceSinusoids, timestepSinusoids } from '../src/nn/timesteps.js';
import { sum } from '../src/ops/broadcast.js';
import { permute, slice } from '../src/ops/movement.js';
import { mul } from '../src/ops/pointwise.js';
import { random } from '../src/tensor/philox.js';
import { sizeOf, type Shape } from '../src/tensor/shape.js';
import { tensor, type Tensor } from '../src/tensor/tensor.js';
import { interpret } from './support/interpreter.js';
import { bindFile, inFileOrder, load, relative } from './support/parity.js';

const fixtures = '../shared/fixtures/diffusers';
const found = existsSync(fixtures);
if (!found) console.log(`skipped: recorded networks of diffusers are not here (${fixtures})`);
const python = '/usr/bin/python3';
const torch = spawnSync(python, ['-c', 'import torch']).status === 0;
if (!torch) console.log(`skipped: ${python} has no torch to compare with (apt-get install python3-torch)`);

const json = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as Record<string, never>;

/** The backbone of a class, and its options from a configuration. */
function architectureOf(className: string, config: Record<string, unknown>): Architecture {
  const entry = folderClasses[className];
  if (!('backbone' in entry)) throw new Error(`${className} is no backbone`);
  const { shape } = entry.backbone.schema as unknown as z.ZodObject;
  const known = Object.entries(config).filter(([key]) => key in shape);
  return { kind: entry.backbone.name, ...Object.fromEntries(known) };
}

describe.skipIf(!found)('networks of real size, without their weights', () => {
  it.each(['ddpm-cifar10-32', 'sd15-inpainting-unet', 'lcm-dreamshaper-unet'])(
    '%s: every name and shape is that of diffusers, by the options that its old configuration has',
    (name) => {
      const real = json(`${fixtures}/real-model-shapes/${name}.json`);
      const { parameters } = buildModel(architectureOf(real.class, real.config));
      const shapes = Object.fromEntries(parameters.map(({ name, shape }) => [name, [...shape]]));
      expect(shapes).toEqual(real.tensors);
      expect(parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0)).toBe(real.parameters);
    },
  );
});

/** A recorded case: its network, what it was called with, and what it gave. */
async function recorded(name: string) {
  const folder = `${fixtures}/${name}`;
  const [about, config] = [json(`${folder}/case.json`), json(`${folder}/config.json`)];
  const io = await readSafetensors(`${folder}/io.safetensors`);
  const sides = io.tensors.get('x')!.shape.slice(2);
  const told = io.tensors.has('encoder_hidden_states');
  const tokens = told && { context_tokens: io.tensors.get('encoder_hidden_states')!.shape[1] };
  const architecture = { ...architectureOf(config._class_name, config), sample_size: sides, ...tokens };
  const x = await load(io, 'x');
  const context = told ? await load(io, 'encoder_hidden_states') : undefined;
  const inputsFor = ({ sampleShape: [channels], conditions }: Model): NetworkInputs => ({
    x: slice(x, 1, 0, channels),
    time: tensor(times, [times.length]),
    conditions: {
      ...(context && { context }),
      ...(conditions.channels && { channels: slice(x, 1, channels, x.shape[1]) }),
    },
  });
  const times = await io.readF32('timesteps');
  return { architecture, io, weights: `${folder}/${about.weights}`, x, context, about, inputsFor };
}

/** Software Vulkan compiles the kernels of one of these for several minutes, so by default only the graph is tested. */
const ways: [string, DeviceOptions][] = [
  ['plain family', { toggles: 'fast' }],
  ['plain family without subgroups', { toggles: 'checked', without: ['subgroups'] }],
  ['tiled family', { toggles: 'fast', family: 'tiled' }],
];
const asked = { all: ways, one: ways.slice(0, 1) }[process.env.UNET_FAMILIES ?? ''] ?? [];
if (!asked.length)
  console.log(
    "skipped: gradients of diffusers' recorded UNets on a device (UNET_FAMILIES=one, or all for every family)",
  );

describe.skipIf(!found)('recorded UNets in float64', () => {
  it.each(['ddpm-tiny', 'unet-inpaint-tiny'])('%s: output within 1e-5', { timeout: 300_000 }, async (name) => {
    const { architecture, io, weights, inputsFor } = await recorded(name);
    const model = buildModel(architecture);
    const { parameters } = await bindFile(model, weights);
    const [out] = interpret([model.apply(parameters, inputsFor(model))]);
    expect(relative(out, await io.readF32('out'))).toBeLessThan(1e-5);
  });
});

describe.skipIf(!found).each(asked)('recorded UNets, %s', (_, options) => {
  it.each(['ddpm-tiny', 'unet-inpaint-tiny'])(
    '%s: output within 1e-4, every gradient within 5e-4 of its largest element',
    { timeout: 900_000 },
    async (name) => {
      const { architecture, io, weights, x, context, about, inputsFor } = await recorded(name);
      const model = buildModel(architecture);
      const { layout, parameters } = await bindFile(model, weights);
      const out = model.apply(parameters, inputsFor(model));
      const asked: Record<string, Tensor> = {
        x,
        ...(context && { encoder_hidden_states: context }),
        ...Object.fromEntries(layout.parameters.map(({ name }) => [`param.${name}`, parameters(name)])),
      };
      const slopes = gradients(sum(mul(out, await load(io, 'cotangent'))), Object.values(asked));
      const orders = new Map(layout.parameters.map(({ name, order }) => [`param.${name}`, order]));
      const named = Object.keys(asked).map(
        (key, i) => [`grad.${key}`, inFileOrder(slopes[i], orders.get(key))] as const,
      );
      const device = await openDevice(options);
      const results: Record<string, ArrayLike<number>> = await evaluate(device, { out, ...Object.fromEntries(named) });
      device.dispose();
      expect(relative(results.out, await io.readF32('out'))).toBeLessThan(1e-4);
      const written = [...io.tensors.keys()].filter((key) => key.startsWith('grad.'));
      expect(new Set(named.map(([key]) => key))).toEqual(new Set(written));
      const most = (values: ArrayLike<number>) => Array.from(values).reduce((top, v) => Math.max(top, Math.abs(v)), 0);
      const references = await Promise.all(written.map(async (key) => [key, await io.readF32(key)] as const));
      const largest = Math.max(...references.map(([, values]) => most(values)));
      // What is 0 in exact arithmetic is rounding on either side.
      const nothing = new Set<string>((about.zero_gradients as string[] | undefined) ?? []);
      for (const [key, reference] of references)
        if (nothing.has(key)) expect(most(results[key]), key).toBeLessThan(1e-6 * largest);
        else expect(relative(results[key], reference), key).toBeLessThan(5e-4);
    },
  );
});

describe.skipIf(!found)('recorded embeddings', () => {
  it('of timesteps, whole and fractional, in both orders, are exact to the rounding of f32', async () => {
    const io = await readSafetensors(`${fixtures}/embeddings/io.safetensors`);
    const t = await load(io, 't');
    const names = [...io.tensors.keys()].filter((name) => name.startsWith('temb.'));
    for (const name of names) {
      const [, width, flip, shift] = /dim(\d+)\.flip(\d)\.shift(\d)/.exec(name)!.map(Number);
      const layout = { flipSinToCos: flip === 1, freqShift: shift };
      const [got] = interpret([timestepSinusoids(t, width, layout)]);
      // The recorded ones round the angle itself to f32: 3e-5 at 1000.
      expect(relative(got, await io.readF32(name)), name).toBeLessThan(6e-5);
    }
    expect(names.length).toBe(5);
  });

  it('of scales of guidance', async () => {
    const io = await readSafetensors(`${fixtures}/embeddings/io.safetensors`);
    const beyondOne = await io.readF32('w');
    for (const width of [32, 256]) {
      const rows = await io.readF32(`guidance_embedding.dim${width}`);
      beyondOne.forEach((w, i) => {
        const got = guidanceSinusoids(1 + w, width);
        // The recorded angles, up to 1000 w, are rounded to f32.
        const slack = 1e-7 * Math.max(10, 1000 * w);
        expect(relative(got, rows.subarray(i * width, (i + 1) * width)), `${w}`).toBeLessThan(slack);
      });
    }
  });
});

it('sinusoids of timesteps are those of float64, whatever the fraction', () => {
  const times = [0, 0.25, 1, 37.5, 500.999, 981, 999, 999.75];
  const width = 21;
  const [got] = interpret([timestepSinusoids(tensor(times, [times.length]), width, { freqShift: 0 })]);
  times.forEach((t, i) => {
    for (let k = 0; k < 10; k++) {
      const angle = Math.fround(t) * Math.exp((-k * Math.log(10000)) / 10);
      expect(got[i * width + k]).toBeCloseTo(Math.sin(angle), 6);
      expect(got[i * width + 10 + k]).toBeCloseTo(Math.cos(angle), 6);
    }
    expect(got[i * width + 20]).toBe(0);
  });
});

/** Small networks with options that the recorded ones do not have: what each changes would show. */
const unet2d = {
  norm_num_groups: 2,
  block_out_channels: [4, 6],
  down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
  up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
  layers_per_block: 1,
  attention_head_dim: 2,
  sample_size: [4, 6],
};
const unet2dCondition = {
  norm_num_groups: 2,
  block_out_channels: [4, 8],
  down_block_types: ['CrossAttnDownBlock2D', 'DownBlock2D'],
  up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D'],
  layers_per_block: 1,
  attention_head_dim: 2,
  cross_attention_dim: 5,
  context_tokens: 3,
  sample_size: [4, 6],
};
const options: Record<string, { condition?: boolean; config: Record<string, unknown> }> = {
  'defaults of UNet2DModel': { config: {} },
  'scale and shift, one head, blocks that resize, in the middle groups of its own': {
    config: {
      resnet_time_scale_shift: 'scale_shift',
      attention_head_dim: null,
      attn_norm_num_groups: 3,
      downsample_type: 'resnet',
      upsample_type: 'resnet',
      down_block_types: ['AttnDownBlock2D', 'DownBlock2D'],
      up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
      mid_block_scale_factor: 1.7,
      time_embedding_dim: 10,
    },
  },
  'scale and shift without a norm in the middle, a class table, another activation, centred input': {
    config: {
      resnet_time_scale_shift: 'scale_shift',
      num_class_embeds: 3,
      act_fn: 'mish',
      center_input_sample: true,
      freq_shift: 1,
      flip_sin_to_cos: false,
      out_channels: 6,
    },
  },
  'residual down- and upsampling, classes as times, no attention in the middle, padding to the right': {
    config: {
      block_out_channels: [4, 6, 6],
      down_block_types: ['ResnetDownsampleBlock2D', 'DownBlock2D', 'AttnDownBlock2D'],
      up_block_types: ['UpBlock2D', 'UpBlock2D', 'ResnetUpsampleBlock2D'],
      class_embed_type: 'timestep',
      add_attention: false,
      downsample_padding: 0,
      act_fn: 'gelu',
      sample_size: [4, 8],
      norm_eps: 1e-2,
    },
  },
  'no middle, an embedding in place of a class': {
    config: { mid_block_type: null, class_embed_type: 'identity', layers_per_block: 2 },
  },
  'defaults of UNet2DConditionModel': { condition: true, config: {} },
  'odd sides, heads and layers a level, linear projections, cross attention alone, guidance and masks': {
    condition: true,
    config: {
      sample_size: [5, 7],
      in_channels: 9,
      attention_head_dim: [2, 4],
      layers_per_block: [2, 1],
      transformer_layers_per_block: [2, 1],
      use_linear_projection: true,
      only_cross_attention: [true, false],
      down_block_types: ['CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'],
      up_block_types: ['CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'],
      time_cond_proj_dim: 6,
      timestep_post_act: 'silu',
      time_embedding_act_fn: 'gelu',
      conv_in_kernel: 1,
      conv_out_kernel: 5,
    },
  },
  'plain attention beside cross attention, heads by their own option, a projected class': {
    condition: true,
    config: {
      block_out_channels: [4, 8, 8],
      down_block_types: ['AttnDownBlock2D', 'CrossAttnDownBlock2D', 'ResnetDownsampleBlock2D'],
      up_block_types: ['ResnetUpsampleBlock2D', 'CrossAttnUpBlock2D', 'AttnUpBlock2D'],
      attention_head_dim: [2, 4, 2],
      num_attention_heads: [1, 4, 2],
      mid_block_type: 'UNetMidBlock2D',
      class_embed_type: 'projection',
      projection_class_embeddings_input_dim: 3,
      resnet_time_scale_shift: 'scale_shift',
      act_fn: 'relu',
      sample_size: [4, 8],
    },
  },
  'a simple projection of the class, sides that are odd twice': {
    condition: true,
    config: {
      block_out_channels: [4, 4, 8],
      down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D', 'DownBlock2D'],
      up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'],
      class_embed_type: 'simple_projection',
      projection_class_embeddings_input_dim: 4,
      sample_size: [7, 6],
      mid_block_scale_factor: 0.5,
    },
  },
};

const draw = random(Number(process.env.SEED ?? 5));
const drawn = (shape: Shape, scale = 1) =>
  Float32Array.from({ length: sizeOf(shape) }, () => Math.fround(scale * draw.normal()));

describe.skipIf(!torch)('UNets of every option against PyTorch', () => {
  const cases = Object.entries(options).map(([name, { condition = false, config }]) => {
    const stated = { ...(condition ? unet2dCondition : unet2d), ...config };
    const architecture = architectureOf(condition ? 'UNet2DConditionModel' : 'UNet2DModel', stated);
    const model = buildModel(architecture);
    const layout = new ParameterLayout(model.parameters);
    // Norms near 1, so that nothing vanishes; all else as wide as its inputs.
    const state = layout.parameters.map(({ name, shape }) => {
      const near = /norm\w*\.weight$/.test(name) ? 1 : 0;
      const values = drawn(shape, near ? 0.2 : 1 / Math.sqrt(sizeOf(shape.slice(1)))).map((v) => v + near);
      return { name, shape, values };
    });
    const [channels, ...sides] = model.sampleShape;
    const { conditions, classes } = model;
    const further = conditions.channels?.shape[0] ?? 0;
    const x = drawn([2, channels + further, ...sides]);
    const told = Object.fromEntries(
      Object.entries(conditions)
        .filter(([name]) => name !== 'channels')
        .map(([name, { shape }]) => [name, { shape: [2, ...shape], values: drawn([2, ...shape]) }]),
    );
    const times = Float32Array.of(3.25, 912);
    const outputs = (architecture as { out_channels?: number }).out_channels ?? (condition ? 4 : 3);
    const weights = drawn([2, outputs, ...sides]);
    return { name, condition, architecture, model, layout, state, x, told, times, classes, weights, further };
  });

  it('outputs and the gradients of pictures and contexts within 2e-7', { timeout: 120_000 }, () => {
    const listed = (shape: Shape, values: ArrayLike<number>) => ({ shape, values: Array.from(values) });
    const request = cases.map(
      ({ condition, architecture, model, state, x, told, times, classes, weights, further }) => {
        const [channels, ...sides] = model.sampleShape;
        return {
          condition,
          config: buildConfig(architecture),
          state: Object.fromEntries(state.map(({ name, shape, values }) => [name, listed(shape, values)])),
          x: listed([2, channels + further, ...sides], x),
          t: listed([2], times),
          weights: listed([2, weights.length / 2 / sides[0] / sides[1], ...sides], weights),
          ...(told.context && { context: listed(told.context.shape, told.context.values) }),
          ...(told.guidanceEmbedding && {
            guidance: listed(told.guidanceEmbedding.shape, told.guidanceEmbedding.values),
          }),
          ...(told.class && { cls: listed(told.class.shape, told.class.values) }),
          ...(classes && { cls: listed([2, 1], [2, 0]) }),
        };
      },
    );
    const oracle = spawnSync(python, ['test/support/diffusers-oracle.py'], {
      input: JSON.stringify(request),
      maxBuffer: 2 ** 28,
      encoding: 'utf8',
    });
    expect(oracle.status, oracle.stderr).toBe(0);
    const answers = JSON.parse(oracle.stdout) as { out: number[]; gradients: Record<string, number[]> }[];
    cases.forEach(({ name, model, layout, state, x, told, times, classes, weights, further }, i) => {
      const [channels, ...sides] = model.sampleShape;
      const parameters = new Map(
        layout.parameters.map(({ shape, order }, k) => [
          state[k].name,
          inMemory(tensor(state[k].values, shape), order),
        ]),
      );
      const p = (key: string) => parameters.get(key)!;
      const pictures = tensor(x, [2, channels + further, ...sides]);
      const conditions = Object.fromEntries(
        Object.entries(told).map(([key, { shape, values }]) => [key, tensor(values, shape)]),
      );
      const out = model.apply(p, {
        x: slice(pictures, 1, 0, channels),
        time: tensor(times, [2]),
        labels: classes ? tensor(Uint32Array.of(2, 0)) : undefined,
        conditions: {
          ...conditions,
          ...(further && { channels: slice(pictures, 1, channels, channels + further) }),
        },
      });
      const wrt: Record<string, Tensor> = { x: pictures, ...(conditions.context && { context: conditions.context }) };
      const slopes = gradients(sum(mul(out, tensor(weights, out.shape))), Object.values(wrt));
      const [got, ...flowing] = interpret([out, ...slopes]);
      // Sinusoids of whole timesteps are tables in f32.
      expect(relative(got, answers[i].out), name).toBeLessThan(2e-7);
      Object.keys(wrt).forEach((key, k) => {
        expect(relative(flowing[k], answers[i].gradients[key]), `${name}: ${key}`).toBeLessThan(2e-7);
      });
    });
    expect(answers.length).toBe(Object.keys(options).length);
  });
});

/** A parameter in memory's order of axes, from that of files. */
const inMemory = (x: Tensor, order?: readonly number[]): Tensor => (order ? permute(x, [...order]) : x);

/** All options of an architecture, those by default included. */
function buildConfig({ kind, ...stated }: Architecture): Record<string, unknown> {
  const backbone = Object.values(folderClasses).find((entry) => 'backbone' in entry && entry.backbone.name === kind)!;
  return 'backbone' in backbone ? backbone.backbone.schema.parse(stated) : {};
}

describe.each<[string, string, Record<string, unknown>]>([
  ['UNet2DModel', 'UNet2DModel', unet2d],
  ['UNet2DConditionModel', 'UNet2DConditionModel', { ...unet2dCondition, in_channels: 6, time_cond_proj_dim: 3 }],
])('%s as a student', (_, className, config) => {
  const architecture = architectureOf(className, { ...config, sample_size: [4, 4] });
  const student = { twoTime: true, guided: true };
  const [plain, two, anew] = [{}, student, { ...student, checkpointBlocks: true }].map((how) =>
    buildModel(architecture, how),
  );
  const [channels, ...sides] = plain.sampleShape;
  const inputs: NetworkInputs = {
    x: tensor(drawn([2, channels, ...sides]), [2, channels, ...sides]),
    time: tensor([10, 700], [2]),
    conditions: Object.fromEntries(
      Object.entries(plain.conditions).map(([name, { shape }]) => [name, tensor(drawn([2, ...shape]), [2, ...shape])]),
    ),
  };
  const asked = { ...inputs, jump: { t: tensor([0.1, 0.7]), s: tensor([0, 0.2]) }, guidance: tensor([2, 5]) };
  const held = new Map<string, Tensor>();
  const p = (name: string) => held.get(name)!;
  two.parameters.forEach((parameter, i) => {
    const { name, shape, order, initializer } = parameter;
    held.set(name, inMemory(tensor(initializer(shape, 3, i), shape), order));
  });

  it('starts as the network that it was, whatever jump and guidance are', () => {
    const [before, after] = interpret([plain.apply(p, inputs), two.apply(p, asked)]);
    expect(relative(after, before)).toBeLessThan(1e-12);
    const own = [...two.studentParameters].map((name) => name.split('.')[0]);
    expect(new Set(own)).toEqual(new Set(['jump_embedder', 'guidance_embedder']));
  });

  it('has the same gradients with layers that are computed anew', () => {
    const weight = tensor(drawn([2, channels, ...sides]), [2, channels, ...sides]);
    const slopesOf = (model: Model) => {
      const out = slice(model.apply(p, asked), 1, 0, channels);
      return interpret(gradients(sum(mul(out, weight)), [...held.values(), inputs.x]));
    };
    const [kept, again] = [slopesOf(two), slopesOf(anew)];
    expect(kept.length).toBe(held.size + 1);
    // Beside the largest, as biases of keys have a gradient of rounding alone.
    const most = (values: Float64Array) => values.reduce((top, value) => Math.max(top, Math.abs(value)), 0);
    const largest = Math.max(...kept.map(most));
    kept.forEach((slope, i) => expect(most(slope.map((value, k) => again[i][k] - value))).toBeLessThan(1e-9 * largest));
  });

  it('has adapters on attention and convolutions, not on norms and embeddings', () => {
    const adapted = plain.parameters.filter(({ name }) => plain.adapted.test(name)).map(({ name }) => name);
    expect(
      adapted.some((name) => name.endsWith('attentions.0.to_q.weight') || name.endsWith('attn2.to_q.weight')),
    ).toBe(true);
    expect(adapted.some((name) => name.endsWith('resnets.0.conv1.weight'))).toBe(true);
    expect(adapted.filter((name) => /norm|embedding|\.bias$/.test(name))).toEqual([]);
  });
});
