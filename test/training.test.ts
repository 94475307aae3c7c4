import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { loadDataset } from '../node/data.js';
import type { Dataset } from '../src/data/dataset.js';
import { createNetwork, type Network } from '../src/flow/network.js';
import { parseDescription } from '../src/flow/description.js';
import { Runner } from '../src/flow/runner.js';
import type { Device } from '../src/gpu/device.js';
import { distillationDefaults, lambdaOf, teacherDefaults, type DistillationConfig } from '../trainers/config.js';
import { distil, trainTeacher } from '../trainers/runs.js';
import { stateOf, valuesOf } from './support/weights.js';

let device: Device;
let data: Dataset;
let teacher: Network;
const steps = 40;
const recipe: DistillationConfig = {
  ...distillationDefaults([2], 'velocity'),
  steps,
  batch: 32,
  lambda: lambdaOf({ lmd: 1, emd: 1, semigroup: 1, trajectory: 1, meanVelocity: 1, consistency: 1, diagonal: 1 }),
  optimizer: { ...distillationDefaults([2], 'velocity').optimizer, warmup: 7 },
};

beforeAll(async () => {
  device = await openDevice({ toggles: 'checked' });
  data = await loadDataset('moons', { count: 512, heldOut: 32 });
  const description = parseDescription(
    {
      architecture: { kind: 'mlp', dim: 2, width: 12, depth: 2, activation: 'silu', time: 'features' },
      time: 'noise-at-1',
      prediction: 'velocity',
    },
    'test',
  );
  teacher = createNetwork(description, 5);
});
afterAll(() => device.dispose());

async function finalState(advance: (run: Awaited<ReturnType<typeof distil>>) => Promise<void>) {
  const run = await distil({ device, teacher, data }, recipe);
  await advance(run);
  expect(run.trainer.stepsDone).toBe(steps);
  return valuesOf(run.trainer.state());
}

describe('training', () => {
  it('gives the same bits twice, in any portions, and when resumed with a fresh recording at any step', async () => {
    const whole = await finalState(async ({ trainer }) => void (await trainer.advance(steps)));
    const portions = await finalState(async ({ trainer }) => {
      while (trainer.stepsDone < steps) await trainer.advance(7);
    });
    expect(portions).toEqual(whole);
    // A step compiled afresh and restored, for each of 30 steps under a schedule that changes every time.
    let state = await (async () => {
      const run = await distil({ device, teacher, data }, recipe);
      await run.trainer.advance(10);
      return valuesOf(run.trainer.state());
    })();
    while (state.step < steps) {
      const run = await distil({ device, teacher, data }, recipe);
      await run.trainer.restore(stateOf(state));
      await run.trainer.advance(1);
      state = await valuesOf(run.trainer.state());
    }
    expect(state).toEqual(whole);
    const { 'student.parameters': weights, 'student.averages': averages } = whole.arenas;
    expect(weights.some((value, i) => value !== averages[i])).toBe(true);
  });

  it('follows the same course in f16, and resumes there to the bit', async (context) => {
    if (!device.profile.f16) return context.skip('this adapter has no f16');
    // No derivative by differences: half precision refuses those.
    const plain = { ...recipe, lambda: lambdaOf({ lmd: 1, emd: 1, semigroup: 1, diagonal: 1 }) };
    const half = { ...plain, precision: 'f16' as const };
    const [exact, rounded] = await Promise.all([
      distil({ device, teacher, data }, plain),
      distil({ device, teacher, data }, half),
    ]);
    expect(rounded.trainer.memory.bytes).toBeLessThan(exact.trainer.memory.bytes);
    const reference = await exact.trainer.advance(steps);
    const curve = await rounded.trainer.advance(20);
    const state = await valuesOf(rounded.trainer.state());
    curve.push(...(await rounded.trainer.advance(20)));
    curve.forEach(({ loss }, i) => expect(Math.abs(loss / reference[i].loss - 1)).toBeLessThan(0.02));
    const resumed = await distil({ device, teacher, data }, half);
    await resumed.trainer.restore(stateOf(state));
    await resumed.trainer.advance(20);
    expect(await valuesOf(resumed.trainer.state())).toEqual(await valuesOf(rounded.trainer.state()));
    expect(state.arenas['student.progress']).toEqual(Float32Array.of(2 ** 14, 20, 20));
  });

  it('takes another course with another seed', async () => {
    const run = await distil({ device, teacher, data }, { ...recipe, seed: 1 });
    const other = await distil({ device, teacher, data }, recipe);
    const [a] = await run.trainer.advance(1);
    const [b] = await other.trainer.advance(1);
    expect(a.loss).not.toBe(b.loss);
  });

  it('starts from the teacher: u(x, t, s) = v(x, t)', async () => {
    const network = await (await distil({ device, teacher, data }, recipe)).now();
    const [field, map] = [new Runner(device, teacher, 5), new Runner(device, network, 5)];
    const t = Float32Array.of(1, 0.9, 0.5, 0.3, 0.2);
    const s = Float32Array.of(0, 0.1, 0.5, 0, 0.1);
    const x = Float32Array.from({ length: 10 }, (_, i) => Math.sin(3 * i));
    const v = await field.velocity({ x, t });
    const jumped = await map.jump({ x, t, s });
    jumped.forEach((value, i) => expect(value).toBeCloseTo(x[i] + (s[i >> 1] - t[i >> 1]) * v[i], 5));
  });

  it('learns: flow matching and distillation both lower their loss', async () => {
    const config = { ...teacherDefaults([2]), steps: 120, batch: 128 };
    const flow = await trainTeacher({ device, teacher, data }, config);
    const losses = [...(await flow.trainer.advance(60)), ...(await flow.trainer.advance(60))].map(({ loss }) => loss);
    const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    expect(mean(losses.slice(-20))).toBeLessThan(mean(losses.slice(0, 20)));
  });
});
