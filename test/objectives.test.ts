import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { evaluate } from '../src/autodiff/eager.js';
import { openDevice } from '../node/device.js';
import { gradients } from '../src/autodiff/gradients.js';
import { step, type AverageVelocity, type Velocity } from '../src/flow/field.js';
import { answered, askable, together, type Asking } from '../src/flow/questions.js';
import type { Device } from '../src/gpu/device.js';
import { ParameterLayout } from '../src/nn/parameters.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { sum } from '../src/ops/broadcast.js';
import { abs, add, div, greater, mul, sqrt, square, stopGradient, sub, toFloat, where } from '../src/ops/pointwise.js';
import { reshape } from '../src/ops/movement.js';
import { constant, tensor, type Tensor } from '../src/tensor/tensor.js';
import { distillationDefaults, lambdaOf } from '../trainers/config.js';
import { methodRecipe } from '../trainers/methods.js';
import { Rows } from '../trainers/rows.js';
import { sharesOf } from '../trainers/shares.js';
import { objectiveNamed, objectives } from '../trainers/objectives/index.js';
import type { ObjectiveInputs } from '../trainers/objectives/objective.js';
import { squaredErrors, type Weighting } from '../trainers/regression.js';
import { decayAt, epsilonAt, powerExponent, rateAt, reachAt, warmupAt } from '../trainers/schedules.js';
import { drawPairs, type PairLaw } from '../trainers/times.js';
import { logVariance, uncertaintyParameters } from '../trainers/uncertainty.js';
import { interpret } from './support/interpreter.js';
import { drawn } from './support/weights.js';

let device: Device;
beforeAll(async () => {
  device = await openDevice({ toggles: 'checked' });
});
afterAll(() => device.dispose());

// Data N(0, c²): everything has a closed form.
const c = 0.5;
const variance = (t: Tensor) => add(mul(square(sub(1, t)), c * c), square(t));
const column = (t: Tensor) => reshape(t, [t.size, 1]);
const velocity: Velocity = (x, t) => mul(x, column(div(sub(t, mul(sub(1, t), c * c)), variance(t))));
const exact: AverageVelocity = (x, t, s) => {
  const jump = div(sub(mul(x, column(sqrt(div(variance(s), variance(t))))), x), column(sub(s, t)));
  return where(greater(column(abs(sub(t, s))), 1e-6), jump, velocity(x, t));
};

// t, s, ε, v, u, and at x = 1: EMD-Euler, EMD-Heun, LMD-Euler, composition; computed apart in float64.
const golden = [
  [1, 0, 1, 1, 0.5, 1, 0.5, 1, 0.5],
  [1, 0, 0.5, 1, 0.5, 0.552786, 0.463344, 0.776393, 0.5],
  [1, 0, 0.1, 1, 0.5, 0.50077, 0.499916, 0.511906, 0.5],
  [1, 0, 0.05, 1, 0.5, 0.500173, 0.499991, 0.502747, 0.5],
  [0.8, 0.2, 0.5, 1.153846, 0.742166, 0.794872, 0.721026, 0.927066, 0.742166],
  [0.8, 0.2, 0.1, 1.153846, 0.742166, 0.743301, 0.742084, 0.752395, 0.742166],
  [0.8, 0.2, 0.05, 1.153846, 0.742166, 0.74243, 0.742157, 0.744756, 0.742166],
  [0.5, 0, 0.5, 1.2, 0.211146, 0.446839, 0.173756, 0.511583, 0.211146],
  [0.5, 0, 0.1, 1.2, 0.211146, 0.217589, 0.210771, 0.220975, 0.211146],
  [0.5, 0, 0.05, 1.2, 0.211146, 0.212665, 0.211101, 0.213493, 0.211146],
];

