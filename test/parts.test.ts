import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { openDevice } from '../node/device.js';
import { gradients } from '../src/autodiff/gradients.js';
import type { ClassifierNetwork } from '../src/features/classifier-file.js';
import { memoryStore, readText } from '../src/files/store.js';
import { parseDescription } from '../src/flow/description.js';
import { bindNetwork, createNetwork, studentOf, tensorsOf } from '../src/flow/network.js';
import type { Device } from '../src/gpu/device.js';
import type { Profile } from '../src/gpu/profile.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { defineBackbone } from '../src/models/backbone.js';
import { registerBackbone } from '../src/models/index.js';
import { normal } from '../src/nn/initializers.js';
import { embedJump, jumpParameters, linearParameters, quickHarmonics } from '../src/nn/layers.js';
import { ParameterLayout, type Parameters } from '../src/nn/parameters.js';
import { linear } from '../src/ops/matmul.js';
import { sum } from '../src/ops/broadcast.js';
import { concat, gather, reshape } from '../src/ops/movement.js';
import { add, greater, mul, sqrt, square, sub, where } from '../src/ops/pointwise.js';
import { constant, tensor, type Tensor } from '../src/tensor/tensor.js';
import { SampleSource, type SampleSet } from '../trainers/batches.js';
import { classificationLoss } from '../trainers/classification.js';
import { distillationDefaults, lambdaOf, teacherDefaults, type DistillationConfig } from '../trainers/config.js';
import { distillationLoss } from '../trainers/distillation.js';
import { fakeOf } from '../trainers/fake.js';
import { flowMatchingLoss } from '../trainers/flow-matching.js';
import { objectives } from '../trainers/objectives/index.js';
import { Rows, rowsOfPart } from '../trainers/rows.js';
import { rowsByObjective } from '../trainers/shares.js';
import { train, type Task, type TrainOptions } from '../trainers/train.js';
import type { Learner, Loss, LossContext } from '../trainers/trainer.js';
import { interpret, type Values } from './support/interpreter.js';
import { meeting, seat } from './support/ranks.js';
import { drawn, valuesOf } from './support/weights.js';

const counts = [1, 2, 3, 5, 11];

describe('the rows of parts', () => {
  it.each([[[11]], [[4, 7, 1, 5]], [[64]], [[1, 1, 9]]])('of %j are each row once, whatever the parts', (kinds) => {
    const total = kinds.reduce((sum, rows) => sum + rows, 0);
    for (const parts of counts) {
      const all = Array.from({ length: parts }, (_, part) => rowsOfPart(kinds, parts, part));
      const counted = all.flatMap(({ numbers, counted }) => [...numbers].filter((_, i) => counted[i]));
      expect(counted.sort((a, b) => a - b)).toEqual(Array.from({ length: total }, (_, i) => i));
      expect(new Set(all.map(({ numbers }) => numbers.length)).size).toBe(1);
      for (const { numbers } of all) expect(Math.max(...numbers)).toBeLessThan(total);
    }
  });
});

/** x, t and a row of a table by class. */
const small = defineBackbone({
  name: 'small-in-parts',
  schema: z.object({}),
  build: (_, { twoTime }) => ({
    sampleShape: [2],
    classes: 3,
    nullClass: true,
    parameters: [
      ...linearParameters('layer', 3, 2),
      { name: 'table', shape: [4, 2], initializer: normal(0.5) },
      ...(twoTime ? jumpParameters(2) : []),
    ],
    apply: (p, { x, time, jump, labels }) => {
      const h = linear(concat([x, reshape(time, [time.size, 1])], 1), p('layer.weight'), p('layer.bias'));
      const told = add(h, gather(p('table'), labels ?? constant(3, [time.size], 'u32')));
      return twoTime && jump ? add(told, embedJump(p, jump, quickHarmonics)) : told;
    },
  }),
});
registerBackbone(small);

