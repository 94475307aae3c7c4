import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { openSafetensors } from '../src/checkpoint/safetensors.js';
import { DivergenceError, UserError } from '../src/errors.js';
import { memoryStore, readText, type Store } from '../src/files/store.js';
import type { Device } from '../src/gpu/device.js';
import { ParameterLayout } from '../src/nn/parameters.js';
import { expand, sum } from '../src/ops/broadcast.js';
import { reshape } from '../src/ops/movement.js';
import { mul, sqrt, square, sub } from '../src/ops/pointwise.js';
import { normal } from '../src/ops/random.js';
import { normals } from '../src/tensor/philox.js';
import type { Tensor } from '../src/tensor/tensor.js';
import { train, type Progress, type Task, type TrainOptions } from '../trainers/train.js';
import type { Learner, LossContext } from '../trainers/trainer.js';
import { valuesOf } from './support/weights.js';
import { tensorsOf } from '../src/flow/network.js';
import { originSummary, readOrigin } from '../src/flow/origin.js';

let device: Device;
beforeAll(async () => {
  device = await openDevice({ toggles: 'checked' });
});
afterAll(() => device.dispose());

const size = 5;
const layout = new ParameterLayout([{ name: 'w', shape: [size], initializer: () => new Float32Array(size) }]);
const start = (value: number) => new Float32Array(layout.length).fill(value, 0, size);
const optimizer = {
  rate: { peak: 0.1, warmup: 0, finalShare: 1 },
  beta1: 0.9,
  beta2: 0.99,
  epsilon: 1e-8,
  weightDecay: 0,
  clipNorm: 1e30,
};

function learner(name: string, loss: Learner['loss'], over: Partial<Learner> = {}): Learner {
  const averages = { export: { law: 'decay', decay: 0.9, width: 0 } } as const;
  return { name, layout, initial: layout.weightsOf(start(1)), averages, optimizer, loss, ...over };
}

/** A task that ends in the average of its first learner. */
function taskOf(learners: Learner[], over: Partial<Task<Float32Array>> = {}): Task<Float32Array> {
  const result: Task<Float32Array>['result'] = (average) => average(learners[0].name, 'export').read('w');
  return {
    kind: 'test',
    weightsFile: 'w.safetensors',
    steps: 20,
    seed: 3,
    precision: 'f32',
    recipe: { steps: 20 },
    inputs: {},
    trained: size,
    learners,
    result,
    file: (average) => ({ tensors: tensorsOf(layout, average(learners[0].name, 'export')), metadata: {} }),
    ...over,
  };
}

/** Mean squares of the weights and some noise, times a scheduled number. */
const noisy = ({ parameters, key, schedule }: LossContext) => ({
  total: mul(sum(square(sub(parameters('w'), normal(key, 0, [size])))), scalar(schedule.factor)),
  parts: {},
});
/** w · factor: the gradient is the factor everywhere. */
const linear = ({ parameters, schedule }: LossContext) => ({
  total: mul(sum(parameters('w')), scalar(schedule.factor)),
  parts: {},
});
const scalar = (x: Tensor) => reshape(x, []);
const constantly = (factor: (step: number) => number) => ({ schedules: { factor } });

async function stepsOf(task: Task<Float32Array>, options?: TrainOptions) {
  const training = await train(device, task, options);
  const seen = [];
  for await (const metrics of training) seen.push(metrics);
  return { training, seen };
}

async function contents(store: Store, names: readonly string[]): Promise<(string | undefined)[]> {
  const texts = await Promise.all(names.map((name) => readText(store, name)));
  // How long steps took is another time each time.
  return texts.map((text) => text?.replaceAll(/,"(stepsPerSecond|seconds)":[\d.e+-]+/g, ''));
}
const results = ['w.safetensors', 'state.safetensors', 'metrics.jsonl'];

