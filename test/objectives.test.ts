import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { evaluate, openDevice } from '../src/autodiff/eager.js';
import { gradients } from '../src/autodiff/gradients.js';
import type { AverageVelocity, Velocity } from '../src/flow/field.js';
import type { Device } from '../src/gpu/device.js';
import { add, div, mul, sqrt, square, sub } from '../src/ops/pointwise.js';
import { reshape } from '../src/ops/movement.js';
import { tensor, type Tensor } from '../src/tensor/tensor.js';
import { sharesOf } from '../trainers/distillation.js';
import { diagonal } from '../trainers/objectives/diagonal.js';
import { eulerian } from '../trainers/objectives/eulerian.js';
import { lagrangian } from '../trainers/objectives/lagrangian.js';
import { semigroup } from '../trainers/objectives/semigroup.js';
import { squaredErrors } from '../trainers/regression.js';
import { decayAt, epsilonAt, rateAt } from '../trainers/schedules.js';

let device: Device;
beforeAll(async () => {
  device = await openDevice({ toggles: 'checked' });
});
afterAll(() => device.close());

// Data N(0, c²): everything has a closed form.
const c = 0.5;
const variance = (t: Tensor) => add(mul(square(sub(1, t)), c * c), square(t));
const column = (t: Tensor) => reshape(t, [t.size, 1]);
const velocity: Velocity = (x, t) => mul(x, column(div(sub(t, mul(sub(1, t), c * c)), variance(t))));
const exact: AverageVelocity = (x, t, s) =>
  div(sub(mul(x, column(sqrt(div(variance(s), variance(t))))), x), column(sub(s, t)));

// t, s, ε, EMD-Euler, EMD-Heun, LMD-Euler, semigroup at x = 1, computed apart in float64.
const golden = [
  [1, 0, 0.5, 0.552786, 0.463344, 0.776393, 0.5],
  [1, 0, 0.1, 0.50077, 0.499916, 0.511906, 0.5],
  [1, 0, 0.05, 0.500173, 0.499991, 0.502747, 0.5],
  [0.8, 0.2, 0.5, 0.794872, 0.721026, 0.927066, 0.742166],
  [0.8, 0.2, 0.1, 0.743301, 0.742084, 0.752395, 0.742166],
  [0.5, 0, 0.5, 0.446839, 0.173756, 0.511583, 0.211146],
  [0.5, 0, 0.05, 0.212665, 0.211101, 0.213493, 0.211146],
];

describe('targets of the objectives on a Gaussian, with the exact map as target network', () => {
  const of = (i: number) => tensor(golden.map((row) => row[i]));
  const situation = {
    x: tensor(
      golden.map(() => 1),
      [golden.length, 1],
    ),
    t: of(0),
    s: of(1),
    epsilon: of(2),
    portion: of(2),
    teacher: velocity,
    target: exact,
    solver: 'euler' as const,
  };
  it.each([
    ['Eulerian, Euler', eulerian.target(situation), 3],
    ['Eulerian, Heun', eulerian.target({ ...situation, solver: 'heun' }), 4],
    ['Lagrangian, Euler', lagrangian.target(situation), 5],
    ['semigroup', semigroup.target(situation), 6],
  ] as const)('%s', async (_, target, index) => {
    const values = await target.data();
    golden.forEach((row, i) => expect(values[i]).toBeCloseTo(row[index], 4));
  });
  it('diagonal: the velocity', async () => {
    const values = await diagonal.target(situation).data();
    expect(values[0]).toBeCloseTo(1, 5);
    expect(values[3]).toBeCloseTo(1.153846, 5);
  });
});

describe('regression and schedules', () => {
  it('weights squared errors, and lets no gradient into the target', async () => {
    const [a, b, t] = [tensor([1, 2, 3, 5], [2, 2]), tensor([0, 0, 1, 1], [2, 2]), tensor([0.5, 0.25])];
    const none = squaredErrors(a, b, t, { kind: 'none', power: 1, offset: 1 });
    const time = squaredErrors(a, b, t, { kind: 'time', power: 1, offset: 1 });
    const adaptive = squaredErrors(a, b, t, { kind: 'adaptive', power: 1, offset: 1 });
    const [slope] = gradients(none, [a]);
    const got = await evaluate(device, { none, time, adaptive, slope });
    expect([...got.none]).toEqual([2.5, 10]);
    expect([...got.time]).toEqual([0.625, 0.625]);
    expect(got.adaptive[1]).toBeCloseTo(10 / 11, 5);
    expect([...got.slope]).toEqual([1, 2, 2, 4]);
    expect(() => gradients(none, [b])).toThrow(/does not depend/);
  });
  it('shares a batch by λ without losing a row', () => {
    expect(sharesOf({ lmd: 1, emd: 1, semigroup: 0, diagonal: 0 }, 7).map(({ rows }) => rows)).toEqual([4, 3]);
    expect(sharesOf({ lmd: 1000, emd: 1, semigroup: 0, diagonal: 1 }, 5).reduce((sum, { rows }) => sum + rows, 0)).toBe(
      5,
    );
    expect(() => sharesOf({ lmd: 0, emd: 0, semigroup: 0, diagonal: 0 }, 5)).toThrow(/every λ is 0/);
  });
  it('anneals ε geometrically, warms up and decays the rate, and warms averages up', () => {
    const law = { kind: 'anneal', from: 1, to: 0.01, until: 0.5 } as const;
    expect([0, 25, 50, 99].map((step) => +epsilonAt(law, step, 100).toFixed(6))).toEqual([1, 0.1, 0.01, 0.01]);
    const rate = { peak: 2, warmup: 4, finalShare: 0.1 };
    expect([0, 3, 4].map((step) => rateAt(rate, step, 104))).toEqual([0.5, 2, 2]);
    expect(rateAt(rate, 104, 104)).toBeCloseTo(0.2);
    expect(decayAt(0.99, 0)).toBeCloseTo(0.1);
    expect(decayAt(0.99, 10_000)).toBe(0.99);
  });
});
