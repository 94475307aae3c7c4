import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compile } from '../src/autodiff/compile.js';
import { openDevice } from '../node/device.js';
import type { Device } from '../src/gpu/device.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { sum } from '../src/ops/broadcast.js';
import { adam, adamScalars, pack } from '../src/ops/optimizer.js';
import { mul, square } from '../src/ops/pointwise.js';
import { random } from '../src/tensor/philox.js';
import { fromStorage } from '../src/tensor/tensor.js';
import { relativeError } from './support/compare.js';

const draw = random(5);
const numbers = (count: number) => Float64Array.from({ length: count }, () => Math.fround(2 * draw.uniform() - 1));

describe('Adam over flat arenas', () => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice({ toggles: 'checked' });
  });
  afterAll(() => device.dispose());

  const length = 160;
  const settings = {
    learningRate: 3e-3,
    ownRate: 7e-4,
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-6,
    weightDecay: 0.1,
    clipNorm: 2,
  };
  const own = { start: 48, end: 132 };
  const decays = [0.9, 0.99];

  /** Two gradients of 100 and 29 elements at 0 and 128 of the arena; the elements between and after them get none. */
  async function optimizer(scale: number) {
    const initial = numbers(length);
    const storages = {
      parameters: new TensorStorage('parameters', 'f32', length, Float32Array.from(initial)),
      firstMoment: new TensorStorage('first moment', 'f32', length),
      secondMoment: new TensorStorage('second moment', 'f32', length),
      averages: new TensorStorage('averages', 'f32', 2 * length, Float32Array.from([...initial, ...initial])),
      own,
    };
    const scalars = new TensorStorage('scalars', 'f32', adamScalars.length + decays.length);
    const incoming = new TensorStorage('gradient', 'f32', 129);
    const scaled = mul(fromStorage(incoming), scale);
    const parts = [fromStorage(incoming, [100]), fromStorage(incoming, [29], 100)].map((part) => mul(part, scale));
    const gradient = pack(parts, [0, 128], length);
    const program = await compile(device, {
      effects: [adam(gradient, sum(square(scaled)), fromStorage(scalars), storages)],
    });
    const step = (k: number, values: Float64Array) => {
      const s = { ...settings, correction1: 1 - settings.beta1 ** k, correction2: 1 - settings.beta2 ** k };
      device.write(scalars, Float32Array.from([...adamScalars.map((name) => s[name]), ...decays]));
      device.write(incoming, Float32Array.from(values));
      program.run();
    };
    return { storages, initial, step };
  }

  it.each([0.01, 3])('follows Loshchilov and Hutter in float64 over 20 steps, gradients times %f', async (scale) => {
    const { storages, initial, step } = await optimizer(scale);
    const p = initial.slice();
    const [m, v] = [new Float64Array(length), new Float64Array(length)];
    const averages = decays.map(() => initial.slice());
    for (let k = 1; k <= 20; k++) {
      const incoming = numbers(129);
      step(k, incoming);
      const g = new Float64Array(length);
      incoming.forEach((value, i) => (g[i < 100 ? i : i + 28] = value * scale));
      const norm = Math.hypot(...g);
      const clip = Math.min(1, settings.clipNorm / norm);
      expect(clip < 1).toBe(scale > 1);
      for (let i = 0; i < length; i++) {
        m[i] = settings.beta1 * m[i] + (1 - settings.beta1) * g[i] * clip;
        v[i] = settings.beta2 * v[i] + (1 - settings.beta2) * (g[i] * clip) ** 2;
        const corrected = Math.sqrt(v[i] / (1 - settings.beta2 ** k)) + settings.epsilon;
        const decayed = i < 100 || (i >= 128 && i < 157) ? settings.weightDecay * p[i] : 0;
        const rate = i >= own.start && i < own.end ? settings.ownRate : settings.learningRate;
        p[i] -= rate * (m[i] / (1 - settings.beta1 ** k) / corrected + decayed);
        decays.forEach((decay, a) => (averages[a][i] = decay * averages[a][i] + (1 - decay) * p[i]));
      }
    }
    expect(relativeError((await device.read(storages.parameters)) as Float32Array, p)).toBeLessThan(2e-6);
    expect(relativeError((await device.read(storages.firstMoment)) as Float32Array, m)).toBeLessThan(2e-6);
    expect(relativeError((await device.read(storages.secondMoment)) as Float32Array, v)).toBeLessThan(2e-6);
    expect(
      relativeError(
        (await device.read(storages.averages)) as Float32Array,
        averages.flatMap((a) => [...a]),
      ),
    ).toBeLessThan(2e-6);
  });

  it.each([NaN, Infinity])('changes nothing when a gradient is %f', async (bad) => {
    const { storages, initial, step } = await optimizer(1);
    const values = numbers(129);
    values[57] = bad;
    step(1, values);
    expect(await device.read(storages.parameters)).toEqual(Float32Array.from(initial));
    expect(await device.read(storages.firstMoment)).toEqual(new Float32Array(length));
    expect(await device.read(storages.averages)).toEqual(Float32Array.from([...initial, ...initial]));
  });
});
