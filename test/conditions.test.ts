import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import * as z from 'zod';
import { openDevice } from '../node/device.js';
import { writeSafetensors } from '../node/files.js';
import type { Device } from '../src/gpu/device.js';
import { encodeSafetensors } from '../src/checkpoint/safetensors.js';
import { readDataset } from '../src/data/read.js';
import { memoryStore } from '../src/files/store.js';
import { defineBackbone } from '../src/models/backbone.js';
import { registerBackbone } from '../src/models/index.js';
import { parseDescription } from '../src/flow/description.js';
import { exportNetwork, networkOf, type Network } from '../src/flow/network.js';
import { Runner } from '../src/flow/runner.js';
import { drawSamples } from '../src/flow/sampling.js';
import { normal } from '../src/nn/initializers.js';
import { embedJump, jumpParameters } from '../src/nn/layers.js';
import { linear } from '../src/ops/matmul.js';
import { concat, reshape } from '../src/ops/movement.js';
import { add } from '../src/ops/pointwise.js';
import { buildModel } from '../src/models/index.js';
import { random } from '../src/tensor/philox.js';
import type { SampleSet } from '../trainers/batches.js';
import { distillationDefaults, lambdaOf, teacherDefaults, type DistillationConfig } from '../trainers/config.js';
import { methodRecipe } from '../trainers/methods.js';
import { distil, trainTeacher } from '../trainers/runs.js';
import { runHere } from './support/command-line.js';

/** A velocity that is linear in the point, a context of 2 × 2 and a shift; of outputs beyond the sample, which mean nothing. */
const told = defineBackbone({
  name: 'told',
  schema: z.strictObject({}),
  build: (_, { twoTime }) => ({
    sampleShape: [2],
    conditions: { context: { shape: [2, 2] }, shift: { shape: [1], optional: true } },
    parameters: [
      { name: 'point.weight', shape: [3, 2], initializer: normal(0.5) },
      { name: 'context.weight', shape: [3, 4], initializer: normal(1) },
      { name: 'shift.weight', shape: [3, 1], initializer: normal(1) },
      ...(twoTime ? jumpParameters(4, 3) : []),
    ],
    apply: (p, { x, jump, conditions }) => {
      const batch = x.shape[0];
      const seen = [
        linear(x, p('point.weight')),
        linear(reshape(conditions!.context, [batch, 4]), p('context.weight')),
        ...(conditions!.shift ? [linear(conditions!.shift, p('shift.weight'))] : []),
        ...(jump ? [embedJump(p, jump)] : []),
      ];
      return concat([seen.reduce((sum, part) => add(sum, part))], 1);
    },
  }),
});
registerBackbone(told);

const description = parseDescription({ architecture: { kind: 'told' }, prediction: 'velocity' }, 'test');
const network: Network = networkOf(buildModel(description.architecture), description, 3);
const names = ['point.weight', 'context.weight', 'shift.weight'];

const draw = random(11);
const values = (count: number) => Float32Array.from({ length: count }, () => draw.normal());
/** The velocity of one sample in plain arithmetic. */
async function velocityOf(x: ArrayLike<number>, context: ArrayLike<number>, shift: ArrayLike<number> = [0]) {
  const [point, told, by] = await Promise.all(names.map((name) => network.weights.read(name)));
  const product = (matrix: Float32Array, row: number, v: ArrayLike<number>) =>
    Array.from(v).reduce((sum, value, k) => sum + matrix[row * v.length + k] * value, 0);
  return [0, 1].map((row) => product(point, row, x) + product(told, row, context) + product(by, row, shift));
}

let opened: Promise<Device> | undefined;
const openedDevice = () => (opened ??= openDevice({ toggles: 'checked' }));
afterAll(async () => (await opened)?.dispose());

const count = 5;
const [x, context, shift] = [values(2 * count), values(4 * count), values(count)];
const t = new Float32Array(count).fill(0.5);
const close = (got: Float32Array, wanted: number[][]) =>
  wanted.flat().forEach((value, i) => expect(got[i]).toBeCloseTo(value, 4));
