import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { random } from '../src/tensor/philox.js';
import { evaluate } from '../src/autodiff/eager.js';
import { openDevice } from '../node/device.js';
import { parseDescription, type Description } from '../src/flow/description.js';
import { alphaBars, straightTime } from '../src/flow/noise-schedule.js';
import { parametrization } from '../src/flow/parametrization.js';
import type { Device } from '../src/gpu/device.js';
import { tensor } from '../src/tensor/tensor.js';

let device: Device;
beforeAll(async () => {
  device = await openDevice({ toggles: 'checked' });
});
afterAll(() => device.dispose());

const architecture = { kind: 'mlp', dim: 2, width: 2, depth: 1, activation: 'silu', time: 'concat' };
const describeAs = (parts: object): Description => parseDescription({ architecture, ...parts }, 'test');

const vp = (schedule: string, steps?: number) => ({ kind: 'vp', schedule, ...(steps && { steps }) });
const cases = [
  { prediction: 'velocity' },
  { prediction: 'velocity', time: 'data-at-1', timeScale: 999 },
  { prediction: 'data', minimumTime: 0.01 },
  { prediction: 'noise' },
  ...['linear', 'scaled-linear', 'cosine'].flatMap((schedule) =>
    ['data', 'noise', 'v'].map((prediction) => ({ prediction, path: vp(schedule) })),
  ),
  { prediction: 'noise', path: vp('linear', 50), timeScale: 0.02 },
  { prediction: 'noise', path: { ...vp('sigmoid', 100), betaStart: 1e-3, betaEnd: 0.05 } },
  { prediction: 'v', path: { ...vp('linear'), zeroTerminal: true } },
  { prediction: 'data', path: { ...vp('betas', 4), betas: [0.01, 0.2, 0.5, 0.9] } },
  { prediction: 'data', path: { kind: 've' } },
  { prediction: 'noise', path: { kind: 've', sigmaMin: 0.01, sigmaMax: 50 } },
  { prediction: 'edm', path: { kind: 've', sigmaData: 0.7 } },
].map((parts) => [JSON.stringify(parts), describeAs(parts)] as const);

// Data N(m, c²) in each coordinate: what a perfect network answers is known, from what it is shown and nothing else.
const [m, c] = [0.4, 0.6];

/** α and σ that a network reads from its own time. */
function levelsAt({ path, time, timeScale }: Description, own: number): [number, number] {
  if (path.kind === 'straight') {
    const t = time === 'data-at-1' ? 1 - own / timeScale : own / timeScale;
    return [1 - t, t];
  }
  if (path.kind === 've') return [1, Math.exp((4 * own) / timeScale)];
  const bars = alphaBars(path);
  const level = own / timeScale;
  const [below, above] = [Math.floor(level), Math.min(path.steps - 1, Math.floor(level) + 1)];
  const logRatio = (n: number) => Math.log((1 - bars[n]) / bars[n]) / 2;
  const ratio = Math.exp(logRatio(below) + (level - below) * (logRatio(above) - logRatio(below)));
  const alpha = 1 / Math.sqrt(1 + ratio ** 2);
  return [alpha, ratio * alpha];
}

function perfectAnswer(description: Description, shown: number, own: number): number {
  const [alpha, sigma] = levelsAt(description, own);
  const { prediction, path } = description;
  const sigmaData = path.kind === 've' ? path.sigmaData : 1;
  const scale = Math.sqrt(sigma ** 2 + sigmaData ** 2);
  const x = prediction === 'edm' ? shown * scale : shown;
  const variance = (alpha * c) ** 2 + sigma ** 2;
  const x0 = m + (alpha * c * c * (x - alpha * m)) / variance;
  const z = (sigma * (x - alpha * m)) / variance;
  switch (prediction) {
    case 'velocity':
      return description.time === 'data-at-1' ? x0 - z : z - x0;
    case 'data':
      return x0;
    case 'noise':
      return z;
    case 'v':
      return alpha * z - sigma * x0;
    case 'edm':
      return ((x0 - (sigmaData / scale) ** 2 * x) * scale) / (sigma * sigmaData);
  }
}

