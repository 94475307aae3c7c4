import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { random } from '../src/tensor/philox.js';
import { openDevice } from '../node/device.js';
import { parseDescription } from '../src/flow/description.js';
import type { Network } from '../src/flow/network.js';
import { callsOf, equalSteps, Runner } from '../src/flow/runner.js';
import { samplerNames, samplers, type Sampler, type SamplerEntry } from '../src/flow/samplers.js';
import { drawSamples } from '../src/flow/sampling.js';
import type { Device } from '../src/gpu/device.js';
import { ParameterLayout } from '../src/nn/parameters.js';
import { abs, add, div, greater, mul, sqrt, square, sub, where } from '../src/ops/pointwise.js';
import { reshape } from '../src/ops/movement.js';
import type { Tensor } from '../src/tensor/tensor.js';

let device: Device;
beforeAll(async () => {
  device = await openDevice({ toggles: 'checked' });
});
afterAll(() => device.dispose());

// Data N(0, c²): velocity and flow map in closed form.
const c = 0.5;
const variance = (t: number) => ((1 - t) * c) ** 2 + t ** 2;
const varianceOf = (t: Tensor) => add(mul(square(sub(1, t)), c * c), square(t));
const column = (t: Tensor) => reshape(t, [t.size, 1]);

function network(role: 'teacher' | 'flow-map', forward = false): Network {
  const description = parseDescription(
    {
      role,
      architecture: { kind: 'mlp', dim: 1, width: 1, depth: 1, activation: 'silu', time: 'concat' },
      prediction: 'velocity',
      ...(forward && { forward }),
    },
    'test',
  );
  const layout = new ParameterLayout([]);
  return {
    description,
    layout,
    weights: layout.drawn(0),
    model: {
      sampleShape: [1],
      classes: 0,
      nullClass: false,
      conditions: {},
      parameters: [],
      studentParameters: new Set(),
      adapted: /^$/,
      opens: null,
      apply: (_, { x, time: t, jump }) => {
        const v = mul(x, column(div(sub(t, mul(sub(1, t), c * c)), varianceOf(t))));
        if (!jump) return v;
        const moved = sub(mul(x, column(sqrt(div(varianceOf(jump.s), varianceOf(t))))), x);
        const length = sub(jump.s, t);
        return where(greater(column(abs(length)), 1e-6), div(moved, column(length)), v);
      },
    },
  };
}

async function run(sampler: Sampler, grid: readonly number[], x: Float32Array, [t, s]: [number, number], map = false) {
  const runner = new Runner(device, network(map ? 'flow-map' : 'teacher', true), Math.min(x.length, 4096));
  const fill = (value: number) => new Float32Array(x.length).fill(value);
  const result = await runner.count({ x, t: fill(t), s: fill(s) }, grid, sampler, 7);
  runner.dispose();
  return result;
}

const points = Float32Array.of(-1.5, -0.4, 0.7, 2);
const errorOf = (got: Float32Array, [t, s]: [number, number]) =>
  Math.max(...got.map((value, i) => Math.abs(value - points[i] * Math.sqrt(variance(s) / variance(t)))));

describe('solvers on a Gaussian', () => {
  const way: [number, number] = [1, 0.1];
  it.each([
    ['euler', 1, 16],
    ['heun', 2, 16],
    ['rk4', 4, 6],
  ] as const)('%s converges with order %d', async (name, order, steps) => {
    const error = async (count: number) => errorOf((await run({ name }, equalSteps(count), points, way)).x, way);
    const measured = Math.log2((await error(steps)) / (await error(2 * steps)));
    expect(measured).toBeGreaterThan(order - 0.3);
    expect(measured).toBeLessThan(order + 0.6);
  });
  it('dopri5 keeps its tolerance, and a finer one costs more', async () => {
    const coarse = await run({ name: 'dopri5', tolerance: 1e-3 }, [0, 1], points, way);
    const fine = await run({ name: 'dopri5', tolerance: 1e-6 }, [0, 1], points, way);
    expect(errorOf(coarse.x, way)).toBeLessThan(5e-3);
    expect(errorOf(fine.x, way)).toBeLessThan(2e-5);
    expect(fine.evaluations).toBeGreaterThan(coarse.evaluations);
  });
  it('runs backwards too, from data to noise', async () => {
    const back: [number, number] = [0, 1];
    expect(errorOf((await run({ name: 'rk4' }, equalSteps(32), points, back)).x, back)).toBeLessThan(1e-4);
  });
  it('costs what it says', async () => {
    const of = async (name: Sampler['name']) => (await run({ name }, equalSteps(3), points, way)).evaluations;
    expect([await of('euler'), await of('heun'), await of('rk4'), await of('ddim')]).toEqual([3, 6, 12, 3]);
  });
  it('refuses jumps of a teacher', async () => {
    await expect(run({ name: 'jump' }, [0, 1], points, way)).rejects.toThrow(/for flow maps/);
  });
});

