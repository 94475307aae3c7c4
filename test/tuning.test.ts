import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openDevice } from '../node/device.js';
import { build, planProgram } from '../src/autodiff/compile.js';
import { gradients, reachable } from '../src/autodiff/gradients.js';
import { memoryStore, readText } from '../src/files/store.js';
import type { Device } from '../src/gpu/device.js';
import type { Profile } from '../src/gpu/profile.js';
import { silu } from '../src/ops/activations.js';
import { attention } from '../src/ops/attention.js';
import { max, sum } from '../src/ops/broadcast.js';
import { conv2d } from '../src/ops/convolution.js';
import { matmul } from '../src/ops/matmul.js';
import { groupNorm, layerNorm, softmax } from '../src/ops/normalization.js';
import { add, mul } from '../src/ops/pointwise.js';
import { random } from '../src/tensor/philox.js';
import { tensor, type Tensor } from '../src/tensor/tensor.js';
import { keepChoices, readChoices, wereMeasured } from '../src/tuning/cache.js';
import { trialsOf, type Trial } from '../src/tuning/trials.js';
import { fastest, tune, type Measured } from '../src/tuning/tune.js';
import { relativeError } from './support/compare.js';
import { full } from './support/full.js';
import { interpret } from './support/interpreter.js';
import { openNullDevice } from './support/null-device.js';

/**
 * Faults planted in one candidate each: the short tile of lanes adds a thousandth to products of 40 rows, and has one element
 * of 44 that is no number; attention by 7 keys a workgroup adds a hundredth to the gradient of its values.
 */
vi.mock('../kernels/sources.js', async (original) => {
  const { sources } = await original<typeof import('../kernels/sources.js')>();
  const planted = (name: keyof typeof sources, right: string, wrong: string) => {
    if (!sources[name].includes(right)) throw new Error(`${name} has no ${right}`);
    return { [name]: sources[name].replace(right, wrong) };
  };
  const none = 'select(0.0, sqrt(-f32(numbers.M)), ROWS == 16u && numbers.M == 44u && tile.row + col + r == 0u)';
  return {
    sources: {
      ...sources,
      ...planted(
        'matmul-subgroup',
        'c.upper.r0[0], valid',
        `c.upper.r0[0] * select(1.0, 1.001, ROWS == 16u && numbers.M == 40u) + ${none}, valid`,
      ),
      ...planted(
        'attention-gradient-kv-subgroup',
        'store_second4(at, y, valid',
        'store_second4(at, y * select(1.0, 1.01, ROWS == 7u), valid',
      ),
    },
  };
});

const drawn = (seed: number, ...shape: number[]) => {
  const { normal } = random(seed);
  return tensor(Float32Array.from({ length: shape.reduce((a, b) => a * b) }, normal), shape);
};

/** A graph in which every kind of choice is met. */
function manyChoices(): Record<string, Tensor> {
  const [x, w, v] = [drawn(1, 2, 12, 24), drawn(2, 24, 24), drawn(3, 24, 36)];
  const q = matmul(layerNorm(x), w);
  const y = softmax(matmul(silu(attention(q, x, q, 3)), v));
  const image = drawn(4, 2, 6, 5, 8);
  const conv = conv2d(groupNorm(image, 2), drawn(5, 3, 3, 8, 12), undefined, { padding: 1 });
  const slopes = gradients(add(sum(mul(y, y)), sum(mul(conv, conv))), [x, w, v, image]);
  return Object.fromEntries([y, max(conv, [1]), sum(y, [2]), add(x, 1), ...slopes].map((value, i) => [`${i}`, value]));
}

const choicesOf = (profile: Profile, outputs = manyChoices(), half = false) =>
  trialsOf([planProgram(profile, { outputs, half })]);

