import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { readNetwork } from '../cli/networks.js';
import { loadDataset } from '../node/data.js';
import { parseDescription } from '../src/flow/description.js';
import type { Network } from '../src/flow/network.js';
import { alphaBars } from '../src/flow/noise-schedule.js';
import { describeFit, teacherFit } from '../src/flow/teacher-fit.js';
import type { Device } from '../src/gpu/device.js';
import type { Model } from '../src/models/model.js';
import { ones } from '../src/nn/initializers.js';
import { ParameterLayout } from '../src/nn/parameters.js';
import { gather, reshape } from '../src/ops/movement.js';
import { add, div, exp, floor, maximum, minimum, mul, sqrt, square, sub, toIndex } from '../src/ops/pointwise.js';
import { normals } from '../src/tensor/philox.js';
import { tensor, type Tensor } from '../src/tensor/tensor.js';

let device: Device;
beforeAll(async () => {
  device = await openDevice({ toggles: 'checked' });
});
afterAll(() => device.dispose());

const levels = 50;
const architecture = { kind: 'mlp', dim: 2, width: 2, depth: 1, activation: 'silu', time: 'concat' };
const vp = { kind: 'vp', schedule: 'linear', steps: levels };
const kinds = {
  'velocity, data at 1, levels up to 1000': { prediction: 'velocity', time: 'data-at-1', timeScale: 1000 },
  data: { prediction: 'data' },
  noise: { prediction: 'noise' },
  'vp v': { prediction: 'v', path: vp },
  edm: { prediction: 'edm', path: { kind: 've', sigmaMin: 0.02, sigmaMax: 20, sigmaData: 0.6 } },
} as const;

// Data N(m, c²) in each coordinate: the best predictions have a closed form.
const [m, c] = [1.2, 0.6];

/** A network that predicts as well as can be on the path that its description states. */
function perfect(name: keyof typeof kinds): Network {
  const description = parseDescription({ architecture, ...kinds[name] }, name);
  const { path, prediction, timeScale, time } = description;
  const column = (value: Tensor) => reshape(value, [value.size, 1]);
  const table = tensor(Float32Array.from(alphaBars({ schedule: 'linear', steps: levels })));
  /** α and σ by the network's own time, and what the point that it is shown was multiplied by. */
  const noiseAt = (own: Tensor): [Tensor, Tensor, Tensor | number] => {
    const at = div(own, timeScale);
    if (path.kind === 'straight') {
      const t = time === 'data-at-1' ? sub(1, at) : at;
      return [sub(1, t), t, 1];
    }
    if (path.kind === 'vp') {
      const low = minimum(maximum(floor(at), 0), levels - 2);
      const [below, above] = [gather(table, toIndex(low)), gather(table, toIndex(add(low, 1)))];
      const bar = add(below, mul(sub(at, low), sub(above, below)));
      return [sqrt(bar), sqrt(sub(1, bar)), 1];
    }
    const sigma = exp(mul(at, 4));
    return [add(mul(sigma, 0), 1), sigma, prediction === 'edm' ? div(1, sqrt(add(square(sigma), 0.36))) : 1];
  };
  const apply: Model['apply'] = (parameters, inputs) => {
    const [alpha, sigma, shown] = noiseAt(inputs.time).map((value) =>
      typeof value === 'number' ? value : column(value),
    ) as [Tensor, Tensor, Tensor | number];
    const x = div(inputs.x, shown);
    const variance = add(mul(square(alpha), c * c), square(sigma));
    const x0 = add(m, div(mul(mul(alpha, c * c), sub(x, mul(alpha, m))), variance));
    const z = div(sub(x, mul(alpha, x0)), maximum(sigma, 1e-6));
    const outputs = {
      velocity: () => (time === 'data-at-1' ? sub(x0, z) : sub(z, x0)),
      data: () => x0,
      noise: () => z,
      v: () => sub(mul(alpha, z), mul(sigma, x0)),
      edm: () => {
        const total = add(square(sigma), 0.36);
        const skip = div(mul(x, 0.36), total);
        return div(sub(x0, skip), div(mul(sigma, 0.6), sqrt(total)));
      },
    };
    return mul(outputs[prediction](), parameters('gain'));
  };
  const layout = new ParameterLayout([{ name: 'gain', shape: [1], initializer: ones }]);
  const model: Model = {
    sampleShape: [2],
    classes: 0,
    nullClass: false,
    conditions: {},
    parameters: layout.parameters,
    studentParameters: new Set(),
    adapted: /./,
    opens: null,
    apply,
  };
  return { description, model, layout, weights: layout.drawn(0) };
}

describe('the fit of a teacher to data', () => {
  const x = {
    values: normals(2 * 2048, 3, 0, 9).map((value) => m + c * value),
    count: 2048,
    range: [0, 1] as [number, number],
  };
  it.each(Object.keys(kinds) as (keyof typeof kinds)[])(
    '%s: the right time fits best, and is told from others',
    async (name) => {
      const network = perfect(name);
      const fit = (await teacherFit(device, network, x))!;
      expect(fit.loss).toBeLessThan(0.9 * fit.flipped);
      expect(fit.loss).toBeLessThan(0.7 * fit.zero);
      expect(fit.zero).toBeCloseTo(1 + m * m + c * c, 0);
      expect(describeFit(fit, 'data').warning).toBe(false);
    },
  );

  it('says of the shipped teacher what a description with the time the other way round would hide', async () => {
    const teacher = await readNetwork('checkpoints/rf-checkerboard.safetensors');
    const data = await loadDataset('checkerboard');
    const points = { ...data.heldOut, range: data.range };
    const fit = (await teacherFit(device, teacher, points))!;
    const { loss, flipped, zero } = fit;
    expect(flipped).toBeGreaterThan(1.2 * loss);
    expect(flipped).toBeLessThan(zero);
    expect(describeFit(fit, 'checkerboard')).toEqual({
      line: expect.stringMatching(/^the teacher's flow-matching loss on checkerboard 1\./),
      warning: false,
    });
    // As the same weights read where they are described with the time the other way round, and on data of another scale.
    const wrong = describeFit({ loss: flipped, flipped: loss, zero }, 'checkerboard');
    expect(wrong).toEqual({ line: expect.stringMatching(/time the other way round.*check time/), warning: true });
    for (const worse of [zero, 1.5 * zero, NaN])
      expect(describeFit({ loss: worse, flipped: 2 * zero, zero }, 'bytes')).toEqual({
        line: expect.stringMatching(/no better than no velocity/),
        warning: true,
      });
  });
  it('is not told where classes are needed and there are no labels', async () => {
    const network = perfect('data');
    expect(await teacherFit(device, { ...network, model: { ...network.model, classes: 3 } }, x)).toBeNull();
  });
});