const rows = <T>(f: (i: number) => Promise<T>) => Promise.all(Array.from({ length: count }, (_, i) => f(i)));
const row = (of: Float32Array, i: number) => of.subarray((i * of.length) / count, ((i + 1) * of.length) / count);

describe('a runner', () => {
  it('tells each sample its own conditions, in batches, or all of them one; zeros stand for what is left out', async () => {
    const runner = new Runner(await openedDevice(), network, 2);
    const own = await runner.velocity({ x, t, conditions: { context, shift } });
    close(own, await rows((i) => velocityOf(row(x, i), row(context, i), row(shift, i))));
    const one = context.subarray(0, 4);
    close(await runner.velocity({ x, t, conditions: { context: one } }), await rows((i) => velocityOf(row(x, i), one)));
    runner.dispose();
  });

  it('leads away from negative conditions under guidance', async () => {
    const runner = new Runner(await openedDevice(), network, 4, 3);
    const empty = values(4);
    const got = await runner.velocity({ x, t, conditions: { context, shift }, negative: { context: empty } });
    const wanted = await rows(async (i) => {
      const given = await velocityOf(row(x, i), row(context, i), row(shift, i));
      const free = await velocityOf(row(x, i), empty, row(shift, i));
      return free.map((value, k) => value + 3 * (given[k] - value));
    });
    close(got, wanted);
    await expect(runner.velocity({ x, t, conditions: { context } })).rejects.toThrow(
      /leads away from a negative condition/,
    );
    runner.dispose();
  });

  it.each<[string, Record<string, Float32Array>, RegExp]>([
    ['nothing', {}, /the network is told context \[2,2\] of each sample, and none is given/],
    ['too few', { context: values(8) }, /context holds 8 values: the network takes \[2,2\] for each of 5 samples/],
    ['another', { context, text: values(4) }, /takes context, shift beside time and class, and no text/],
  ])('refuses %s', async (_, conditions, message) => {
    const runner = new Runner(await openedDevice(), network, 2);
    await expect(runner.velocity({ x, t, conditions })).rejects.toThrow(message);
    runner.dispose();
  });

  it('draws samples for one condition', async () => {
    const alike = { count: 3, seed: 1, steps: 2 };
    const drawn = await drawSamples(await openedDevice(), network, {
      ...alike,
      conditions: { context: context.subarray(0, 4) },
    });
    const other = await drawSamples(await openedDevice(), network, {
      ...alike,
      conditions: { context: context.subarray(4, 8) },
    });
    expect(drawn.noise).toEqual(other.noise);
    expect(drawn.x).not.toEqual(other.x);
    await expect(drawSamples(await openedDevice(), network, alike)).rejects.toThrow(/told context/);
  });
});

it('steps that a description shifts are those of times that are said', async () => {
  const shifted: Network = { ...network, description: { ...description, timeShift: 3 } };
  const alike = { count: 2, seed: 4, conditions: { context: context.subarray(0, 4) } };
  const drawn = await drawSamples(await openedDevice(), shifted, { ...alike, steps: 2 });
  const said = await drawSamples(await openedDevice(), network, { ...alike, steps: [1, 0.75, 0] });
  expect(drawn.x).toEqual(said.x);
});

describe('data in safetensors', () => {
  const tensorOf = (shape: number[], scale = 1) => ({
    dtype: 'F32' as const,
    shape,
    data: values(shape.reduce((product, extent) => product * extent, scale)),
  });
  const read = async (tensors: Parameters<typeof encodeSafetensors>[0]) => {
    const files = memoryStore('set');
    await files.write('set.safetensors', encodeSafetensors(tensors));
    return readDataset(files, { heldOut: 2 });
  };

  it('holds samples with what each is told, through the split, and what guidance leads away from', async () => {
    const x = tensorOf([8, 2]);
    // The first number of a context is that of its sample, so that a row in the wrong place shows.
    const context = tensorOf([8, 2, 2]);
    for (let i = 0; i < 8; i++) context.data[4 * i] = x.data[2 * i];
    const file = { x, context, 'negative.context': tensorOf([1, 2, 2]), noise: tensorOf([8, 2]), table: tensorOf([3]) };
    const set = await read(file);
    expect(set.summary).toMatch(/each with context \[2, 2\].*/);
    expect(set.summary).toMatch(/not one a sample: table/);
    expect(set.negative!.context).toEqual({ shape: [2, 2], values: file['negative.context'].data });
    for (const part of [set, set.heldOut]) {
      const { shape, values } = part.conditions!.context;
      expect(shape).toEqual([2, 2]);
      expect(values.length).toBe(4 * part.count);
      for (let i = 0; i < part.count; i++) expect(values[4 * i]).toBe(part.values[2 * i]);
    }
    expect(set.count + set.heldOut.count).toBe(8);
  });

  it('refuses a file without samples', async () => {
    await expect(read({ weight: tensorOf([2, 2]) })).rejects.toThrow(
      /holds weight: samples are looked for as x, samples/,
    );
  });
});