describe('what a program leaves open', () => {
  const kinds = [
    'attention',
    'attentionGradientQ',
    'attentionGradientKV',
    'normalize',
    'normalize-gradient',
    'softmax',
  ];
  const others = ['softmax-gradient', 'reduce-rows', 'pointwise'];
  let nowhere: Device;
  beforeAll(async () => {
    nowhere = await openNullDevice({ family: 'tiled' });
  });
  afterAll(() => nowhere.dispose());

  it('is every kind of kernel that has several ways, each once, the heaviest first', () => {
    const trials = choicesOf(nowhere.profile);
    const keys = trials.map(({ choice }) => choice.key);
    expect(new Set(keys).size).toBe(keys.length);
    for (const kind of [...kinds, ...others, 'matmul-tiled', 'reduce-columns'])
      expect(
        keys.some((key) => key.startsWith(`${kind} `)),
        kind,
      ).toBe(true);
    const weights = trials.map(({ weight }) => weight);
    expect(weights).toEqual([...weights].sort((a, b) => b - a));
  });

  it('is a sum of two products where a program has one, not the two', () => {
    const [a, b, c, d] = [drawn(1, 33, 24), drawn(2, 24, 36), drawn(3, 33, 16), drawn(4, 16, 36)];
    const keys = choicesOf(nowhere.profile, { y: add(matmul(a, b), matmul(c, d)) }).map(({ choice }) => choice.key);
    expect(keys.filter((key) => key.startsWith('matmul'))).toEqual(['matmul-tiled 1x32x32+16x32']);
  });

  // The gradient of a norm of what is its own gradient is nothing, by which no candidate can be judged.
  it('is tried on other numbers for each thing that is read', () => {
    const { graph } = choicesOf(nowhere.profile).find(({ choice }) => choice.key.startsWith('normalize-gradient'))!;
    const texts = reachable(graph()).flatMap((node) =>
      node.op === 'storage' ? [String((node as Tensor<'storage'>).attributes.storage.initial)] : [],
    );
    expect(texts.length).toBeGreaterThan(1);
    expect(new Set(texts).size).toBe(texts.length);
  });

  it('compiles by every candidate, for the trial that compares them too', async () => {
    for (const half of [false, true]) {
      for (const { choice, graph } of choicesOf(nowhere.profile, manyChoices(), half)) {
        for (const candidate of choice.candidates) {
          const profile = { ...nowhere.profile, choices: { [choice.key]: candidate } };
          const outputs = Object.fromEntries(graph().map((value, i) => [`${i}`, value]));
          const program = await build(nowhere, planProgram(profile, { outputs, half }));
          await nowhere.finished();
          program.dispose();
        }
      }
    }
  });

  it('decides about the very kernels that a program runs: another candidate is another program', () => {
    const textOf = (profile: Profile, outputs: Record<string, Tensor>) =>
      planProgram(profile, { outputs })
        .tasks.map(({ kernel }) => JSON.stringify({ ...kernel, operands: kernel.operands.length }))
        .join();
    const outputs = manyChoices();
    const table = textOf(nowhere.profile, outputs);
    for (const { choice, graph } of choicesOf(nowhere.profile, outputs)) {
      const trial = Object.fromEntries(graph().map((value, i) => [`${i}`, value]));
      const trialTable = textOf(nowhere.profile, trial);
      const differ = choice.candidates.slice(1).filter((candidate) => {
        const profile = { ...nowhere.profile, choices: { [choice.key]: candidate } };
        return textOf(profile, outputs) !== table && textOf(profile, trial) !== trialTable;
      });
      expect(differ.length, choice.key).toBeGreaterThan(0);
    }
  });

  it('a finding that is no candidate counts for nothing', () => {
    const trials = choicesOf(nowhere.profile);
    const choices = Object.fromEntries(trials.map(({ choice }) => [choice.key, { rows: 7, lanes: 3 }]));
    const sources = (profile: Profile) =>
      planProgram(profile, { outputs: manyChoices() }).tasks.map(
        ({ kernel }) => `${kernel.source} ${kernel.workgroups}`,
      );
    expect(sources({ ...nowhere.profile, choices })).toEqual(sources(nowhere.profile));
  });
});

describe('the fastest candidate', () => {
  const measured = fc.array(
    fc.record({
      milliseconds: fc.option(fc.double({ min: 0.01, max: 10, noNaN: true }), { nil: undefined }),
      noise: fc.double({ min: 0, max: 0.5, noNaN: true }),
    }),
    { minLength: 1, maxLength: 6 },
  );
  it('is never one that was refused, never slower than the table, and the table within noise', () => {
    fc.assert(
      fc.property(measured, (all) => {
        const list: Measured[] = all.map((one, i) => ({ candidate: { number: i }, ...one }));
        const best = list[fastest(list).number];
        const ran = list.filter(({ milliseconds }) => milliseconds !== undefined);
        const [table] = list;
        if (table.milliseconds === undefined) {
          const least = Math.min(...ran.map(({ milliseconds }) => milliseconds!));
          expect(best.milliseconds ?? Infinity).toBe(least);
        } else if (best !== table) {
          expect(table.milliseconds - best.milliseconds!).toBeGreaterThan(table.noise! + best.noise!);
          expect(best.milliseconds!).toBeLessThan(0.97 * table.milliseconds);
        }
      }),
    );
  });
});

