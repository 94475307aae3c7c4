import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { openDevice } from '../node/device.js';
import { gradients } from '../src/autodiff/gradients.js';
import { memoryStore, type Store } from '../src/files/store.js';
import { readAll } from '../src/files/source.js';
import { parseDescription } from '../src/flow/description.js';
import { bindNetwork, createNetwork, studentOf, type Network } from '../src/flow/network.js';
import type { Device } from '../src/gpu/device.js';
import type { Profile } from '../src/gpu/profile.js';
import { defineBackbone } from '../src/models/backbone.js';
import { registerBackbone } from '../src/models/index.js';
import { jumpParameters } from '../src/nn/layers.js';
import type { Parameters } from '../src/nn/parameters.js';
import { gather, reshape } from '../src/ops/movement.js';
import { add, div, mul, sqrt, square, sub } from '../src/ops/pointwise.js';
import { normals, uniforms } from '../src/tensor/philox.js';
import { constant, tensor, type Tensor } from '../src/tensor/tensor.js';
import { SampleSource, type SampleSet } from '../trainers/batches.js';
import { distillationDefaults, lambdaOf, type DistillationConfig } from '../trainers/config.js';
import { distillationLoss } from '../trainers/distillation.js';
import { fakeOf } from '../trainers/fake.js';
import { checkRecipe, methodRecipe } from '../trainers/methods.js';
import { distil } from '../trainers/runs.js';
import type { TrainOptions } from '../trainers/train.js';
import { Rows } from '../trainers/rows.js';
import { drawBatch, rowsByObjective } from '../trainers/shares.js';
import { streams } from '../trainers/streams.js';
import type { LossContext } from '../trainers/trainer.js';
import { interpret, type Values } from './support/interpreter.js';
import { valuesOf } from './support/weights.js';

/**
 * The velocity, or the flow map, of N(mean, deviation²) on the line, in closed form; class 0 has its mean, none another.
 * As a student it is a network whose jumps from noise are distributed as its two parameters say.
 */
const gaussian = defineBackbone({
  name: 'gaussian',
  schema: z.object({}),
  build: (_, { twoTime }) => ({
    sampleShape: [1],
    classes: 1,
    nullClass: true,
    parameters: [
      { name: 'means', shape: [2], initializer: () => Float32Array.of(0.5, -0.25) },
      { name: 'deviation', shape: [1], initializer: () => Float32Array.of(0.7) },
      // Every student has them; this one knows its map without.
      ...(twoTime ? jumpParameters(2) : []),
    ],
    apply: (p, { x, time, jump, labels }) => {
      const [count] = x.shape;
      const column = (value: Tensor) => reshape(value, [count, 1]);
      const mean = column(gather(p('means'), labels ?? constant(1, [count], 'u32')));
      const own = square(reshape(p('deviation'), [1, 1]));
      const spread = (t: Tensor) => add(mul(square(sub(1, t)), own), square(t));
      const t = column(twoTime ? jump!.t : time);
      const centred = sub(x, mul(sub(1, t), mean));
      if (!twoTime) return sub(mul(div(sub(t, mul(sub(1, t), own)), spread(t)), centred), mean);
      const s = column(jump!.s);
      const end = add(mul(sub(1, s), mean), mul(centred, sqrt(div(spread(s), spread(t)))));
      return div(sub(end, x), sub(s, t));
    },
  }),
});
registerBackbone(gaussian);