describe('training', () => {
  const points = 64;
  const data: SampleSet = {
    shape: [2],
    count: points,
    values: values(2 * points),
    range: [0, 1],
    conditions: { context: { shape: [2, 2], values: values(4 * points) } },
    negative: { context: { shape: [2, 2], values: values(4) } },
  };
  const recipe = (more: Partial<DistillationConfig>): DistillationConfig => {
    const defaults = distillationDefaults([2], 'velocity');
    return { ...methodRecipe('fmap', defaults, true), batch: 16, steps: 3, seed: 2, ...more };
  };

  it('of an adapter: the student starts as the guided teacher, and is asked with the same conditions', async () => {
    const diagonal = lambdaOf({ diagonal: 1 });
    const student = {
      init: 'teacher' as const,
      loraRank: 1,
      loraAlpha: 1,
      jumpRank: 0,
      rates: { inherited: 1, own: 1 },
    };
    const training = await distil(
      { device: await openedDevice(), teacher: network, data },
      recipe({ student, lambda: diagonal }),
    );
    const losses: number[] = [];
    for await (const { loss } of training) losses.push(loss);
    // At the start nothing is to be learned without guidance.
    expect(losses[0]).toBeLessThan(1e-9);
    training.dispose();
    const led = recipe({ student, lambda: diagonal, guidance: { from: 2, to: 2 } });
    const guided = await distil({ device: await openedDevice(), teacher: network, data }, led);
    const metrics: number[] = [];
    for await (const { loss } of guided) metrics.push(loss);
    expect(metrics[0]).toBeGreaterThan(1e-3);
    guided.dispose();
  });

  it('is tuned for without data', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'told-'));
    vi.stubEnv('SEMIFLOW_CACHE', folder);
    const file = join(folder, 'told.safetensors');
    const { tensors, metadata } = exportNetwork(network);
    await writeSafetensors(file, tensors, metadata);
    const { output, error } = await runHere(['tune', '--model', file, '--batch', '4', '--seconds', '1']);
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true });
    expect(error).toBeUndefined();
    expect(output).toMatch(/matmul/);
  });

  it('of a teacher trains what takes them in, whether it is told something or not', async () => {
    const defaults = { ...teacherDefaults([2]), batch: 16, steps: 3, seed: 2 };
    const training = await trainTeacher({ device: await openedDevice(), teacher: network, data }, defaults);
    const losses: number[] = [];
    for await (const { loss } of training) losses.push(loss);
    expect(losses.every((loss) => loss > 0 && Number.isFinite(loss))).toBe(true);
    const { weights } = await training.now();
    expect(await weights.read('context.weight')).not.toEqual(await network.weights.read('context.weight'));
    training.dispose();
  });

  it.each<[string, SampleSet | null, RegExp]>([
    ['no data', null, /the teacher is told context \[2,2\] of each sample, so it cannot draw samples alone/],
    ['data without them', { ...data, conditions: undefined }, /the data holds no context, which the network is told/],
    [
      'data with others',
      { ...data, conditions: { context: { shape: [4], values: values(4 * points) } } },
      /the data holds context of \[4\], which the network is told of each sample as \[2,2\]/,
    ],
  ])('refuses %s', async (_, set, message) => {
    await expect(distil({ device: await openedDevice(), teacher: network, data: set }, recipe({}))).rejects.toThrow(
      message,
    );
  });
});