describe('choices are kept', () => {
  const adapter = { vendor: 'v', architecture: 'a', description: 'card, driver 1.2' } as Profile;
  const choices = { 'matmul-tiled 64x64': { rows: 128, columns: 64 } };

  it('for one adapter, driver and version', async () => {
    const store = memoryStore();
    expect(await wereMeasured(store, adapter)).toBe(false);
    const name = await keepChoices(store, adapter, choices);
    expect(await readChoices(store, adapter)).toEqual(choices);
    for (const other of [
      { ...adapter, description: 'card, driver 1.3' },
      { ...adapter, vendor: 'w' },
      { ...adapter, architecture: 'b' },
    ]) {
      expect(await readChoices(store, other)).toEqual({});
      // Nor where its file takes this one's name.
      const foreign = memoryStore();
      await foreign.write(name, (await readText(store, await keepChoices(store, other, choices)))!);
      expect(await readChoices(foreign, adapter)).toEqual({});
    }
    const text = (await readText(store, name))!;
    await store.write(name, text.replace(/"version": "[^"]*"/, '"version": "0.0.0"'));
    expect(await readChoices(store, adapter)).toEqual({});
  });

  it('and a damaged file holds none', async () => {
    const store = memoryStore();
    const name = await keepChoices(store, adapter, choices);
    const whole = (await readText(store, name))!;
    for (const text of [
      '',
      'null',
      '[]',
      whole.slice(0, -9),
      whole.replace('128', '"128"'),
      whole.replace(/\{\s*"rows/, '["rows'),
    ]) {
      await store.write(name, text);
      expect(await readChoices(store, adapter), text).toEqual({});
    }
  });
});

describe('on the device', () => {
  const devices: Device[] = [];
  const open = async (options = {}) => {
    const device = await openDevice({ toggles: 'checked', ...options });
    devices.push(device);
    return device;
  };
  afterAll(() => devices.forEach((device) => device.dispose()));

  it.each([40, 44])('a candidate that computes wrongly is never taken, were it the fastest: %i rows', async (rows) => {
    const device = await open();
    const outputs = { y: matmul(drawn(1, rows, 24), drawn(2, 24, 36)) };
    const trials = choicesOf(device.profile, outputs).filter(({ choice }) => choice.key.startsWith('matmul-subgroup'));
    expect(trials).toHaveLength(1);
    const { choices, found } = await tune(device, trials, { rounds: 3 });
    const [one] = found;
    expect(one.measured[0].refused).toMatch(rows === 40 ? /wrong: off by/ : /wrong: not a number/);
    expect(one.measured[0].candidate).toEqual({ rows: 16, columns: 32 });
    expect(one.best).toEqual({ rows: 32, columns: 32 });
    expect(choices).toEqual({ [one.key]: one.best });
  });

  it('nor one whose second output alone is wrong', async () => {
    const device = await open();
    const [q, k, v] = [1, 2, 3].map((seed) => drawn(seed, 1, 20, 16));
    const [dk, dv] = gradients(sum(mul(attention(q, k, v, 2), drawn(4, 1, 20, 16))), [k, v]);
    const trials = choicesOf(device.profile, { dk, dv }).filter(({ choice: { key } }) =>
      key.startsWith('attentionGradientKV'),
    );
    const { found } = await tune(device, trials, { rounds: 3 });
    const refused = found.flatMap(({ measured }) => measured.filter((one) => one.refused));
    expect(refused.map(({ candidate }) => candidate)).toEqual([{ rows: 8 }]);
    expect(refused[0].refused).toMatch(/wrong: off by/);
  });

  /** A product with extents that no tile divides, by each of the tiled kernel's tiles; in FULL each way that operands can lie. */
  it('every tile of the tiled kernel multiplies right', async () => {
    const device = await open({ family: 'tiled' });
    const ways = [0, 1, 2, 3].map((bits) => ({ transposeA: bits > 1, transposeB: bits % 2 === 1 }));
    const productOf = (way: (typeof ways)[number]) => {
      const [m, k, n] = [132, 40, 76];
      const [a, b] = [
        way.transposeA ? drawn(1, k, m) : drawn(1, m, k),
        way.transposeB ? drawn(2, n, k) : drawn(2, k, n),
      ];
      return matmul(a, b, way);
    };
    const expected = ways.map((way) => interpret([productOf(way)])[0]);
    const tilesOf = ({ choice }: Trial) => choice.candidates;
    const candidates = choicesOf(device.profile, { y: productOf(ways[0]) }).find(({ choice }) =>
      choice.key.startsWith('matmul-tiled'),
    )!;
    expect(tilesOf(candidates).length).toBeGreaterThan(8);
    for (const [i, candidate] of tilesOf(candidates).entries()) {
      for (const [w, way] of ways.entries()) {
        if (!full && w !== i % 4) continue;
        const y = productOf(way);
        const [{ choice }] = choicesOf(device.profile, { y }).filter(({ choice: { key } }) =>
          key.startsWith('matmul-'),
        );
        const profile = { ...device.profile, choices: { [choice.key]: candidate } };
        const program = await build(device, planProgram(profile, { outputs: { y } }));
        program.run();
        expect(relativeError(await program.read('y'), expected[w]), JSON.stringify({ candidate, way })).toBeLessThan(
          1e-5,
        );
        program.dispose();
      }
    }
  });

  it('what is taken changes no result', async () => {
    const device = await open();
    const x = drawn(1, 2, 12, 48);
    const y = softmax(layerNorm(x));
    const outputs = { y, attended: attention(x, y, x, 3), slope: gradients(y, [x], drawn(2, 2, 12, 48))[0] };
    const expected = interpret(Object.values(outputs));
    // The last of all candidates: rows by one lane, probabilities in memory, tall tiles.
    const last = choicesOf(device.profile, outputs).map(({ choice }) => [choice.key, choice.candidates.at(-1)!]);
    const profile = { ...device.profile, choices: Object.fromEntries(last) };
    const program = await build(device, planProgram(profile, { outputs }));
    program.run();
    for (const [i, name] of Object.keys(outputs).entries())
      expect(relativeError(await program.read(name), expected[i], 1), name).toBeLessThan(1e-5);
    program.dispose();
  });
});