/** Rows of points and times, with the exact map as target network. */
function inputs(
  rows: readonly (readonly number[])[],
  { map = exact, ...options }: Partial<ObjectiveInputs> & { map?: AverageVelocity } = {},
): ObjectiveInputs {
  const of = (i: number) => tensor(rows.map((row) => row[i]));
  const x = tensor(
    rows.map((row) => row[3] ?? 1),
    [rows.length, 1],
  );
  const [t, s] = [of(0), of(1)];
  return {
    x,
    t,
    s,
    epsilon: of(2),
    fraction: of(2),
    teacher: askable(velocity),
    pair: velocity(x, t),
    target: askable(exact),
    student: stopGradient(map(x, t, s)),
    solver: 'euler',
    solverSteps: 1,
    difference: 5e-3,
    tangent: { form: 'finite', normalization: 0, warmup: tensor([1]) },
    // A fake of data that are wider.
    samples: {
      t: mul(t, 0.9),
      z: mul(x, 0.3),
      real: askable(velocity),
      fake: askable((x, t) => mul(velocity(x, t), 1.1)),
      strength: tensor([2]),
    },
    ...options,
  };
}

/** All that are built in ask. */
const asking = (name: string, given: ObjectiveInputs) => objectiveNamed(name).target(given) as Asking<Tensor>;
const targetOf = (name: string, given: ObjectiveInputs): Tensor => answered(asking(name, given));

describe('targets of the objectives on a Gaussian, with the exact map as target network', () => {
  const rows = golden.map(([t, s, epsilon]) => [t, s, epsilon]);
  it.each([
    ['the velocity', targetOf('diagonal', inputs(rows)), 3],
    ['the map', exact(inputs(rows).x, inputs(rows).t, inputs(rows).s), 4],
    ['Eulerian, Euler', targetOf('emd', inputs(rows)), 5],
    ['Eulerian, Heun', targetOf('emd', inputs(rows, { solver: 'heun' })), 6],
    ['Lagrangian, Euler', targetOf('lmd', inputs(rows)), 7],
    ['semigroup', targetOf('semigroup', inputs(rows)), 8],
    ['consistency is the Eulerian', targetOf('consistency', inputs(rows)), 5],
    ['a trajectory of one Euler step is the Eulerian', targetOf('trajectory', inputs(rows)), 5],
    ['mean velocity: the map itself', targetOf('meanVelocity', inputs(rows, { difference: 5e-3 })), 4],
  ] as const)('%s', async (name, target, index) => {
    const values = await evaluate(device, target);
    // The difference quotient has an error of its own.
    const digits = name.startsWith('mean') ? 2 : 5;
    golden.forEach((row, i) => expect(values[i]).toBeCloseTo(row[index], digits));
  });
});