describe('samplers of a flow map', () => {
  const way: [number, number] = [1, 0];
  it('jumps exactly, over any times, forward too', async () => {
    const got = await run({ name: 'jump' }, [0, 0.3, 0.7, 1], points, way, true);
    expect(errorOf(got.x, way)).toBeLessThan(1e-6);
    const back: [number, number] = [0, 1];
    expect(errorOf((await run({ name: 'jump' }, [0, 1], points, back, true)).x, back)).toBeLessThan(1e-6);
  });
  it('gamma 0 is jump, gamma 1 is consistency, ddim of η = 0 is euler, of η = 1 euler-ancestral', async () => {
    const grid = equalSteps(4);
    const of = async (sampler: Sampler) => [...(await run(sampler, grid, points, way, true)).x];
    const [a, b] = [await of({ name: 'gamma', gamma: 0 }), await of({ name: 'jump' })];
    a.forEach((value, i) => expect(value).toBeCloseTo(b[i], 5));
    expect(await of({ name: 'gamma', gamma: 1 })).toEqual(await of({ name: 'consistency' }));
    expect(await of({ name: 'ddim', eta: 1 })).toEqual(await of({ name: 'euler-ancestral' }));
    const [d, e] = [await of({ name: 'ddim', eta: 0 }), await of({ name: 'euler' })];
    d.forEach((value, i) => expect(value).toBeCloseTo(e[i], 5));
  });
});

describe('fresh noise keeps the distribution of every time', () => {
  const count = 40_000;
  const { normal } = random(3);
  const start = Float32Array.from({ length: count }, () => normal());
  const spread = (x: Float32Array) => x.reduce((sum, value) => sum + value * value, 0) / x.length;
  // A variance estimated from n samples errs by √(2/n) of itself.
  const within = 4 * Math.sqrt(2 / count);

  // With the exact map every re-noised jump lands on the distribution of its time, at any strength.
  it.each([{ name: 'consistency' }, { name: 'gamma', gamma: 0.3 }, { name: 'gamma', gamma: 0.8 }] as const)(
    '%j',
    async (sampler) => {
      for (const s of [0.6, 0.2, 0]) {
        const { x } = await run(sampler, equalSteps(3), start, [1, s], true);
        expect(Math.abs(spread(x) / variance(s) - 1)).toBeLessThan(within);
      }
    },
  );
  // The solvers among them do so in the limit of many steps.
  it.each([{ name: 'ddim', eta: 0.5 }, { name: 'euler-ancestral' }, { name: 'euler-maruyama' }] as const)(
    '%j, with an error that falls with the steps',
    async (sampler) => {
      const error = async (steps: number) => {
        const { x } = await run(sampler, equalSteps(steps), start, [1, 0.2]);
        return Math.abs(spread(x) / variance(0.2) - 1);
      };
      const [few, many] = [await error(8), await error(128)];
      expect(many).toBeLessThan(within + 0.01);
      expect(many).toBeLessThan(few / 3);
    },
  );
  it('and is a pure function of the seed', async () => {
    const once = await run({ name: 'consistency' }, equalSteps(3), start.subarray(0, 100), [1, 0], true);
    const again = await run({ name: 'consistency' }, equalSteps(3), start.subarray(0, 100), [1, 0], true);
    expect(again.x).toEqual(once.x);
  });
});

/** A network whose kernels compile at once: what is asked of it is how often and with which inputs it is called. */
function simple(role: 'teacher' | 'flow-map', called: (rows: number) => void = () => {}): Network {
  const base = network(role, true);
  const model: Network['model'] = {
    ...base.model,
    classes: 1,
    nullClass: true,
    apply: (_, { x, time, jump }) => {
      called(x.shape[0]);
      return mul(x, column(jump ? add(time, jump.s) : time));
    },
  };
  return { ...base, model };
}