describe('the loss of a batch in parts, in float64', () => {
  const teacher = createNetwork(
    parseDescription({ architecture: { kind: 'small-in-parts' }, prediction: 'velocity' }, 'test'),
    4,
  );
  const student = studentOf(teacher);
  const profile = { f16: false, maxBindingBytes: 2 ** 27 } as Profile;
  const data: SampleSet = {
    shape: [2],
    count: 5,
    values: Float32Array.from({ length: 10 }, (_, i) => Math.sin(i)),
    range: [0, 1],
    labels: Uint32Array.of(0, 1, 2, 1, 0),
  };
  const key = tensor(Uint32Array.of(7, 0, 2));
  const schedule = Object.fromEntries(
    Object.entries({ epsilon: 0, warmup: 0.5, reach: 0.9, strength: 3 }).map(([name, value]) => [
      name,
      tensor([value]),
    ]),
  );

  /** The sums over all parts of a loss, of what is shown beside it, and of its gradients. */
  function sums(
    kinds: readonly number[],
    parts: number,
    wrt: readonly Tensor[],
    values: Values,
    loss: (rows: Rows) => Loss,
  ): number[] {
    const each = Array.from({ length: parts }, (_, part) => {
      const { numbers, counted } = rowsOfPart(kinds, parts, part);
      const chosen = parts > 1 ? { numbers: tensor(numbers), counted: tensor(counted) } : undefined;
      const { total, parts: shown } = loss(new Rows(key, kinds, parts, chosen));
      const found = interpret([total, ...Object.values(shown), ...gradients(total, wrt)], values);
      return found.flatMap((values) => [...values]);
    });
    return each[0].map((_, i) => each.reduce((sum, values) => sum + values[i], 0));
  }

  function expectSame(kinds: readonly number[], wrt: readonly Tensor[], values: Values, loss: (rows: Rows) => Loss) {
    const whole = sums(kinds, 1, wrt, values, loss);
    expect(whole.some((value) => Math.abs(value) > 1e-3)).toBe(true);
    for (const parts of counts.slice(1))
      sums(kinds, parts, wrt, values, loss).forEach((value, i) =>
        expect(Math.abs(value - whole[i]), `${parts} parts, value ${i}`).toBeLessThan(
          1e-9 * Math.max(1, Math.abs(whole[i])),
        ),
      );
  }

  const storageOf = (layout: ParameterLayout) => new TensorStorage('w', 'f32', layout.length);
  const own = async (layout: ParameterLayout, seed: number) => {
    const storage = storageOf(layout);
    const parameters = layout.bind(storage);
    const values = (await drawn(layout, seed)).map((value, i) => value + 0.1 * Math.cos(i));
    return { storage, parameters, values, wrt: layout.parameters.map(({ name }) => parameters(name)) };
  };

  const base = distillationDefaults([2], 'velocity', true);
  const recipe = (over: Partial<DistillationConfig>): DistillationConfig => ({
    ...base,
    batch: 23,
    epsilon: { ...base.epsilon, kind: 'uniform' },
    guidance: { from: 1, to: 3 },
    ...over,
  });
  const every = lambdaOf(Object.fromEntries(objectives().map(({ name }, i) => [name, 1 + 0.3 * i])));
  const recipes: [string, DistillationConfig][] = [
    ['all objectives', recipe({ lambda: every })],
    [
      'all objectives, pairs by gap and forward',
      recipe({ lambda: every, times: { ...base.times, pairs: 'gap', forwardShare: 0.3 } }),
    ],
    [
      'times by logit, weights that adapt',
      recipe({
        lambda: lambdaOf({ lmd: 1, emd: 0.4 }),
        times: { ...base.times, kind: 'logit-normal' },
        weighting: { ...base.weighting, kind: 'adaptive' },
      }),
    ],
    ['distribution matching', recipe({ lambda: lambdaOf({ distribution: 1, diagonal: 2 }), batch: 17 })],
  ];
  it.each(recipes)('of a flow map by %s adds up to that of the whole', async (_, config) => {
    const source = new SampleSource(data, { seed: 0, batch: config.batch });
    const optimizer = { ...config.optimizer, rate: { peak: 1, warmup: 0, finalShare: 1 } };
    const fake = fakeOf(teacher, student, source, config, optimizer);
    const [a, target, b] = [
      await own(student.layout, 5),
      await own(student.layout, 6),
      await own(fake.learner.layout, 7),
    ];
    const learners = {
      student: { parameters: a.parameters, averages: { target: target.parameters } },
      fake: { parameters: b.parameters, averages: {} as Record<string, Parameters> },
    };
    const bound = bindNetwork(teacher, 'teacher', profile)('table') as Tensor<'storage'>;
    const values: Values = new Map([
      [bound.attributes.storage, await teacher.layout.collect(teacher.weights)],
      ...[a, target, b].map(({ storage, values }) => [storage, values] as const),
    ]);
    const context = (name: 'student' | 'fake', rows: Rows): LossContext => ({
      ...learners[name],
      learners,
      key,
      rows,
      schedule,
      profile,
    });
    const kinds = rowsByObjective(config);
    const loss = distillationLoss(teacher, student, source, config, undefined, fake);
    expectSame(kinds, a.wrt, values, (rows) => loss(context('student', rows)));
    if (config.lambda.distribution)
      expectSame(kinds, b.wrt, values, (rows) => fake.learner.loss(context('fake', rows)));
  });

  it('of a teacher and of a classifier too', async () => {
    const source = new SampleSource(data, { seed: 0, batch: 13 });
    const { parameters, storage, values, wrt } = await own(teacher.layout, 8);
    const context = (rows: Rows) => ({ parameters, rows, profile }) as unknown as LossContext;
    const teaching = flowMatchingLoss(teacher, source, { ...teacherDefaults([2], true), labelDropout: 0.4 });
    expectSame([13], wrt, new Map([[storage, values]]), (rows) => teaching(context(rows)));
    const logits = (p: Parameters, x: Tensor) => ({ logits: linear(concat([x, x], 1), p('table'), undefined) });
    const judge = { model: { apply: logits } } as unknown as ClassifierNetwork;
    const judging = classificationLoss(judge, source);
    expectSame([13], [parameters('table')], new Map([[storage, values]]), (rows) => {
      const square = (name: string) => reshape(parameters(name), [2, 4]);
      return judging({ ...context(rows), parameters: square });
    });
  });
});