describe('what all objectives ask at one time is one call', () => {
  const pairs = [
    [0.9, 0.1, 0.3, 1],
    [0.6, 0.35, 0.2, -0.4],
    [0.2, 0.8, 0.5, 0.7],
  ];
  /** Runs objectives side by side, over inputs of 1, 2, 3, … rows, and counts the calls of teacher and target network. */
  function run(names: readonly string[], rowsOf: (i: number) => number, options: Partial<ObjectiveInputs> = {}) {
    const calls = { teacher: [] as number[], target: [] as number[] };
    const teacher = askable((x: Tensor, t: Tensor) => {
      calls.teacher.push(t.size);
      return velocity(x, t);
    });
    const target = askable((x: Tensor, t: Tensor, s: Tensor) => {
      calls.target.push(t.size);
      return mul(exact(x, t, s), 1.1);
    });
    const computations = names.map((name, i) =>
      asking(name, inputs(pairs.slice(0, rowsOf(i)), { ...options, teacher, target })),
    );
    return { calls, values: interpret(answered(together(...computations))) };
  }
  const all = objectives().map(({ name }) => name);
  const limit = { form: 'limit', normalization: 0.1, warmup: tensor([0.5]) } as const;
  it.each([
    ['as it is', {}],
    ['a Heun step', { solver: 'heun', solverSteps: 2 }],
    ['a Runge-Kutta step', { solver: 'rk4' }],
    ['in the limit', { tangent: limit, solver: 'heun' }],
  ] as [string, Partial<ObjectiveInputs>][])('and says what each hears alone: %s', (_, options) => {
    const { values, calls } = run(all, (i) => 1 + (i % 3), options);
    const alone = all.map((name, i) => run([name], () => 1 + (i % 3), options));
    values.forEach((value, i) => expect(value).toEqual(alone[i].values[0]));
    for (const network of ['teacher', 'target'] as const) {
      const lengths = alone.map((one) => one.calls[network].length);
      // As many calls as the longest has, and one more where somebody needs the other network first.
      expect(calls[network].length).toBeGreaterThanOrEqual(Math.max(...lengths));
      expect(calls[network].length).toBeLessThanOrEqual(Math.max(...lengths) + 1);
      const rows = (each: typeof calls) => each[network].reduce((sum, count) => sum + count, 0);
      expect(rows(calls)).toBe(alone.reduce((sum, one) => sum + rows(one.calls), 0));
    }
  });
  it('8 in a step of the default for images', () => {
    const { lambda } = distillationDefaults([3, 32, 32], 'velocity');
    const used = sharesOf(lambda, 64).map(({ objective }) => objective);
    const { calls } = run(
      used.map(({ name }) => name),
      () => 3,
      { solver: 'heun', solverSteps: 3 },
    );
    expect([calls.teacher.length, calls.target.length]).toEqual([6, 2]);
  });
  it('and what some tell it and others do not is not lost', () => {
    const network = askable((x: Tensor, { labels }: { labels?: Tensor }) => (labels ? add(x, toFloat(labels)) : x));
    const [x, labels] = [tensor([1, 2]), tensor(Uint32Array.of(1, 0))];
    for (const told of [
      [{}, { labels }],
      [{ labels }, {}],
      [{ labels }, { labels: undefined }],
    ])
      expect(() => answered(together(...told.map((each) => network(x, each))))).toThrow(/labels is there in some/);
    expect(answered(together(network(x, {}), network(x, { labels: undefined })))).toHaveLength(2);
  });

  it('and a question that is taken for its answer is named', () => {
    const { teacher, x, t, s } = inputs(pairs);
    const question = teacher(x, t) as unknown as Tensor;
    for (const use of [() => add(question, x), () => mul(2, question), () => step(x, t, s, question)])
      expect(use).toThrow(/yield\* teacher/);
    function* forgetful() {
      yield* [];
      return teacher(x, t) as unknown as Tensor;
    }
    expect(() => sum(answered(forgetful()))).toThrow(/yield\*/);
  });
});

describe('the gradient of each objective at the true flow map of a Gaussian', () => {
  // x, t and s anywhere, also forward; the student is the exact map plus a deviation a · x, of each sample its own.
  const pairs = [
    [0.9, 0.1],
    [0.7, 0.35],
    [0.85, 0.2],
    [0.55, 0.15],
    [0.2, 0.8],
  ].flatMap(([t, s], i) => [0.7, -1.3, 0.4 + i / 5].map((x) => [t, s, x]));

  async function gradientAt(name: string, size: number, deviation: number, options: Partial<ObjectiveInputs> = {}) {
    const a = tensor(
      pairs.map(() => deviation),
      [pairs.length, 1],
    );
    const student: AverageVelocity = (x, t, s) => add(exact(x, t, s), mul(x, a));
    const { asked } = objectiveNamed(name);
    const rows = pairs.map(([t, s, x]) => [t, asked === 'diagonal' ? t : asked === 'end' ? 0 : s, size, x]);
    const given = inputs(rows, { difference: size, map: student, ...options });
    const target = targetOf(name, given);
    const errors = squaredErrors(student(given.x, given.t, given.s), target, unweighted, context(rows.length));
    const [slope] = gradients(sum(errors), [a]);
    return [...(await evaluate(device, slope))];
  }
  const size = (slopes: readonly number[]) => Math.hypot(...slopes) / Math.sqrt(slopes.length);
  const limit = { tangent: { form: 'limit', normalization: 0, warmup: tensor([1]) } } as const;

  // By theory the one-step target errs by ε² with an Euler, ε³ with a Heun step; the limit forms, over ε, by one order
  // less; the central difference by h²; composition and diagonal not at all.
  it.each([
    ['lmd', 'euler', {}, 2],
    ['emd', 'euler', {}, 2],
    ['emd', 'heun', { solver: 'heun' }, 3],
    ['lmd', 'heun', { solver: 'heun' }, 3],
    ['consistency', 'euler', {}, 2],
    ['consistency', 'heun', { solver: 'heun' }, 3],
    ['trajectory', 'two Euler steps', { solverSteps: 2 }, 2],
    ['trajectory', 'two Heun steps', { solver: 'heun', solverSteps: 2 }, 3],
    ['emd', 'in the limit', limit, 1],
    ['lmd', 'in the limit', limit, 1],
    ['meanVelocity', 'central difference', {}, 2],
  ] as const)('%s, %s: vanishes with the predicted order', async (name, _, options, order) => {
    const [coarse, fine] = [await gradientAt(name, 0.08, 0, options), await gradientAt(name, 0.04, 0, options)];
    expect(size(fine)).toBeLessThan(0.2);
    expect(Math.log2(size(coarse) / size(fine))).toBeGreaterThan(order - 0.35);
    expect(Math.log2(size(coarse) / size(fine))).toBeLessThan(order + 0.9);
  });
  it.each(['semigroup', 'diagonal', 'dataDiagonal'] as const)('%s: vanishes', async (name) => {
    expect(size(await gradientAt(name, 0.3, 0))).toBeLessThan(2e-6);
  });
  // With the exact target network fixed, the loss of u + a x is least at a = 0: its slope there is 2 a E[x²].
  // What asks a fake leads to a distribution, not to a map: distribution.test.ts.
  const regressed = objectives().filter(({ fake }) => !fake);
  it.each(regressed.map((one) => one.name))('%s: leads back to the map from either side', async (name) => {
    const small = name === 'meanVelocity' ? 5e-3 : 0.02;
    for (const slope of await gradientAt(name, small, 0.1)) expect(slope).toBeGreaterThan(0.01);
    for (const slope of await gradientAt(name, small, -0.1)) expect(slope).toBeLessThan(-0.01);
  });
  it('a teacher of the wrong sign is far from it', async () => {
    const wrong: Velocity = (x, t) => mul(velocity(x, t), -1);
    for (const name of ['lmd', 'emd', 'consistency', 'trajectory', 'meanVelocity', 'diagonal'] as const) {
      const [right, flipped] = [
        await gradientAt(name, 0.05, 0),
        await gradientAt(name, 0.05, 0, { teacher: askable(wrong) }),
      ];
      expect(size(flipped)).toBeGreaterThan(5 * size(right));
    }
  });
});