describe('the table of samplers', () => {
  const calls = async (name: Sampler['name'], role: 'teacher' | 'flow-map', guidance: number) => {
    let traced = 0;
    const batchSize = 2;
    const asked = simple(role, (rows) => (traced += rows / batchSize));
    const runner = new Runner(device, asked, batchSize, guidance);
    const batch = { x: points.subarray(0, 2), t: Float32Array.of(1, 1), s: Float32Array.of(0.5, 0.5) };
    const { evaluations } = await runner.count(batch, equalSteps(3), { name });
    runner.dispose();
    const step = callsOf(asked, name, guidance);
    expect(traced).toBe(step);
    return { evaluations, step };
  };
  const own = samplerNames.filter((name) => {
    const { step, measured } = samplers[name] as SamplerEntry;
    return !step && !measured;
  });
  it.each(own)(
    '%s goes from noise to data at timesteps of the network, and an evaluation is the same',
    async (name) => {
      const base = simple('teacher');
      const description: Network['description'] = {
        ...base.description,
        prediction: 'noise',
        path: { kind: 'vp', schedule: 'scaled-linear', steps: 1000 },
      };
      const scheduler = { skip_prk_steps: true, clip_sample: false };
      for (const guidance of [1, 2.5]) {
        const runner = new Runner(device, { ...base, description, scheduler }, 2, guidance);
        const batch = { x: points.subarray(0, 2), t: Float32Array.of(1, 1), s: Float32Array.of(0, 0) };
        const { x, evaluations } = await runner.count(batch, equalSteps(3), { name }, 7);
        expect([...x].every(Number.isFinite)).toBe(true);
        // The first step of that one is taken twice.
        expect(evaluations).toBe((name === 'pndm' ? 4 : 3) * (guidance === 1 ? 1 : 2));
        expect((await runner.count(batch, equalSteps(3), { name }, 7)).x).toEqual(x);
        await expect(runner.count({ ...batch, s: batch.t }, equalSteps(3), { name })).rejects.toThrow(/noise to data/);
        runner.dispose();
      }
    },
  );
  it.each(samplerNames.filter((name) => !own.includes(name)))(
    '%s: an evaluation is the network over the batch, of which guidance of a teacher takes two',
    async (name) => {
      const { jumps, measured, evaluations: costs } = samplers[name] as SamplerEntry;
      for (const [role, guidance] of [
        ['teacher', 1],
        ['teacher', 2.5],
        ['flow-map', 1],
      ] as const) {
        if (jumps && role === 'teacher') continue;
        const { evaluations, step } = await calls(name, role, guidance);
        expect(step).toBe(costs * (guidance === 1 ? 1 : 2));
        if (measured) expect(evaluations % step).toBe(0);
        else expect(evaluations).toBe(3 * step);
      }
    },
  );
  it('refuses names that are none, options of others and values out of range', async () => {
    for (const [sampler, message] of [
      [{ name: 'toString' }, /"toString" is none of the samplers/],
      [{ name: 'euler', gamma: 0.5 }, /gamma does not belong to euler/],
      [{ name: 'ddim', tolerance: 0.5 }, /tolerance does not belong to ddim/],
      [{ name: 'ddim', eta: 1.5 }, /eta is a number from 0 to 1, not 1.5/],
      [{ name: 'dopri5', tolerance: Number.NaN }, /tolerance is a number/],
    ] as const)
      await expect(run(sampler as Sampler, [0, 1], points, [1, 0])).rejects.toThrow(message);
  });
});

describe('calls at once', () => {
  it('of every method of a runner give what they give one after another', async () => {
    const runner = new Runner(device, simple('flow-map'), 3);
    const batches = [1, 2, 3].map((k) => ({
      x: Float32Array.from({ length: 5 + k }, (_, i) => Math.sin(k * i) * k),
      t: new Float32Array(5 + k).fill(1 - k / 10),
      s: new Float32Array(5 + k).fill(k / 20),
    }));
    const asked: (() => Promise<Float32Array>)[] = batches.flatMap((batch) => [
      () => runner.velocity(batch),
      () => runner.integrate(batch, 3, 'heun'),
      () => runner.integrate(batch, 1, 'dopri5'),
      () => runner.follow(batch, equalSteps(4), { name: 'euler-ancestral' }, 2 ** 40 + 5),
      async () => (await runner.count(batch, equalSteps(2), { name: 'ddim', eta: 0.4 })).x,
      () => runner.jump(batch),
      () => runner.jump(batch, 3),
    ]);
    const together = await Promise.all(asked.map((ask) => ask()));
    for (const [i, ask] of asked.entries()) expect([...(await ask())]).toEqual([...together[i]]);
    // A call that fails leaves those behind it alone.
    const [bad, good] = await Promise.allSettled([
      runner.velocity({ ...batches[0], x: new Float32Array(1) }),
      runner.velocity(batches[0]),
    ]);
    expect(bad.status).toBe('rejected');
    expect(good).toMatchObject({ status: 'fulfilled', value: together[0] });
    runner.dispose();
  });
  it('labels are one a sample', async () => {
    const runner = new Runner(device, simple('teacher'), 4);
    const times = { t: new Float32Array(4).fill(1), s: new Float32Array(4) };
    await expect(runner.integrate({ x: points, ...times, labels: new Uint32Array(3) }, 1, 'euler')).rejects.toThrow(
      /3 labels for 4 samples/,
    );
    runner.dispose();
  });
  it('fresh noise differs between neighbouring seeds, batches and high words of the seed', async () => {
    const draw = (seed: number, x = points) => {
      const runner = new Runner(device, simple('teacher'), 2);
      const batch = { x, t: new Float32Array(4).fill(1), s: new Float32Array(4).fill(0.5) };
      return runner.follow(batch, equalSteps(2), { name: 'euler-ancestral' }, seed).finally(() => runner.dispose());
    };
    const same = new Float32Array(4).fill(1);
    const [first, next, high] = [await draw(1, same), await draw(2, same), await draw(2 ** 32 + 1, same)];
    expect(new Set([...first, ...next, ...high]).size).toBe(12);
  });
  it('sampling twice at once is sampling twice', async () => {
    const options = (seed: number) => ({ count: 5, seed, steps: 4, batch: 2 });
    const [a, b] = await Promise.all([1, 2].map((seed) => drawSamples(device, simple('teacher'), options(seed))));
    expect((await drawSamples(device, simple('teacher'), options(1))).x).toEqual(a.x);
    expect((await drawSamples(device, simple('teacher'), options(2))).x).toEqual(b.x);
    expect(a.evaluations).toBe(4);
  });
});