const size = 5;
const layout = new ParameterLayout(
  ['w', 'v'].map((name) => ({ name, shape: [size], initializer: () => new Float32Array(size) })),
);
/** What is trained, of both parameters. */
const weightOf = (parameters: Parameters) => add(parameters('w'), mul(parameters('v'), parameters('v')));
const optimizer = {
  rate: { peak: 0.1, warmup: 0, finalShare: 1 },
  beta1: 0.9,
  beta2: 0.99,
  epsilon: 1e-8,
  weightDecay: 0,
  clipNorm: 1,
};

/** How far w is from noise, row by row; where noise is large the scheduled factor counts. */
const noisy = ({ parameters, rows, schedule }: LossContext): Loss => {
  const noise = rows.normal(0, [size]);
  const errors = sum(square(sub(weightOf(parameters), noise)), [1]);
  const factor = where(greater(rows.uniform(1), 0.8), schedule.factor, 1);
  return { total: rows.mean(mul(errors, factor)), parts: { plain: rows.mean(errors) } };
};
/** How far w is from that of the first learner. */
const following = ({ parameters, learners, rows }: LossContext): Loss => {
  const errors = sum(
    square(sub(add(weightOf(parameters), rows.normal(2, [size])), weightOf(learners.a.parameters))),
    [1],
  );
  return { total: rows.mean(errors), parts: {} };
};

function taskOf(
  over: Partial<Task<Float32Array>> = {},
  factor: (step: number) => number = () => 2,
): Task<Float32Array> {
  const averages = { export: { law: 'decay', decay: 0.9, width: 0 } } as const;
  const common = {
    layout,
    averages,
    optimizer,
    initial: layout.weightsOf(new Float32Array(layout.length).fill(1)),
  };
  const learners: Learner[] = [
    { ...common, name: 'a', rows: [13], loss: noisy },
    { ...common, name: 'b', rows: [6, 3, 4], loss: following, turns: 2, every: 2 },
  ];
  return {
    kind: 'test',
    weightsFile: 'w.safetensors',
    steps: 12,
    seed: 3,
    precision: 'f32',
    recipe: { steps: 12 },
    inputs: {},
    trained: size,
    learners,
    schedules: { factor },
    result: (average) => average('a', 'export').read('w'),
    file: (average) => ({ tensors: tensorsOf(layout, average('a', 'export')), metadata: {} }),
    ...over,
  };
}

