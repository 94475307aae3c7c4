import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import * as z from 'zod';
import { writeSafetensors } from '../node/files.js';
import { gradients } from '../src/autodiff/gradients.js';
import { random } from '../src/tensor/philox.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork, exportNetwork, studentOf, type Network } from '../src/flow/network.js';
import { defineBackbone } from '../src/models/backbone.js';
import { buildModel, registerBackbone, type Architecture } from '../src/models/index.js';
import type { Model, NetworkInputs } from '../src/models/model.js';
import { applyConvolution, applyLinear, embedJump, jumpParameters, linearParameters } from '../src/nn/layers.js';
import { opened, openedParameters } from '../src/nn/opened.js';
import type { Parameters } from '../src/nn/parameters.js';
import { sum } from '../src/ops/broadcast.js';
import { reshape } from '../src/ops/movement.js';
import { add, mul } from '../src/ops/pointwise.js';
import { sizeOf } from '../src/tensor/shape.js';
import { tensor, type Tensor } from '../src/tensor/tensor.js';
import { distillationDefaults, distillationSchema, lambdaOf, type DistillationConfig } from '../trainers/config.js';
import { checkRecipe, keepsVelocity, methodNames, methodRecipe } from '../trainers/methods.js';
import { planDistillation, studentDescription } from '../trainers/runs.js';
import { sharesOf } from '../trainers/shares.js';
import { runHere } from './support/command-line.js';
import { interpret } from './support/interpreter.js';
import { openNullDevice } from './support/null-device.js';
import { relative } from './support/parity.js';

const rank = 3;
const kinds: Architecture[] = [
  { kind: 'mlp', dim: 3, width: 8, depth: 2, activation: 'silu', time: 'features' },
  {
    kind: 'sit',
    inputSize: 6,
    patchSize: 2,
    inChannels: 1,
    hiddenSize: 8,
    depth: 2,
    numHeads: 2,
    numClasses: 3,
    qkvBias: false,
  },
  {
    kind: 'vit',
    imageSize: 6,
    patchSize: 3,
    channels: 1,
    width: 8,
    depth: 2,
    heads: 2,
    mlpWidth: 12,
    norm: 'post',
    activation: 'gelu',
    normEpsilon: 1e-5,
    classes: 3,
  },
  {
    kind: 'unet',
    imageSize: 4,
    inChannels: 1,
    modelChannels: 32,
    numResBlocks: 1,
    channelMult: [1, 1],
    attentionResolutions: [2],
  },
  {
    kind: 'dit',
    num_attention_heads: 2,
    attention_head_dim: 4,
    in_channels: 2,
    out_channels: 2,
    num_layers: 2,
    sample_size: 4,
    num_embeds_ada_norm: 3,
  },
];

/** Tensors over random weights, of which those at the end of every branch are not zero either. */
function bound(model: Model, seed: number): Parameters {
  const { normal } = random(seed);
  const storage = new Map<string, Tensor>();
  for (const { name, shape, order } of model.parameters) {
    const values = Float32Array.from({ length: sizeOf(shape) }, () => 0.3 * normal());
    storage.set(name, tensor(values, order ? order.map((axis) => shape[axis]) : shape));
  }
  return (name) => storage.get(name)!;
}

const drawnInputs = (model: Model, seed: number): NetworkInputs => {
  const { normal } = random(seed);
  const shape = [3, ...model.sampleShape];
  return {
    x: tensor(Float32Array.from({ length: sizeOf(shape) }, normal), shape),
    time: tensor([0.9, 0.35, 0.6]),
    ...(model.classes && { labels: tensor(Uint32Array.of(1, 0, 2)) }),
  };
};
const jumpOf = (t: number[], s: number[]) => ({ t: tensor(t), s: tensor(s) });