/** dx/dt of the straight path at (x, t), in closed form. */
function exactVelocity(x: number, t: number): number {
  const variance = ((1 - t) * c) ** 2 + t ** 2;
  const rest = x - (1 - t) * m;
  return (t * rest) / variance - (m + ((1 - t) * c * c * rest) / variance);
}

describe('a perfect network of a Gaussian, asked through its parametrization', () => {
  const count = 257;
  const { uniform } = random(Math.floor(Math.random() * 1e6));
  const { normal } = random(Math.floor(Math.random() * 1e6));

  it.each(cases)('%s: is its velocity on the straight path', async (_, description) => {
    const view = parametrization(description);
    // Nearer to either end an f32 network of noise or data says little of the velocity.
    const [low, high] = [Math.max(view.lowest, 0.02), Math.min(view.highest, 0.98)];
    const t = Float32Array.from({ length: count }, () => low + (high - low) * uniform());
    const x = Float32Array.from({ length: 2 * count }, () => normal());
    const [xs, ts] = [tensor(x, [count, 2]), tensor(t)];
    const { shown, own } = await evaluate(device, { shown: view.point(xs, ts), own: view.time(ts) });
    const answers = Float32Array.from(shown, (value, i) => perfectAnswer(description, value, own[Math.floor(i / 2)]));
    const { v, scale } = await evaluate(device, {
      v: view.velocity(xs, ts, tensor(answers, [count, 2])),
      scale: view.outputScale(ts),
    });
    v.forEach((value, i) => {
      const wanted = exactVelocity(x[i], t[Math.floor(i / 2)]);
      // One rounding of the answer, in units of the velocity.
      const rounding = 2 ** -22 / scale[Math.floor(i / 2)];
      expect(Math.abs(value - wanted)).toBeLessThan(1e-5 * (1 + Math.abs(wanted)) + rounding);
    });
  });

  it.each(cases)('%s: its training target is what stands for z - x0', async (_, description) => {
    const view = parametrization(description);
    const [low, high] = [Math.max(view.lowest, 0.05), Math.min(view.highest, 0.95)];
    const t = Float32Array.from({ length: count }, () => low + (high - low) * uniform());
    const [x0, z] = [0, 1].map(() => Float32Array.from({ length: 2 * count }, () => normal()));
    const x = x0.map((value, i) => value + t[Math.floor(i / 2)] * (z[i] - value));
    const ts = tensor(t);
    const target = view.output(tensor(x0, [count, 2]), tensor(z, [count, 2]), ts);
    const { v } = await evaluate(device, { v: view.velocity(tensor(x, [count, 2]), ts, target) });
    v.forEach((value, i) => expect(value).toBeCloseTo(z[i] - x0[i], 4));
  });
});

describe('noise schedules', () => {
  it('are the published ones', () => {
    const linear = alphaBars({ schedule: 'linear', steps: 1000 });
    expect(linear[0]).toBeCloseTo(0.9999, 10);
    expect(linear[999]).toBeCloseTo(4.0358e-5, 8);
    expect(alphaBars({ schedule: 'scaled-linear', steps: 1000 })[999]).toBeCloseTo(0.00466, 5);
    const cosine = alphaBars({ schedule: 'cosine', steps: 1000 });
    const wanted =
      (Math.cos((((500 / 1000 + 0.008) / 1.008) * Math.PI) / 2) / Math.cos(((0.008 / 1.008) * Math.PI) / 2)) ** 2;
    expect(cosine[499]).toBeCloseTo(wanted, 10);
  });
  it('meet the straight path at equal signal-to-noise ratio', () => {
    for (const bar of [0.9999, 0.5, 0.01]) {
      const t = straightTime(bar);
      expect(t / (1 - t)).toBeCloseTo(Math.sqrt((1 - bar) / bar), 10);
    }
  });
});

describe('descriptions that contradict themselves are refused', () => {
  it.each([
    [{ prediction: 'velocity', path: vp('linear') }, /prediction: velocity belongs to the straight path/],
    [{ prediction: 'v' }, /prediction: v = α z - σ x0 belongs to a vp path/],
    [{ prediction: 'edm', path: vp('cosine') }, /prediction: edm belongs to a ve path/],
    [{ prediction: 'noise', path: vp('cosine'), time: 'data-at-1' }, /time: a vp path counts/],
  ])('%j', (parts, message) => {
    expect(() => describeAs(parts)).toThrow(message);
  });
});