describe('a training in parts', () => {
  const seats = [seat(), seat(), seat()];
  let devices: Device[];
  beforeAll(async () => {
    devices = await Promise.all(seats.map((group) => openDevice({ toggles: 'checked', group })));
  });
  afterAll(() => devices.forEach((device) => device.dispose()));

  /** The same training on each of so many ranks, to its end. */
  async function onRanks(
    ranks: number,
    task: (rank: number) => Task<Float32Array> = () => taskOf(),
    options: (rank: number) => TrainOptions = () => ({}),
    pageBytes?: number,
  ) {
    const groups = meeting(ranks);
    return Promise.all(
      groups.map(async (group, rank) => {
        seats[rank].sit(group);
        const device = pageBytes ? Object.create(devices[rank], { pageBytes: { value: pageBytes } }) : devices[rank];
        const training = await train(device as Device, task(rank), options(rank));
        const seen = [];
        try {
          for await (const metrics of training) seen.push(metrics);
          return { seen, step: training.step, state: await valuesOf(training.trainer.state()) };
        } finally {
          training.dispose();
        }
      }),
    );
  }
  const close = (a: Float32Array, b: Float32Array, tolerance = 2e-5) =>
    a.forEach((value, i) => expect(Math.abs(value - b[i])).toBeLessThan(tolerance * Math.max(1, Math.abs(b[i]))));
  type Outcome = Awaited<ReturnType<typeof onRanks>>[number];
  const expectClose = (a: Outcome, b: Outcome, tolerance?: number) => {
    expect(a.step).toBe(b.step);
    a.seen.forEach((metrics, i) => {
      expect(Object.keys(metrics)).toEqual(Object.keys(b.seen[i]));
      close(Float32Array.from(Object.values(metrics)), Float32Array.from(Object.values(b.seen[i])), tolerance);
    });
    for (const [name, values] of Object.entries(a.state.arenas)) close(values, b.state.arenas[name], tolerance);
  };

  it('is the same to rounding over 1, 2 and 3 ranks and any parts, and to the bit on all ranks and twice', async () => {
    const [whole] = await onRanks(1);
    for (const [ranks, accumulate] of [
      [1, 2],
      [1, 13],
      [2, 1],
      [3, 1],
      [2, 3],
    ] as const) {
      const options = () => ({ accumulate });
      const [first, ...others] = await onRanks(ranks, undefined, options);
      expectClose(first, whole);
      for (const other of others) expect(other).toEqual(first);
      expect((await onRanks(ranks, undefined, options))[0]).toEqual(first);
    }
  });

  it('in several pages, which are on their way before the last is computed, is the same to the bit', async () => {
    const [whole] = await onRanks(2);
    // A page for each parameter.
    for (const other of await onRanks(2, undefined, undefined, 512)) expect(other).toEqual(whole);
  });

  it('stored in half too', async (context) => {
    if (!devices[0].profile.f16) return context.skip();
    const task = () => taskOf({ precision: 'f16' });
    const [whole] = await onRanks(1, task);
    for (const [ranks, accumulate] of [
      [1, 3],
      [2, 1],
    ])
      expectClose((await onRanks(ranks, task, () => ({ accumulate })))[0], whole, 2e-3);
  });

  it('goes on with more or fewer ranks and parts, and the first rank alone keeps files', async () => {
    const [whole] = await onRanks(1);
    const store = memoryStore();
    const runs = [
      [3, 1],
      [1, 1],
      [1, 4],
      [2, 2],
    ];
    for (const [i, [ranks, accumulate]] of runs.entries()) {
      const steps = 3 * (i + 1);
      const stop = new AbortController();
      await onRanks(
        ranks,
        () => taskOf({}),
        (rank) => ({
          accumulate,
          store: rank ? { ...store, write: () => Promise.reject(new Error('another rank writes')) } : store,
          resume: i > 0,
          logEvery: 1,
          // Any of them may be told to stop.
          signal: rank === ranks - 1 ? stop.signal : undefined,
          onProgress: (progress) => {
            if (progress.phase === 'training' && progress.step >= steps) stop.abort();
          },
        }),
      );
    }
    const [resumed] = await onRanks(1, undefined, () => ({ store, resume: true }));
    expect(resumed.step).toBe(12);
    for (const [name, values] of Object.entries(resumed.state.arenas)) close(values, whole.state.arenas[name]);
    const lines = (await readText(store, 'metrics.jsonl'))!.trim().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as { step: number }).step)).toEqual(
      Array.from({ length: 12 }, (_, i) => i + 1),
    );
  });

  it('with gradients that travel in half is close to that of f32, and goes on to the bit with as many ranks', async () => {
    const options = () => ({ exchange: 'f16' as const });
    const [whole] = await onRanks(3);
    const [half, ...others] = await onRanks(3, undefined, options);
    for (const other of others) expect(other.seen).toEqual(half.seen);
    expect(half.state.arenas).not.toEqual(whole.state.arenas);
    expectClose(half, whole, 5e-3);
    // One rank alone gives nothing to anybody.
    expect((await onRanks(1, undefined, options))[0]).toEqual((await onRanks(1))[0]);
    for (const [first, second, note] of [
      [3, 3, null],
      [3, 2, /between 3 ranks: what rounding took .* is dropped/],
      [2, 1, /between 2 ranks/],
    ] as const) {
      const store = memoryStore();
      const notes: string[] = [];
      const stop = new AbortController();
      const onProgress: TrainOptions['onProgress'] = (progress) => {
        if (progress.phase === 'note') notes.push(progress.text);
        if (progress.phase === 'training' && progress.step >= 3) stop.abort();
      };
      await onRanks(first, undefined, (rank) => ({
        ...options(),
        store,
        signal: rank ? undefined : stop.signal,
        onProgress,
      }));
      const [resumed] = await onRanks(second, undefined, () => ({ ...options(), store, resume: true, onProgress }));
      if (first === second) expect(resumed.state).toEqual(half.state);
      expectClose({ ...resumed, seen: [] }, { ...whole, seen: [] }, 5e-3);
      expect(notes.filter((text) => note?.test(text)).length).toBe(note ? second : 0);
      expect(notes.filter((text) => /rounding/.test(text)).length).toBe(note ? second : 0);
    }
  });

  it('ends on all ranks at a number that only the rows of one have', async () => {
    const broken = () => taskOf({}, (step) => (step === 4 ? NaN : 2));
    for (const ranks of [1, 2, 3])
      await expect(onRanks(ranks, broken, () => ({ accumulate: 2 }))).rejects.toThrow(/the loss became NaN at step 5/);
  });

  it('says on which ranks a number was none, in the loss or in a gradient alone', async () => {
    // The root of nothing is 0, its slope is not.
    const rooted = ({ parameters, rows, schedule }: LossContext): Loss => {
      const errors = sum(square(sub(weightOf(parameters), rows.normal(0, [size]))), [1]);
      return { total: rows.mean(add(errors, sqrt(mul(errors, schedule.factor)))), parts: {} };
    };
    const of = (loss: Learner['loss'], value: number, broken: number[]) => (rank: number) =>
      taskOf({ learners: [{ ...taskOf().learners[0], loss }] }, (step) =>
        step === 4 && broken.includes(rank) ? value : 2,
      );
    for (const [task, ranks, message] of [
      [of(noisy, NaN, [1]), 2, /the loss became NaN at step 5 on rank 1;/],
      [of(noisy, Infinity, [0, 2]), 3, /the loss became Infinity at step 5 on ranks 0, 2;/],
      [of(rooted, 0, [2]), 3, /the gradient became NaN at step 5 on rank 2;/],
      [of(rooted, 0, [0, 1, 2]), 3, /the gradient became NaN at step 5;/],
    ] as const)
      await expect(onRanks(ranks, task)).rejects.toThrow(message);
  });

  it.each<[string, (rank: number) => Task<Float32Array>, (rank: number) => TrainOptions, RegExp]>([
    [
      'recipe',
      (rank) => taskOf({ recipe: { steps: 12, rate: rank } as never }),
      () => ({}),
      /rank 1 has another rate than rank 0 \(1, not 0\)/,
    ],
    [
      'input',
      (rank) => taskOf({ inputs: { data: `${Number(rank === 2)}${'a'.repeat(63)}` } }),
      () => ({}),
      /rank 2 has another data than rank 0 \(1a{11}…, not 0a{11}…\)/,
    ],
    ['number of parts', () => taskOf(), (rank) => ({ accumulate: 1 + (rank >> 1) }), /rank 2 has another accumulate/],
  ])('refuses ranks of another %s', async (_, task, options, message) => {
    const groups = meeting(3);
    const outcomes = await Promise.allSettled(
      groups.map((group, rank) => {
        seats[rank].sit(group);
        return train(devices[rank], task(rank), options(rank));
      }),
    );
    for (const outcome of outcomes) {
      expect(outcome.status).toBe('rejected');
      expect(String((outcome as PromiseRejectedResult).reason)).toMatch(message);
    }
  });

  it('refuses more parts than rows, and a loss that has none', async () => {
    seats[0].sit(meeting(1)[0]);
    await expect(train(devices[0], taskOf(), { accumulate: 14 })).rejects.toThrow(/batch of 13 .* in 14 parts/);
    await expect(train(devices[0], taskOf(), { accumulate: 0 })).rejects.toThrow(/whole number/);
    const [{ rows: _, ...without }] = taskOf().learners;
    await expect(train(devices[0], taskOf({ learners: [without] }), { accumulate: 2 })).rejects.toThrow(
      /gives no rows/,
    );
  });
});