describe('of Gaussians, in float64', () => {
  const teacher = createNetwork(
    parseDescription({ architecture: { kind: 'gaussian' }, prediction: 'velocity' }, 'test'),
    0,
  );
  const student = studentOf(teacher);
  const [seed, step, batch, strength] = [5, 3, 96, 12];
  const data: SampleSet = {
    shape: [1],
    count: 3,
    values: Float32Array.of(0.1, -0.4, 0.9),
    range: [0, 1],
    labels: new Uint32Array(3),
  };
  const own = { mean: 0.5, none: -0.25, deviation: Math.fround(0.7) };
  type Law = { mean: number; none?: number; deviation: number };
  const recipe = (over: Partial<DistillationConfig['distribution']> = {}, rows = batch): DistillationConfig => {
    const defaults = distillationDefaults([1], 'velocity');
    return {
      ...defaults,
      batch: rows,
      lambda: lambdaOf({ distribution: 1 }),
      distribution: { ...defaults.distribution, noiseShare: 1, strength, ...over },
    };
  };
  const weights = ({ mean, none = own.none, deviation }: Law): Record<string, Tensor> => ({
    means: tensor([mean, none]),
    deviation: tensor([deviation]),
  });
  const profile = { f16: false, maxBindingBytes: 2 ** 27 } as Profile;

  const contextOf = (config: DistillationConfig) => ({
    key: tensor(Uint32Array.of(seed, 0, step)),
    rows: new Rows(tensor(Uint32Array.of(seed, 0, step)), rowsByObjective(config)),
    schedule: Object.fromEntries(
      Object.entries({ epsilon: 0.1, warmup: 1, reach: 1, strength }).map(([key, value]) => [key, tensor([value])]),
    ),
    profile,
  });

  /** The losses of student and fake, and their gradients by mean and deviation, as those are distributed. */
  async function lossesAt(studentLaw: Law, fakeLaw: Law, config = recipe()) {
    const [a, b] = [weights(studentLaw), weights(fakeLaw)];
    const of =
      (tensors: Record<string, Tensor>): Parameters =>
      (name) =>
        tensors[name];
    const learners = {
      student: { parameters: of(a), averages: { target: of(a) } },
      fake: { parameters: of(b), averages: {} },
    };
    const context = (name: 'student' | 'fake'): LossContext => ({ ...learners[name], learners, ...contextOf(config) });
    const source = new SampleSource(data, { seed, batch });
    const optimizer = { ...config.optimizer, rate: { peak: 1, warmup: 0, finalShare: 1 } };
    const fake = fakeOf(teacher, student, source, config, optimizer);
    const losses = [
      distillationLoss(teacher, student, source, config, undefined, fake)(context('student')),
      fake.learner.loss(context('fake')),
    ];
    const slopes = losses.flatMap(({ total }, i) => {
      const { means, deviation } = [a, b][i];
      return gradients(total, [means, deviation]);
    });
    const bound = bindNetwork(teacher, 'teacher', profile)('means') as Tensor<'storage'>;
    const values: Values = new Map([[bound.attributes.storage, await teacher.layout.collect(teacher.weights)]]);
    const names = Object.keys(losses[0].parts);
    const [loss, fakeLoss, means, deviation, fakeMeans, fakeDeviation, ...parts] = interpret(
      [...losses.map(({ total }) => total), ...slopes, ...Object.values(losses[0].parts)],
      values,
    );
    return {
      parts: Object.fromEntries(names.map((name, i) => [name, parts[i][0]])),
      loss: loss[0],
      fakeLoss: fakeLoss[0],
      mean: means[0],
      deviation: deviation[0],
      fakeMean: fakeMeans[0],
      fakeDeviation: fakeDeviation[0],
    };
  }

  /** The gradient of strength · mean(g · sample) by mean and deviation, written down. */
  function expected(studentLaw: Law, fakeLaw: Law, real: Law) {
    const z = normals(batch, seed, step, streams.noise);
    const n = normals(batch, seed, step, streams.judgedNoise);
    const u = uniforms(batch, seed, step, streams.judgedTimes);
    const dataOf = ({ mean, deviation }: Law, x: number, t: number) => {
      const gain = ((1 - t) * deviation ** 2) / ((1 - t) ** 2 * deviation ** 2 + t ** 2);
      return mean + gain * (x - (1 - t) * mean);
    };
    const sums = { mean: 0, deviation: 0 };
    for (let i = 0; i < batch; i++) {
      const t = 0.02 + 0.96 * u[i];
      const sample = studentLaw.mean + studentLaw.deviation * z[i];
      const noisy = (1 - t) * sample + t * n[i];
      const [wanted, away] = [dataOf(real, noisy, t), dataOf(fakeLaw, noisy, t)];
      const g = (away - wanted) / Math.max(1e-3, Math.abs(sample - wanted));
      sums.mean += (strength / batch) * g;
      sums.deviation += (strength / batch) * g * z[i];
    }
    return sums;
  }

  it.each([0.5, 0.7, 1.3].map((deviation) => [deviation]))(
    'the gradient vanishes where the samples are judged as the data are: deviation %d',
    async (deviation) => {
      // Whatever the student's own samples are: what is judged is what the fake says of them.
      const at = await lossesAt({ mean: 0.3, deviation }, own);
      expect([at.loss, at.mean, at.deviation].map(Math.abs)).toEqual([0, 0, 0]);
    },
  );

  it.each([
    [{ mean: 0.9, deviation: 0.7 }, [1, 0]],
    [{ mean: -0.2, deviation: 0.7 }, [-1, 0]],
    [{ mean: 0.5, deviation: 1.1 }, [0, 1]],
    [{ mean: 0.5, deviation: 0.4 }, [0, -1]],
    [{ mean: 1.4, deviation: 0.3 }, [1, -1]],
  ])('elsewhere it has the size and the sign that leads to them: %o', async (law, [byMean, byDeviation]) => {
    const found = await lossesAt(law, law);
    const wanted = expected(law, law, own);
    // What a graph is given is in 32 bits.
    expect(Math.abs(found.mean / wanted.mean - 1)).toBeLessThan(1e-5);
    expect(Math.abs(found.deviation / wanted.deviation - 1)).toBeLessThan(1e-5);
    if (byMean) expect(Math.sign(found.mean)).toBe(byMean);
    if (byDeviation) expect(Math.sign(found.deviation)).toBe(byDeviation);
  });

  it('a stronger guidance of the teacher is what samples are compared with', async () => {
    for (const guidance of [0, 0.5, 1.5, 3]) {
      const real = { mean: own.none + guidance * (own.mean - own.none), deviation: own.deviation };
      const config = recipe({ guidance });
      const there = await lossesAt(real, real, config);
      // The teacher's means are kept in 32 bits.
      expect([there.mean, there.deviation].map(Math.abs).every((size) => size < 1e-5)).toBe(true);
      const found = await lossesAt(own, own, config);
      expect(found.mean).toBeCloseTo(expected(own, own, real).mean, 3);
    }
  });

  it('or the guidance of the recipe, where that is stronger', async () => {
    for (const [scale, judged] of [
      [2, 1.5],
      [2, 3],
      [0.5, 1.5],
    ]) {
      const at = Math.max(scale, judged);
      const real = { mean: own.none + at * (own.mean - own.none), deviation: own.deviation };
      const config = { ...recipe({ guidance: judged }), guidance: { from: scale, to: scale } };
      const there = await lossesAt(real, real, config);
      expect([there.mean, there.deviation].map(Math.abs).every((size) => size < 1e-5)).toBe(true);
    }
  });

  it('beside objectives that ask the teacher without', async () => {
    const guidance = 1.5;
    const real = { mean: own.none + guidance * (own.mean - own.none), deviation: own.deviation };
    for (const [law, scale, matched] of [
      [real, guidance, true],
      [own, guidance, false],
      [own, 1, true],
      [real, 1, false],
    ] as const) {
      const lambda = lambdaOf({ lmd: 0.25, diagonal: 0.25, distribution: 0.5 });
      const { parts } = await lossesAt(law, law, { ...recipe({ guidance: scale }), lambda });
      if (matched) expect(parts.distribution).toBeLessThan(1e-9);
      else expect(parts.distribution).toBeGreaterThan(1e-2);
    }
  });

  it("the fake's loss is flow matching on the student's samples, least where it is their law", async () => {
    const law = { mean: 0.9, deviation: 0.4 };
    const rows = 2048;
    const config = recipe({}, rows);
    const { fakeLoss } = await lossesAt(law, own, config);
    const z = normals(rows, seed, step, streams.noise);
    const n = normals(rows, seed, step, streams.fakeNoise);
    const u = uniforms(rows, seed, step, streams.fakeTimes);
    let sum = 0;
    for (let i = 0; i < rows; i++) {
      const t = 0.02 + 0.98 * u[i];
      const sample = law.mean + law.deviation * z[i];
      const x = (1 - t) * sample + t * n[i];
      const spread = (1 - t) ** 2 * own.deviation ** 2 + t ** 2;
      const v = ((t - (1 - t) * own.deviation ** 2) / spread) * (x - (1 - t) * own.mean) - own.mean;
      sum += (v - (n[i] - sample)) ** 2 / rows;
    }
    expect(fakeLoss).toBeCloseTo(sum, 4);
    const [at, wrong] = [await lossesAt(law, law, config), await lossesAt(law, { mean: 0.3, deviation: 0.9 }, config)];
    expect(at.fakeLoss).toBeLessThan(fakeLoss);
    expect(Math.abs(at.fakeMean)).toBeLessThan(Math.abs(wrong.fakeMean) / 3);
    expect(Math.abs(at.fakeDeviation)).toBeLessThan(Math.abs(wrong.fakeDeviation) / 3);
    expect(wrong.fakeMean).toBeLessThan(0);
    expect(wrong.fakeDeviation).toBeGreaterThan(0);
  });

  it('jumps start from pure noise for the share that is asked for, and its rows count as they are', async () => {
    const law = { mean: 0.9, deviation: 0.7 };
    const half = { ...recipe({ noiseShare: 0.5 }), weighting: { kind: 'pseudo-huber' as const, power: 1, offset: 1 } };
    const plain = { ...half, weighting: { ...half.weighting, kind: 'none' as const } };
    expect(await lossesAt(law, law, half)).toEqual(await lossesAt(law, law, plain));
    const source = new SampleSource(data, { seed, batch });
    const timesAt = (noiseShare: number) =>
      interpret([drawBatch(student, source, recipe({ noiseShare }), contextOf(recipe({ noiseShare }))).t])[0];
    const [drawn, mixed] = [timesAt(0), timesAt(0.5)];
    const u = uniforms(batch, seed, step, streams.fromNoise);
    expect([...timesAt(1)]).toEqual(Array(batch).fill(1));
    expect(Math.max(...drawn)).toBeLessThan(1);
    expect([...mixed]).toEqual([...drawn].map((t, i) => (u[i] < 0.5 ? 1 : t)));
    expect(mixed.filter((t) => t === 1).length).toBeGreaterThan(batch / 4);
  });
});