describe('a training', () => {
  const task = taskOf(
    [learner('a', noisy)],
    constantly(() => 1),
  );

  it('shows every step once, also to who stops asking in between', async () => {
    const { seen } = await stepsOf(task);
    expect(seen.map(({ step }) => step)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    const training = await train(device, task);
    const parts = [];
    for (const stop of [1, 2, 7, 8, 100]) {
      for await (const metrics of training) {
        parts.push(metrics);
        if (metrics.step === stop) break;
      }
    }
    expect(parts).toEqual(seen);
    expect(training.finished).toBe(true);
    training.dispose();
  });

  it('ends in the same files when it is aborted and resumed, at every step', async () => {
    const whole = memoryStore();
    await stepsOf(task, { store: whole, logEvery: 1 });
    const store = memoryStore();
    for (let step = 1; step <= 20; step += 3) {
      const abort = new AbortController();
      const training = await train(device, task, { store, logEvery: 1, resume: step > 1, signal: abort.signal });
      for await (const metrics of training) if (metrics.step >= step) abort.abort();
      expect(training.step).toBe(training.saved);
      training.dispose();
    }
    await stepsOf(task, { store, logEvery: 1, resume: true });
    expect(await contents(store, results)).toEqual(await contents(whole, results));
  });

  it('says in which phase it is', async () => {
    const phases: Progress[] = [];
    await stepsOf(task, { store: memoryStore(), onProgress: (progress) => phases.push(progress) });
    const names = phases.map(({ phase }) => phase).filter((name, i, all) => name !== all[i - 1]);
    expect(names).toEqual(['preparing', 'planned', 'compiling', 'training', 'saving']);
    for (const progress of phases)
      if (progress.phase === 'training') expect(progress.stepsPerSecond).toBeGreaterThan(0);
  });

  it('logs rate, schedules, pace and time, which goes on where it is resumed, and says in its weights how it was made', async () => {
    const store = memoryStore();
    const abort = new AbortController();
    const first = await train(device, task, { store, logEvery: 1, signal: abort.signal });
    for await (const { step } of first) if (step >= 5) abort.abort();
    first.dispose();
    const { training } = await stepsOf(task, { store, logEvery: 1, resume: true });
    const lines = await training.files!.metrics();
    expect(lines.map(({ step }) => step)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    for (const [i, line] of lines.entries()) {
      expect(line).toMatchObject({ factor: 1, learningRate: expect.any(Number), loss: expect.any(Number) });
      expect(line.stepsPerSecond).toBeGreaterThan(0);
      if (i) expect(line.seconds).toBeGreaterThanOrEqual(lines[i - 1].seconds);
    }
    const { metadata } = await openSafetensors((await store.open('w.safetensors'))!);
    expect(readOrigin(metadata)).toEqual({ ...training.origin, step: 20, steps: 20 });
    expect(originSummary(readOrigin(metadata)!).flat().join(' ')).toContain('20 steps');
    expect(readOrigin({})).toBeNull();
    expect(readOrigin({ 'semiflow-origin': '{"step": "many"}' })).toBeNull();
  });

  it('refuses a place that holds a run, and weights that are no numbers, by name', async () => {
    const store = memoryStore();
    await stepsOf(task, { store });
    await expect(train(device, task, { store })).rejects.toThrow(/holds a run already/);
    const initial = start(1);
    initial[3] = NaN;
    const before = await store.list();
    const broken = taskOf(
      [learner('student', noisy, { initial: layout.weightsOf(initial) })],
      constantly(() => 1),
    );
    await expect(train(device, broken, { store: memoryStore() })).rejects.toThrow(/student: the tensor "w" holds NaN/);
    expect(await store.list()).toEqual(before);
  });

  it('leaves nothing that blocks the next start when it fails', async () => {
    const store = memoryStore();
    const failing = taskOf([
      learner('a', () => {
        throw new UserError('no');
      }),
    ]);
    await expect(train(device, failing, { store, files: { 'config.yaml': 'a: 1' } })).rejects.toThrow('no');
    expect(await store.list()).toEqual([]);
    const diverging = taskOf(
      [learner('a', noisy)],
      constantly(() => NaN),
    );
    for (let time = 0; time < 2; time++)
      await expect(stepsOf(diverging, { store })).rejects.toThrow(/loss became NaN at step 1; no checkpoint/);
    await stepsOf(task, { store });
  });

  it('stops with the step where a gradient is no number though the loss is, and keeps its checkpoint', async () => {
    // √(w² s) at s = 0: the value is 0, its derivative 0 / 0.
    const cusp = ({ parameters, schedule }: LossContext) => ({
      total: sum(sqrt(mul(square(parameters('w')), expand(schedule.factor, [size])))),
      parts: {},
    });
    for (const bad of [0, 4, 19]) {
      const store = memoryStore();
      const task = taskOf(
        [learner('a', cusp)],
        constantly((step) => (step === bad ? 0 : 1)),
      );
      const error = await stepsOf(task, { store, saveEvery: 0 }).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(DivergenceError);
      expect((error as DivergenceError).step).toBe(bad + 1);
      expect((error as Error).message).toMatch(/the gradient became (NaN|Infinity) at step/);
    }
  });
});

describe('half precision', () => {
  const half = (factor: (step: number) => number) =>
    taskOf([learner('a', linear)], { precision: 'f16', ...constantly(factor) });

  it('corrects bias by the updates that were taken, and counts those that were not', async (context) => {
    if (!device.profile.f16) return context.skip('this adapter has no f16');
    const skips = [0, 1, 2, 9];
    const { training, seen } = await stepsOf(half((step) => (skips.includes(step) ? 1e30 : 0.25)));
    const { 'a.parameters': weights } = (await valuesOf(training.trainer.state())).arenas;
    let [m, v, p, taken] = [0, 0, 1, 0];
    for (let step = 0; step < 20; step++) {
      if (skips.includes(step)) continue;
      taken++;
      m = 0.9 * m + 0.1 * 0.25;
      v = 0.99 * v + 0.01 * 0.25 ** 2;
      p -= (0.1 * (m / (1 - 0.9 ** taken))) / (Math.sqrt(v / (1 - 0.99 ** taken)) + 1e-8);
    }
    expect(weights[0]).toBeCloseTo(p, 5);
    expect(seen.map(({ skipped }) => skipped)).toEqual(
      seen.map((_, step) => skips.filter((skip) => skip <= step).length),
    );
    expect(seen.at(-1)!.lossScale).toBe(2 ** 10);
  });

  it('diverges where no loss scale is small enough', async (context) => {
    if (!device.profile.f16) return context.skip('this adapter has no f16');
    const error = await stepsOf(half(() => 1e30)).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(DivergenceError);
    expect((error as DivergenceError).step).toBe(15);
  });

  it('goes on with the very bits that it would have rounded to', async (context) => {
    if (!device.profile.f16) return context.skip('this adapter has no f16');
    // Ties, subnormals and what overflows in half, with no update that would hide them.
    const initial = start(1);
    initial.set([1 + 2 ** -11, 2 ** -25, 3 * 2 ** -25, 65519.996, 1 + 3 * 2 ** -11]);
    const seen: number[][] = [];
    const still = { ...optimizer, rate: { peak: 1e-30, warmup: 0, finalShare: 1 } };
    const task = taskOf([learner('a', linear, { initial: layout.weightsOf(initial), optimizer: still })], {
      precision: 'f16',
      ...constantly(() => 2 ** -10),
    });
    const training = await train(device, task);
    for (let part = 0; part < 2; part++) {
      seen.push((await training.trainer.advance(3)).map(({ loss }) => loss));
      await training.trainer.restore(training.trainer.state());
    }
    expect(new Set(seen.flat()).size).toBe(1);
  });
});

describe('two learners', () => {
  // The second follows the first, the first flees from the second.
  const pair = () => [
    learner('maker', ({ parameters, learners }) => ({
      total: sum(square(sub(parameters('w'), mul(learners.judge.parameters('w'), 2)))),
      parts: { size: sum(square(parameters('w'))) },
    })),
    learner(
      'judge',
      ({ parameters, learners }) => ({
        total: sum(square(sub(parameters('w'), learners.maker.averages.export('w')))),
        parts: {},
      }),
      { initial: layout.weightsOf(start(0)), every: 3, averages: {} },
    ),
  ];

  it('may move several times within a step, each time with numbers of its own', async () => {
    const often = learner(
      'often',
      ({ parameters, key }) => ({ total: sum(parameters('w')), parts: { drawn: sum(normal(key, 0, [size])) } }),
      { turns: 3, averages: {} },
    );
    const { training, seen } = await stepsOf(
      taskOf(
        [learner('a', linear), often],
        constantly(() => 1),
      ),
    );
    // The row of a step is that of its last turn.
    seen.forEach((metrics, step) => {
      const drawn = normals(size, 3, step + 2 * 2 ** 26, 0).reduce((all, value) => all + value, 0);
      expect(metrics['often.drawn']).toBeCloseTo(drawn, 4);
    });
    // Adam goes by its rate where the gradient stays as it is, if each of its updates is counted.
    const { arenas } = await valuesOf(training.trainer.state());
    expect(arenas['often.progress'][2]).toBe(60);
    expect(arenas['often.parameters'][0]).toBeCloseTo(1 - 60 * 0.1, 3);
    expect(arenas['a.parameters'][0]).toBeCloseTo(1 - 20 * 0.1, 3);
  });

  it('take turns, each with its own loss, rate and state, and resume to the bit', async () => {
    const task = taskOf(pair());
    const { training, seen } = await stepsOf(task);
    expect(Object.keys(seen[0])).toEqual(['step', 'loss', 'gradientNorm', 'size', 'judge.loss', 'judge.gradientNorm']);
    expect(seen.filter((metrics) => 'judge.loss' in metrics).map(({ step }) => step)).toEqual([
      1, 4, 7, 10, 13, 16, 19,
    ]);
    const state = await valuesOf(training.trainer.state());
    expect(state.arenas['judge.progress'][2]).toBe(7);
    expect(state.arenas['judge.parameters'][0]).not.toBe(0);
    const resumed = await train(device, task);
    await resumed.trainer.advance(8);
    const again = await train(device, task);
    await again.trainer.restore(resumed.trainer.state());
    await again.trainer.advance(12);
    expect(await valuesOf(again.trainer.state())).toEqual(state);
  });
});