describe.each(kinds.map((architecture) => [architecture.kind, architecture] as const))('%s', (_, architecture) => {
  const model = buildModel(architecture, { twoTime: true, jumpRank: rank });
  const whole = buildModel(architecture, { twoTime: true });
  const teacher = buildModel(architecture);

  it('has products beside what it opens, each with a part in the output', () => {
    const names = model.parameters.map(({ name }) => name);
    const beside = names.slice(whole.parameters.length);
    expect(beside.length).toBeGreaterThan(2);
    expect(beside.every((name) => name.startsWith('jump_opened.') && model.studentParameters.has(name))).toBe(true);
    // What only a student has comes last, as what learns at a rate of its own lies in one span.
    expect(names.slice(0, teacher.parameters.length)).toEqual(teacher.parameters.map(({ name }) => name));
    const p = bound(model, 3);
    const inputs = { ...drawnInputs(model, 4), jump: jumpOf([0.9, 0.35, 0.6], [0.1, 0.8, 0.55]) };
    const y = model.apply(p, inputs);
    const slopes = interpret(gradients(sum(mul(y, y)), beside.map(p)));
    slopes.forEach((slope) => expect(slope.some((value) => Math.abs(value) > 1e-9)).toBe(true));
  });

  it('is exactly its teacher where a jump has no length, whatever it learned, and not elsewhere', () => {
    const p = bound(model, 5);
    const inputs = drawnInputs(model, 6);
    const at = (s: number[]) => model.apply(p, { ...inputs, jump: jumpOf([0.9, 0.35, 0.6], s) });
    const [still, forth, velocity] = interpret([at([0.9, 0.35, 0.6]), at([0.9, 0.2, 0.7]), teacher.apply(p, inputs)]);
    expect(relative(still, velocity)).toBeLessThan(1e-12);
    const one = velocity.length / 3;
    const part = (values: Float64Array, i: number) => values.subarray(i * one, (i + 1) * one);
    expect(relative(part(forth, 0), part(velocity, 0))).toBeLessThan(1e-12);
    for (const i of [1, 2]) expect(relative(part(forth, i), part(velocity, i))).toBeGreaterThan(1e-4);
  });

  it('gives the same gradients where blocks are computed anew, of weights, samples and times', () => {
    const [first, again] = [false, true].map((checkpointBlocks) => {
      const model = buildModel(architecture, { twoTime: true, jumpRank: rank, checkpointBlocks });
      const p = bound(model, 7);
      const inputs = { ...drawnInputs(model, 8), jump: jumpOf([0.9, 0.35, 0.6], [0.1, 0.8, 0.55]) };
      const y = model.apply(p, inputs);
      const names = model.parameters.filter(({ frozen }) => !frozen).map(({ name }) => name);
      return interpret(gradients(sum(mul(y, y)), [...names.map(p), inputs.x, inputs.jump.t, inputs.jump.s]));
    });
    // Some are nothing but rounding, as those of a bias in front of a norm.
    const apart = again.map((values, i) => Math.max(...values.map((value, k) => Math.abs(value - first[i][k]))));
    const largest = Math.max(...first.map((values) => Math.max(...values.map(Math.abs))));
    expect(Math.max(...apart)).toBeLessThan(1e-12 * largest);
  });
});

describe('a product that a jump opens', () => {
  const { normal } = random(11);
  const values = (length: number) => Float32Array.from({ length }, normal);
  const gaps = [0.7, 0, -0.4];

  it('is (t - s) · B A x beside a linear layer, of no more rank than there is', () => {
    const weight = { name: 'layer.weight', shape: [5, 2], initializer: () => values(10) };
    const [a, b] = openedParameters([weight], 16);
    expect([a.shape, b.shape]).toEqual([
      [2, 2],
      [5, 2],
    ]);
    const [W, bias, A, B, x] = [values(10), values(5), values(4), values(10), values(3 * 4 * 2)];
    const tensors = new Map([
      ['layer.weight', tensor(W, [5, 2])],
      ['layer.bias', tensor(bias)],
      [a.name, tensor(A, [2, 2])],
      [b.name, tensor(B, [5, 2])],
    ]);
    const p = opened((name) => tensors.get(name)!, new Set(['layer.weight']), tensor(gaps));
    const [y] = interpret([applyLinear(p, 'layer', tensor(x, [3, 4, 2]))]);
    const gapOf = (row: number) => Math.fround(gaps[Math.floor(row / 4)]);
    for (let row = 0; row < 12; row++)
      for (let out = 0; out < 5; out++) {
        const [x0, x1] = [x[2 * row], x[2 * row + 1]];
        const low = [0, 1].map((k) => A[2 * k] * x0 + A[2 * k + 1] * x1);
        const beside = gapOf(row) * (B[2 * out] * low[0] + B[2 * out + 1] * low[1]);
        expect(y[5 * row + out]).toBeCloseTo(W[2 * out] * x0 + W[2 * out + 1] * x1 + bias[out] + beside, 12);
      }
  });

  it('is a convolution of few channels beside a convolution, with its stride', () => {
    const options = { padding: 1, stride: 2 };
    const order = [2, 3, 1, 0];
    const weight = { name: 'conv.weight', shape: [4, 3, 3, 3], order, initializer: () => values(108) };
    const [a, b] = openedParameters([weight], 2);
    expect([a.shape, a.order, b.shape]).toEqual([[2, 3, 3, 3], order, [4, 2]]);
    const [W, A, B] = [values(108), values(54), values(8)];
    const tensors = new Map([
      ['conv.weight', tensor(W, [3, 3, 3, 4])],
      ['conv.bias', tensor(new Float32Array(4))],
      [a.name, tensor(A, [3, 3, 3, 2])],
      [b.name, tensor(B, [4, 2])],
    ]);
    // What it amounts to is a convolution with W + gap · B A, a sample at a time.
    const merged = (gap: number) =>
      Float64Array.from(W, (w, i) => {
        const [at, out] = [Math.floor(i / 4), i % 4];
        return w + Math.fround(gap) * (B[2 * out] * A[2 * at] + B[2 * out + 1] * A[2 * at + 1]);
      });
    const x = values(3 * 5 * 7 * 3);
    const p = opened((name) => tensors.get(name)!, new Set(['conv.weight']), tensor(gaps));
    const [y] = interpret([applyConvolution(p, 'conv', tensor(x, [3, 5, 7, 3]), options)]);
    const whole = gaps.flatMap((gap, i) => {
      const weights = Float32Array.from(merged(gap));
      const own = (name: string) => (name === 'conv.weight' ? tensor(weights, [3, 3, 3, 4]) : tensors.get(name)!);
      return [
        ...interpret([
          applyConvolution(own, 'conv', tensor(x.slice(105 * i, 105 * (i + 1)), [1, 5, 7, 3]), options),
        ])[0],
      ];
    });
    expect(y.length).toBe(3 * 3 * 4 * 4);
    expect(relative(y, Float64Array.from(whole))).toBeLessThan(1e-6);
  });
});