describe('the tangent form', () => {
  const rows = [
    [0.9, 0.2, 0.05, 1],
    [0.6, 0.1, 0.05, -0.5],
  ];
  const shifted: AverageVelocity = (x, t, s) => add(exact(x, t, s), mul(x, 0.3));
  const given = { map: shifted, target: askable(shifted) };
  it('moves the student by the finite step over ε', async () => {
    const finite = await evaluate(device, targetOf('emd', inputs(rows, given)));
    const tangent = { form: 'limit', normalization: 0, warmup: tensor([1]) } as const;
    const { x, t, s } = inputs(rows);
    const u = await evaluate(device, shifted(x, t, s));
    const far = await evaluate(device, targetOf('emd', inputs(rows, { ...given, tangent })));
    far.forEach((value, i) => expect(value).toBeCloseTo(u[i] + (finite[i] - u[i]) / 0.05, 4));
  });
  it('is normalised to g / (‖g‖ + c), and without warm-up is the pull to the velocity', async () => {
    const { x, t, s } = inputs(rows);
    const [u, v] = [await evaluate(device, shifted(x, t, s)), await evaluate(device, velocity(x, t))];
    const cold = { form: 'limit', normalization: 0, warmup: tensor([0]) } as const;
    const plain = await evaluate(device, targetOf('emd', inputs(rows, { ...given, tangent: cold })));
    plain.forEach((value, i) => expect(value).toBeCloseTo(v[i], 5));
    const unit = await evaluate(
      device,
      targetOf('emd', inputs(rows, { ...given, tangent: { ...cold, normalization: 0.1 } })),
    );
    unit.forEach((value, i) => {
      const g = v[i] - u[i];
      expect(value).toBeCloseTo(u[i] + g / (Math.abs(g) + 0.1), 5);
    });
  });
});

const unweighted: Weighting = { kind: 'none', power: 1, offset: 1 };
const context = (count: number) => ({ outputScale: constant(1, [count]), lookahead: constant(1, [count]) });

