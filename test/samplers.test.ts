import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { random } from '../src/tensor/philox.js';
import { openDevice } from '../node/device.js';
import { parseDescription } from '../src/flow/description.js';
import type { Network } from '../src/flow/network.js';
import { equalSteps, Runner } from '../src/flow/runner.js';
import type { Sampler } from '../src/flow/samplers.js';
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
    arena: new Float32Array(layout.length),
    model: {
      sampleShape: [1],
      classes: 0,
      nullClass: false,
      parameters: [],
      studentParameters: new Set(),
      adapted: /^$/,
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