describe('a recipe', () => {
  const base = parseDescription({ architecture: kinds[2], prediction: 'velocity' }, 'test');
  const [images, points] = [[1, 28, 28], [2]].map((shape) => distillationDefaults(shape, 'velocity', true));
  const free = distillationDefaults([1, 28, 28], 'velocity', true, false);
  const alike = { inherited: 1, own: 1 };

  it('keeps the velocity of a teacher of images by its default method, and learns nothing on the diagonal then', () => {
    expect(images.student).toMatchObject({ jumpRank: 16, rates: { inherited: 0 } });
    expect(images.lambda.diagonal).toBe(0);
    for (const other of [points, free]) expect(other.student).toMatchObject({ jumpRank: 0, rates: alike });
    expect(free.lambda.diagonal).toBeGreaterThan(0);
    for (const name of methodNames) {
      const { student } = methodRecipe(name, images, true);
      expect(student, name).toMatchObject(name === 'fmap' ? images.student : { jumpRank: 0, rates: alike });
      expect(methodRecipe(name, free, true).student).toMatchObject({ jumpRank: 0, rates: alike });
      expect(methodRecipe(name, points, true).student).toMatchObject({ jumpRank: 0, rates: alike });
    }
    expect(methodRecipe('emd', images, false).student.jumpRank).toBe(0);
    // What a flow map has opened already, by which it goes on, learns slowly where its samples are judged.
    for (const defaults of [images, free]) {
      const { student } = methodRecipe('distribution', defaults, true, 5);
      expect(student).toMatchObject({ jumpRank: 5, rates: { inherited: 1, own: 0.2 } });
    }
    // By distribution matching all weights learn, and its shares are the same whatever it starts from.
    const shares = [images, free].map((defaults) => sharesOf(methodRecipe('distribution', defaults, true).lambda, 96));
    const rows = shares.map((all) => all.map(({ objective, rows }) => [objective.name, rows]));
    expect(rows[0]).toEqual(rows[1]);
    expect(rows[0]).toContainEqual(['diagonal', 13]);
    // Runs of before opened nothing.
    const { jumpRank: _, ...before } = images.student;
    expect(distillationSchema().parse({ ...images, student: before }).student.jumpRank).toBe(0);
  });

  const guided = { guidance: { from: 2, to: 2 } };
  const others: [string, Partial<DistillationConfig>][] = [
    ['guidance', guided],
    ['a range of it', { guidance: { from: 1, to: 3 } }],
    ['data that lead', { velocity: 'data' }],
    ['the diagonal of the data', { lambda: lambdaOf({ emd: 1, dataDiagonal: 0.25 }) }],
    ['a start from nothing', { student: { ...images.student, init: 'scratch' } }],
    ['an adapter', { student: { ...images.student, loraRank: 2 } }],
  ];
  it.each(others)('of %s is to learn a velocity of its own', (_, changes) => {
    expect(keepsVelocity(images)).toBe(true);
    expect(keepsVelocity({ ...images, ...changes })).toBe(false);
  });
  it('that opens nothing, or has learn what is inherited, keeps none', () => {
    const { student } = images;
    expect(keepsVelocity({ ...images, student: { ...student, rates: { inherited: 0.1, own: 4 } } })).toBe(false);
    expect(keepsVelocity({ ...images, student: { ...student, jumpRank: 0 } })).toBe(false);
  });
  it('that is to learn another velocity and cannot is refused', () => {
    const { student } = images;
    for (const changes of [guided, { velocity: 'data' as const, lambda: lambdaOf({ emd: 1 }) }]) {
      expect(() => checkRecipe({ ...images, ...changes }, true)).toThrow(/another/);
      const learning = { ...student, rates: { inherited: 0.1, own: 1 } };
      checkRecipe({ ...images, ...changes, student: learning }, true);
    }
  });
  it('of the command line lets a guided student learn it, and one that goes on from a flow map that keeps none', async () => {
    const fashion = 'checkpoints/rf-fashion-mnist.safetensors';
    const printed = async (...flags: string[]) =>
      parse((await runHere(['train', '--teacher', fashion, '--print-config', ...flags])).output).recipe;
    const of = async (...flags: string[]) => (await printed(...flags)).student;
    expect(await of()).toMatchObject(images.student);
    for (const flags of [
      ['--guidance', '2'],
      ['--lora-rank', '4'],
      ['--method', 'ctm'],
      ['--jump-rank', '0'],
    ])
      expect(await of(...flags)).toMatchObject({ jumpRank: 0, rates: alike });
    // Where it can move, the velocity is held on the diagonal.
    for (const flags of [
      ['--jump-rank', '0'],
      ['--inherited-rate', '0.1'],
    ])
      expect((await printed(...flags)).lambda.diagonal).toBeGreaterThan(0);
    const before = ['--method', 'distribution', '--student', 'checkpoints/consistency-fashion-mnist.safetensors'];
    expect(await of(...before)).toMatchObject({ jumpRank: 0, rates: alike });
  });

  describe('of a flow map that goes on learning', () => {
    const folder = mkdtempSync(join(tmpdir(), 'opened-'));
    afterAll(() => rmSync(folder, { recursive: true }));
    const path = (name: string) => join(folder, `${name}.safetensors`);
    const teacher = createNetwork(base, 1);
    const map = studentOf(teacher, { ...studentDescription(base, images), jumpRank: 3 });
    const inherited = teacher.layout.parameters.at(-1)!.name;
    const moved = (name: string, values: Float32Array) =>
      name === inherited ? values.map((value, i) => (i === 2 ? value + 1e-3 : value)) : values;
    beforeAll(async () => {
      for (const [name, network, change] of [
        ['teacher', teacher],
        ['kept', map],
        ['moved', map, moved],
      ] as [string, Network, typeof moved | undefined][]) {
        const weights = { ...network.weights, read: async (key: string) => network.weights.read(key) };
        if (change) weights.read = async (key) => change(key, await network.weights.read(key));
        const { tensors, metadata } = exportNetwork({ ...network, weights });
        await writeSafetensors(path(name), tensors, metadata);
      }
    });
    const printed = async (name: string, ...flags: string[]) => {
      const asked = ['train', '--teacher', path('teacher'), '--student', path(name), '--print-config', ...flags];
      const { output, error } = await runHere(asked);
      return error ?? parse(output).recipe;
    };

    it('holds its rank, and its velocity by what became of its weights', async () => {
      expect(await printed('kept')).toMatchObject({
        student: { jumpRank: 3, rates: { inherited: 0, own: 4 } },
        lambda: { diagonal: 0 },
      });
      const { student, lambda } = await printed('moved');
      expect(student).toMatchObject({ jumpRank: 3, rates: alike });
      expect(lambda.diagonal).toBeGreaterThan(0);
      for (const flags of [[], ['--guidance', '2']]) {
        const judged = await printed('kept', '--method', 'distribution', ...flags);
        expect(judged.student).toMatchObject({ jumpRank: 3, rates: { inherited: 1, own: 0.2 } });
      }
    });

    it('is refused without a teacher, whatever it opens', async () => {
      const alone = ['train', '--data', 'shapes28', '--method', 'meanflow', '--print-config'];
      for (const map of [path('kept'), 'checkpoints/consistency-fashion-mnist.safetensors'])
        expect(String((await runHere([...alone, '--student', map])).error)).toMatch(
          /beside its teacher: give --teacher/,
        );
    });

    it('takes no other rank', async () => {
      expect(String(await printed('kept', '--jump-rank', '4'))).toMatch(
        /the flow map that goes on learning opens weights of rank 3: leave it out/,
      );
      expect(await printed('kept', '--jump-rank', '3')).toMatchObject({ student: { jumpRank: 3 } });
    });

    it('is planned as it will run', async () => {
      const planned = async (...flags: string[]) => {
        const asked = ['plan', 'train', '--teacher', path('teacher'), '--limits', 'default', '--batch', '6', ...flags];
        const { output, error } = await runHere(asked);
        expect(error).toBeUndefined();
        return Number(/kernels a step +(\d+)/.exec(output)![1]);
      };
      const without = await planned('--method', 'distribution');
      expect(await planned('--method', 'distribution', '--student', path('kept'))).toBeGreaterThan(without);
    });
  });

  it('refuses what would say nothing of a student that has nothing beyond its teacher', async () => {
    const fashion = ['train', '--teacher', 'checkpoints/rf-fashion-mnist.safetensors', '--print-config'];
    for (const [flags, line] of [
      [['--lora-rank', '4', '--jump-rank', '2'], /an adapter opens no weights/],
      [['--lora-rank', '4', '--own-rate', '2'], /all weights of an adapter are its own/],
      [['--init', 'scratch', '--inherited-rate', '0.5'], /all weights of a student from scratch/],
    ] as [string[], RegExp][])
      expect(String((await runHere([...fashion, ...flags])).error)).toMatch(line);
    const teacher = createNetwork(base, 1);
    const recipe = { ...images, lambda: lambdaOf({ emd: 1, dataDiagonal: 0.25 }) };
    const learning = { ...recipe, student: { ...recipe.student, rates: alike } };
    expect(() => planDistillation({ device: null as never, teacher }, learning)).toThrow(
      /dataDiagonal learns the velocity of data, and there are none/,
    );
  });

  it('has a student start as its teacher, and say in its file what its jumps open', () => {
    const teacher = createNetwork(base, 1);
    const description = studentDescription(base, images);
    const student = studentOf(teacher, description);
    expect(parseDescription(JSON.parse(JSON.stringify(description)), 'test').jumpRank).toBe(16);
    const { loraRank: _, ...whole } = images.student;
    expect(studentDescription(base, { ...images, student: { ...whole, loraRank: 2 } }).jumpRank).toBeUndefined();
    const own = student.layout.parameters.filter(({ student }) => student);
    const { start, end } = student.layout.studentSpan;
    expect(end).toBe(student.layout.length);
    expect(own.reduce((size, { shape }) => size + sizeOf(shape), 0)).toBeLessThanOrEqual(end - start);
  });

  it('has only that learn which a student has beyond its teacher', async () => {
    const network = createNetwork(base, 1);
    const { profile } = await openNullDevice({ toggles: 'checked' });
    const data = { shape: [1, 6, 6], count: 8, values: new Float32Array(8 * 36), range: [0, 1] as const };
    const kernelsAt = (inherited: number) => {
      const recipe = distillationDefaults([1, 6, 6], 'velocity');
      const student = { ...recipe.student, rates: { inherited, own: 4 } };
      const subject = { device: { profile, pageBytes: 2 ** 27 } as never, teacher: network, data: data as never };
      return planDistillation(subject, { ...recipe, batch: 8, student }).kernels;
    };
    expect(kernelsAt(0)).toBeLessThan(kernelsAt(0.1));
  });

  it('cannot open weights of a backbone that names none', () => {
    const closed = defineBackbone({
      name: 'closed',
      schema: z.object({}),
      build: (_, { twoTime }) => ({
        sampleShape: [1, 2, 2],
        parameters: [...linearParameters('layer', 4, 4), ...(twoTime ? jumpParameters(4) : [])],
        apply: (p, { x, jump }) => {
          const y = applyLinear(p, 'layer', reshape(x, [-1, 4]));
          return reshape(jump ? add(y, embedJump(p, jump)) : y, x.shape);
        },
      }),
    });
    registerBackbone(closed);
    const teacher = createNetwork(
      parseDescription({ architecture: { kind: 'closed' }, prediction: 'velocity' }, 'test'),
      1,
    );
    const subject = { device: null as never, teacher };
    expect(() => planDistillation(subject, distillationDefaults([1, 2, 2], 'velocity'))).toThrow(
      /"closed" names no weights/,
    );
  });
});