describe('regression and schedules', () => {
  it('weights squared errors, and lets no gradient into the target', async () => {
    const [a, b] = [tensor([1, 2, 3, 5], [2, 2]), tensor([0, 0, 1, 1], [2, 2])];
    const given = { outputScale: tensor([0.5, 0.25]), lookahead: tensor([1, 4]), logVariance: tensor([0, 2]) };
    const by = (kind: Weighting['kind']) => squaredErrors(a, b, { kind, power: 1, offset: 1 }, given);
    const none = by('none');
    const [slope] = gradients(none, [a]);
    const got = await evaluate(device, {
      none,
      output: by('output'),
      step: by('inverse-step'),
      adaptive: by('adaptive'),
      huber: by('pseudo-huber'),
      uncertain: by('uncertainty'),
      slope,
    });
    expect([...got.none]).toEqual([2.5, 10]);
    expect([...got.output]).toEqual([0.625, 0.625]);
    expect([...got.step]).toEqual([1.25, 2]);
    expect(got.adaptive[1]).toBeCloseTo(10 / 11, 5);
    expect(got.huber[1]).toBeCloseTo(Math.sqrt(11) - 1, 5);
    expect(got.uncertain[1]).toBeCloseTo(10 * Math.exp(-2) + 2, 5);
    expect([...got.slope]).toEqual([1, 2, 2, 4]);
    expect(() => gradients(none, [b])).toThrow(/does not depend/);
  });
  it('learns a log-variance that starts at 0 and has a gradient', async () => {
    const layout = new ParameterLayout(uncertaintyParameters);
    const parameters = layout.bind(new TensorStorage('weights', 'f32', layout.length, await drawn(layout, 3)));
    const [t, s] = [tensor([0.9, 0.5]), tensor([0.1, 0.2])];
    const w = logVariance(parameters, t, s);
    const errors = add(div(tensor([3, 3]), sqrt(square(add(w, 1)))), w);
    const [slope] = gradients(sum(errors), [parameters('uncertainty.2.bias')]);
    const got = await evaluate(device, { w, slope });
    expect([...got.w]).toEqual([0, 0]);
    expect(got.slope[0]).toBeCloseTo(2 * (1 - 3), 4);
  });
  it('shares a batch by λ without losing a row', () => {
    expect(sharesOf(lambdaOf({ lmd: 1, emd: 1 }), 7).map(({ rows }) => rows)).toEqual([4, 3]);
    expect(() => sharesOf(lambdaOf({}), 5)).toThrow(/every λ is 0/);
    expect(() => sharesOf(lambdaOf({ lmd: 1, emd: 1, diagonal: 1 }), 2)).toThrow(/batch of 2/);
    const given = [
      [lambdaOf({ lmd: 1000, emd: 1, diagonal: 1 }), 5],
      [lambdaOf({ lmd: 1, emd: 1e-3 }), 64],
      [lambdaOf({ semigroup: 3e38, diagonal: 3e38, emd: 1e-30 }), 17],
      [distillationDefaults([1, 28, 28], 'velocity').lambda, 64],
      [distillationDefaults([2], 'velocity').lambda, 512],
    ] as const;
    for (const [lambda, batch] of given) {
      const shares = sharesOf(lambda, batch);
      expect(shares.reduce((total, { rows }) => total + rows, 0)).toBe(batch);
      const [first] = shares;
      for (const { objective, rows, weight } of shares) {
        expect(rows).toBeGreaterThan(0);
        // Rows and their weight count together as λ does.
        const ratio = lambda[objective.name] / lambda[first.objective.name];
        expect((rows * weight) / (first.rows * first.weight) / ratio).toBeCloseTo(1, 9);
      }
    }
    // Where rows can be shared exactly nothing is weighted: losses stay what they were, to the bit.
    expect(sharesOf(given[4][0], given[4][1]).every(({ weight }) => weight === 1)).toBe(true);
  });
  it('hold a network that predicts images to its velocity near the data, but at the ends to the image', () => {
    const image = distillationDefaults([1, 28, 28], 'data');
    expect(image.weighting.kind).toBe('adaptive');
    expect(methodRecipe('consistency', image, true).weighting.kind).toBe('output');
    expect(distillationDefaults([1, 28, 28], 'velocity').weighting.kind).toBe('none');
    expect(distillationDefaults([2], 'data').weighting.kind).toBe('output');
  });
  it('anneals ε geometrically, warms up and decays the rate', () => {
    const law = { kind: 'anneal', from: 1, to: 0.01, until: 0.5 } as const;
    expect([0, 25, 50, 99].map((step) => +epsilonAt(law, step, 100).toFixed(6))).toEqual([1, 0.1, 0.01, 0.01]);
    const rate = { peak: 2, warmup: 4, finalShare: 0.1 };
    expect([0, 3, 4].map((step) => rateAt(rate, step, 104))).toEqual([0.5, 2, 2]);
    expect(rateAt(rate, 104, 104)).toBeCloseTo(0.2);
    expect([0, 5, 10, 20].map((step) => warmupAt(10, step))).toEqual([0, 0.5, 1, 1]);
    expect([0, 25, 50, 99].map((step) => reachAt({ from: 0.5, until: 0.5 }, step, 100))).toEqual([0.5, 0.75, 1, 1]);
  });
  it('averages by a constant, a warmed-up and a power-function decay', () => {
    const law = (law: 'decay' | 'warm-up' | 'power') => ({ law, decay: 0.99, width: 0.1 }) as const;
    expect(decayAt(law('decay'), 0)).toBe(0.99);
    expect(decayAt(law('warm-up'), 0)).toBeCloseTo(0.1);
    expect(decayAt(law('warm-up'), 10_000)).toBe(0.99);
    // γ of widths 5 % and 10 % as published.
    expect(powerExponent(0.05)).toBeCloseTo(16.97, 2);
    expect(powerExponent(0.1)).toBeCloseTo(6.94, 2);
    expect(decayAt(law('power'), 0)).toBe(0);
    // Averaging the step number n gives (γ + 1) / (γ + 2) of the run.
    let mean = 0;
    for (let n = 0; n < 20_000; n++) mean += (1 - decayAt(law('power'), n)) * (n - mean);
    expect(mean / 20_000).toBeCloseTo((6.94 + 1) / (6.94 + 2), 3);
  });
});