describe('a run', () => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice({ toggles: 'checked' });
  });
  afterAll(() => device.dispose());

  const mlp = { kind: 'mlp', dim: 2, width: 8, depth: 1, activation: 'silu', time: 'features' };
  const teacher = createNetwork(parseDescription({ architecture: mlp, prediction: 'velocity' }, 'test'), 1);
  const values = normals(64, 1, 0, 0);
  const data: SampleSet = { shape: [2], count: 32, values, range: [0, 1] };
  const defaults = distillationDefaults([2], 'velocity');
  const recipe: DistillationConfig = {
    ...defaults,
    method: 'distribution',
    steps: 4,
    batch: 12,
    lambda: lambdaOf({ distribution: 1 }),
    distribution: { ...defaults.distribution, warmup: 2, updates: 2 },
  };
  const files = async (store: Store) =>
    Promise.all(['state.safetensors', 'student.safetensors'].map(async (name) => readAll((await store.open(name))!)));

  async function stepsOf(config: DistillationConfig, options: TrainOptions = {}, until = config.steps) {
    const abort = new AbortController();
    const training = await distil({ device, teacher, data }, config, { ...options, signal: abort.signal });
    const start = await valuesOf(training.trainer.state());
    const seen = [];
    for await (const metrics of training) {
      seen.push(metrics);
      if (metrics.step >= until) abort.abort();
    }
    const end = await valuesOf(training.trainer.state());
    training.dispose();
    return { start, seen, end };
  }

  it('has a fake that starts as the teacher and learns, and resumes to the bit', async () => {
    const whole = memoryStore();
    const { start, seen, end } = await stepsOf(recipe, { store: whole });
    expect(start.arenas['fake.parameters']).toEqual(await teacher.layout.collect(teacher.weights));
    expect(end.arenas['fake.parameters']).not.toEqual(start.arenas['fake.parameters']);
    expect(end.arenas['fake.progress'][2]).toBe(8);
    expect(end.arenas['student.progress'][2]).toBe(4);
    // Both judge alike before the fake has learned anything.
    expect(Math.abs(seen[0].distribution)).toBeLessThan(1e-10);
    for (const metrics of seen.slice(1)) expect(metrics.distribution).toBeGreaterThan(0);
    for (const metrics of seen) expect(metrics['fake.loss']).toBeGreaterThan(0);
    const store = memoryStore();
    await stepsOf(recipe, { store }, 1);
    await stepsOf(recipe, { store, resume: true });
    expect(await files(store)).toEqual(await files(whole));
  });

  it('may have one of low rank, which starts as the teacher too', async () => {
    const { seen, start, end } = await stepsOf({ ...recipe, distribution: { ...recipe.distribution, rank: 2 } }, {}, 2);
    expect(Math.abs(seen[0].distribution)).toBeLessThan(1e-10);
    expect(seen[1].distribution).toBeGreaterThan(0);
    expect(end.arenas['fake.parameters']).not.toEqual(start.arenas['fake.parameters']);
  });

  it('of before there was such an objective goes on', async () => {
    const old = { ...recipe, lambda: { diagonal: 1 } } as Partial<DistillationConfig>;
    delete old.distribution;
    const store = memoryStore();
    const first = await distil({ device, teacher, data }, { ...(old as DistillationConfig), steps: 1 }, { store });
    for await (const _ of first);
    first.dispose();
    const now = { ...recipe, lambda: lambdaOf({ diagonal: 1 }), distribution: defaults.distribution };
    for (const steps of [2, 3]) {
      // A recipe is kept as it was written: what it went on as is what it goes on as again.
      const resumed = await distil({ device, teacher, data }, { ...now, steps }, { store, resume: true });
      for await (const _ of resumed);
      expect(resumed.step).toBe(steps);
      resumed.dispose();
    }
    await expect(distil({ device, teacher, data }, recipe, { store, resume: true })).rejects.toThrow(
      /lambda\.diagonal is 0|lambda\.distribution is 1/,
    );
  });

  it('goes on from a flow map, which it remembers', async () => {
    const given = studentOf(teacher, { ...teacher.description, role: 'flow-map' }, 7);
    const store = memoryStore();
    const config = { ...recipe, steps: 1, optimizer: { ...recipe.optimizer, rate: 1e-30 } };
    const training = await distil({ device, teacher, start: given, data }, config, { store });
    for await (const _ of training);
    const now = await training.now();
    const [kept, start] = [await now.layout.collect(now.weights), await given.layout.collect(given.weights)];
    start.forEach((value, i) => expect(kept[i]).toBeCloseTo(value, 6));
    training.dispose();
    const other: Network = studentOf(teacher, given.description, 8);
    await expect(
      distil({ device, teacher, start: other, data }, { ...config, steps: 2 }, { store, resume: true }),
    ).rejects.toThrow(/the student is not what this run was started with/);
  });

  it('refuses in a line what cannot be', async () => {
    const at = (over: Partial<DistillationConfig>) => ({ ...recipe, ...over });
    expect(() => checkRecipe(at({ precision: 'f16' }), true)).toThrow(/distribution divides by what is small/);
    expect(() => checkRecipe(at({ velocity: 'data' }), true)).toThrow(/distribution asks for the velocity/);
    expect(() => checkRecipe(at({ guidance: { from: 1, to: 3 } }), true)).toThrow(/give one scale/);
    const refused: [{ start?: Network }, DistillationConfig, RegExp][] = [
      [{}, at({ distribution: { ...recipe.distribution, guidance: 2 } }), /no row for none/],
      [{ start: teacher }, recipe, /the flow map to start from has no tensor/],
      [{ start: studentOf(wider) }, recipe, /the flow map to start from: "[^"]+" has shape/],
    ];
    for (const [over, config, says] of refused)
      await expect(distil({ device, teacher, data, ...over }, config)).rejects.toThrow(says);
  });
  const wider = createNetwork(
    parseDescription({ architecture: { ...mlp, width: 16 }, prediction: 'velocity' }, 'w'),
    1,
  );

  it('its method is the default and half as many rows more, on points and on images', () => {
    for (const shape of [[2], [1, 28, 28]])
      for (const none of [false, true]) {
        const before = distillationDefaults(shape, 'velocity', none);
        const { lambda, batch, distribution } = methodRecipe('distribution', before, true);
        const jumps = Object.values({ ...before.lambda, diagonal: 0 }).reduce((sum, value) => sum + value, 0);
        const diagonal = before.lambda.diagonal || jumps / 4;
        expect(batch).toBe(1.5 * before.batch);
        expect(lambda.diagonal).toBeGreaterThan(0);
        expect(lambda).toEqual({ ...before.lambda, diagonal, distribution: (jumps + diagonal) / 2 });
        expect(distribution.guidance).toBe(none ? 1.5 : 1);
      }
  });
});