describe('pairs of times', () => {
  const law: PairLaw = { kind: 'uniform', mean: 0, std: 1, endShare: 0.2, pairs: 'free', forwardShare: 0 };
  const draw = async (changes: Partial<PairLaw>, minimum = 0, reach = 1) => {
    const pairs = drawPairs(
      { ...law, ...changes },
      new Rows(tensor(new Uint32Array([5, 0, 1])), [4096]),
      minimum,
      0,
      tensor([reach]),
    );
    const { t, s } = await evaluate(device, { t: pairs.t, s: pairs.s });
    return [...t].map((value, i) => [value, s[i]] as const);
  };
  const share = (pairs: (readonly [number, number])[], holds: (t: number, s: number) => boolean) =>
    pairs.filter(([t, s]) => holds(t, s)).length / pairs.length;

  it('go towards data, a share of them to the end', async () => {
    const pairs = await draw({});
    expect(share(pairs, (t, s) => s <= t && s >= 0 && t <= 1)).toBe(1);
    expect(share(pairs, (_, s) => s === 0)).toBeCloseTo(0.2, 1);
  });
  it('by gap: the length has the law, t is uniform in what is left', async () => {
    const pairs = await draw({ pairs: 'gap', kind: 'logit-normal', mean: -1, std: 0.5, endShare: 0 });
    const below = share(pairs, (t, s) => t - s < 1 / (1 + Math.E));
    expect(below).toBeGreaterThan(0.46);
    expect(below).toBeLessThan(0.54);
    expect(share(pairs, (t, s) => s >= -1e-6 && t <= 1)).toBe(1);
  });
  it('stay within reach of t, in a curriculum', async () => {
    const pairs = await draw({}, 0, 0.25);
    expect(share(pairs, (t, s) => t - s <= 0.25 + 1e-6)).toBe(1);
  });
  it('turn around for the forward share, and never ask below the smallest time', async () => {
    const pairs = await draw({ forwardShare: 0.5 }, 0.05);
    expect(share(pairs, (t, s) => s > t)).toBeCloseTo(0.5, 1);
    expect(share(pairs, (t) => t >= 0.05)).toBe(1);
  });
});
