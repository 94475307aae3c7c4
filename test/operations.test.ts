import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { evaluate } from '../src/autodiff/eager.js';
import { openDevice } from '../node/device.js';
import { gradients } from '../src/autodiff/gradients.js';
import type { Device, DeviceOptions } from '../src/gpu/device.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { conv2d } from '../src/ops/convolution.js';
import { averagePool } from '../src/ops/pooling.js';
import { upsampleNearest } from '../src/ops/resampling.js';
import { expand, max, sum } from '../src/ops/broadcast.js';
import { matmul } from '../src/ops/matmul.js';
import * as move from '../src/ops/movement.js';
import { groupNorm, layerNorm, modulate, softmax } from '../src/ops/normalization.js';
import * as activation from '../src/ops/activations.js';
import * as point from '../src/ops/pointwise.js';
import { integers, normal, uniform } from '../src/ops/random.js';
import { random } from '../src/tensor/philox.js';
import { sizeOf, type Shape } from '../src/tensor/shape.js';
import { fromStorage, tensor, type OpName, type Tensor } from '../src/tensor/tensor.js';
import { relativeError } from './support/compare.js';
import { interpret } from './support/interpreter.js';

/** An operation in the middle of a graph: shapes of its inputs, their range, and the call. */
interface Case {
  inputs: Shape[];
  range?: [number, number];
  apply: (...xs: Tensor[]) => Tensor;
  /** The operation has no gradient, by its definition. */
  flat?: boolean;
}

const { add, sub, mul, div, sin, tanh } = point;
const indices = (...values: number[]) => tensor(Uint32Array.from(values));
const one = (apply: Case['apply'], range?: [number, number], inputs: Shape[] = [[3, 7]]): Case => ({
  inputs,
  range,
  apply,
});
const two = (apply: Case['apply'], range?: [number, number]): Case[] => [
  {
    inputs: [
      [5, 7],
      [5, 7],
    ],
    range,
    apply,
  },
  {
    inputs: [
      [2, 1, 4],
      [3, 1],
    ],
    range,
    apply,
  },
  { inputs: [[6], [5, 1]], range, apply },
];
const flat = (apply: Case['apply']): Case => ({ ...one(apply), flat: true });
const key = indices(11, 0, 3);

/** Made by others: `secondary` and attention's gradients in attention.test.ts, effects in optimizer.test.ts. */
type Elsewhere = 'secondary' | 'attention' | 'attentionGradientQ' | 'attentionGradientKV' | 'pack' | 'assign' | 'adam';
/** Only reached through another operation here: its name. */
type Through = OpName;

// Odd, prime, broadcast and vec4 shapes; one row for every operation, or this does not compile.
const cases: Record<Exclude<OpName, Elsewhere>, Case[] | Through> = {
  storage: [one((x) => x)],
  constant: [one((x) => mul(x, -0.75))],
  add: two(add),
  sub: two(sub),
  mul: two(mul),
  div: two(div, [0.5, 2]),
  maximum: two(point.maximum),
  minimum: two(point.minimum),
  greater: [{ ...two(point.greater)[1], flat: true }],
  equal: [flat((x) => point.equal(point.floor(mul(x, 2)), 1))],
  where: [one((x, a) => point.where(point.greater(x, 0), a, mul(x, a)), undefined, [[4, 5], [5]])],
  neg: [one(point.neg)],
  exp: [one(point.exp)],
  log: [one(point.log, [0.1, 9])],
  sqrt: [one(point.sqrt, [0.1, 9])],
  sin: [one(point.sin, [-20, 20])],
  cos: [one(point.cos, [-20, 20])],
  tanh: [one(tanh, [-4, 4])],
  erf: [one(point.erf, [-3, 3])],
  abs: [one(point.abs)],
  floor: [flat((x) => point.floor(mul(x, 5)))],
  toIndex: [flat((x) => point.toFloat(point.toIndex(mul(x, 5))))],
  toFloat: [flat((x) => mul(point.toFloat(move.iota([3, 7])), point.floor(x)))],
  stopGradient: [one((x) => mul(point.stopGradient(sin(x)), x))],
  barrier: [one((x) => mul(move.barrier(sin(x)), x))],
  iota: 'toFloat',
  reshape: [one((x) => move.reshape(x, [7, -1]), undefined, [[3, 7]])],
  expand: [
    one((x) => expand(x, [4, 3, 5]), undefined, [[3, 1]]),
    one((x) => expand(x, [6, 2, 4]), undefined, [[1, 4]]),
  ],
  permute: [
    one((x) => move.permute(x, [2, 0, 1]), undefined, [[3, 5, 2]]),
    one((x) => move.permute(x, [1, 0, 2]), undefined, [[3, 5, 4]]),
    one((x) => move.transpose(x), undefined, [[8, 12]]),
    one((x) => move.patchify(x, 2), undefined, [[2, 3, 4, 6]]),
    one((x) => move.unpatchify(x, 2, [3, 4, 6]), undefined, [[2, 6, 12]]),
  ],
  slice: [
    one((x) => move.slice(x, 0, 1, 3), undefined, [[4, 5]]),
    one((x) => move.slice(x, 1, 4, 8), undefined, [[3, 12]]),
    one((x) => move.slice(x, -1, 1, 6), undefined, [[3, 7]]),
  ],
  pad: [
    one((x) => move.pad(x, [1, 2], [4, 11]), undefined, [[2, 7]]),
    one((x) => move.pad(x, [1, 4], [4, 12]), undefined, [[2, 4]]),
  ],
  concat: [
    one((x, y, z) => move.concat([x, y, z], 1), undefined, [
      [3, 2],
      [3, 5],
      [3, 1],
    ]),
    one((x, y) => move.concat([x, y], -1), undefined, [
      [3, 4],
      [3, 8],
    ]),
    one((x, y) => move.concat([x, y], 0), undefined, [
      [1, 5],
      [3, 5],
    ]),
  ],
  gather: [
    one((x) => move.gather(x, indices(2, 0, 2, 4, 1, 2)), undefined, [[5, 3]]),
    one((x) => move.gather(x, move.reshape(indices(1, 1, 0, 2), [2, 2])), undefined, [[3, 4]]),
  ],
  im2col: (
    [
      [[2, 5, 7, 3], [3, 3, 3, 5], 1, 1],
      [[2, 5, 6, 4], [3, 3, 4, 8], 1, 1],
      [[1, 7, 6, 4], [3, 3, 4, 4], 2, 1],
      [[2, 5, 8, 1], [2, 4, 1, 3], 2, 0],
      [[1, 4, 5, 8], [1, 1, 8, 4], 1, 0],
      [[1, 5, 5, 4], [1, 1, 4, 4], 2, 0],
      [[1, 6, 5, 3], [5, 3, 3, 2], 3, 2],
    ] as const
  ).map(([x, w, stride, padding]): Case => ({
    inputs: [x, w, [w[3]]],
    apply: (...xs) => conv2d(xs[0], xs[1], xs[2], { stride, padding }),
  })),
  custom: 'im2col',
  random: [
    one((x) => mul(x, normal(key, 5, [3, 7]))),
    one((x) => mul(x, uniform(key, 6, [7]))),
    one((x) => mul(x, point.toFloat(integers(key, 7, [3, 1], 10)))),
    // Rows of a longer tensor: in whole blocks of four numbers, across them, and one by one.
    one((x) => mul(x, normal(key, 5, [3, 8], tensor(Uint32Array.of(11, 0, 4)))), undefined, [[3, 8]]),
    one((x) => mul(x, uniform(key, 6, [3, 7], tensor(Uint32Array.of(2, 2, 5)))), undefined, [[3, 7]]),
    one((x) => mul(x, point.toFloat(integers(key, 7, [5], 10, tensor(Uint32Array.of(9, 3, 4, 0, 31))))), undefined, [
      [5],
    ]),
  ],
  reduce: [
    one((x) => sum(x)),
    one((x) => sum(x, [0]), undefined, [[5, 6]]),
    one((x) => sum(x, [0, 2], true), undefined, [[5, 3, 7]]),
    one((x) => sum(x, [1]), undefined, [[2, 13, 4]]),
    one((x) => sum(x, [-1]), undefined, [[2, 2053]]),
    one((x) => sum(x, [0]), undefined, [[1031, 3]]),
    one((x) => max(x, [1]), undefined, [[5, 11]]),
  ],
  matmul: [
    ...[false, true].flatMap((transposeA) =>
      [false, true].map((transposeB): Case => ({
        inputs: [transposeA ? [17, 33] : [33, 17], transposeB ? [37, 17] : [17, 37]],
        apply: (a, b) => activation.silu(add(matmul(a, b, { transposeA, transposeB }), 0.25)),
      })),
    ),
    one((a, b) => matmul(a, b), undefined, [
      [1, 1],
      [1, 1],
    ]),
    one((a, b) => matmul(a, b), undefined, [
      [40, 16],
      [16, 68],
    ]),
    one((a, b) => matmul(a, b), undefined, [
      [2, 3, 5, 4],
      [3, 4, 6],
    ]),
    one((a, b) => matmul(a, b), undefined, [
      [3, 5, 4],
      [4, 6],
    ]),
    one((a, b) => matmul(a, b, { transposeA: true }), undefined, [
      [3, 4, 5],
      [3, 4, 7],
    ]),
    // Two products that one kernel sums, stored both ways, of inner extents that end within a step and within a tile.
    ...[false, true].flatMap((transposeB) =>
      [
        [33, 36, 4, 40],
        [1, 3, 21, 4],
        [70, 68, 129, 72],
      ].map(([m, k, second, n]): Case => {
        const right = (inner: number) => (transposeB ? [n, inner] : [inner, n]);
        return {
          inputs: [[m, k], right(k), [m, second], right(second)],
          apply: (a, b, c, d) => activation.silu(add(matmul(a, b, { transposeB }), matmul(c, d, { transposeB }))),
        };
      }),
    ),
    one((a, b, bias, gate) => add(mul(activation.geluTanh(add(matmul(a, b), bias)), gate), gate), undefined, [
      [9, 8],
      [8, 12],
      [12],
      [9, 12],
    ]),
  ],
  softmax: [one((x) => softmax(x), [-9, 9], [[5, 7]]), one((x) => softmax(x), undefined, [[3, 2, 8]])],
  softmaxGradient: [
    one((g, p) => gradients(softmax(p), [p], g)[0], undefined, [
      [5, 7],
      [5, 7],
    ]),
  ],
  rowStatistics: 'normalize',
  normalize: [
    one((x) => layerNorm(x), [-3, 5], [[5, 7]]),
    one((x, a, b) => modulate(layerNorm(x), a, b), undefined, [
      [2, 3, 8],
      [2, 1, 8],
      [2, 1, 8],
    ]),
    one((x) => groupNorm(x, 3), [-3, 5], [[2, 2, 3, 9]]),
    one((x, a) => activation.silu(mul(groupNorm(x, 2), a)), [-3, 5], [[2, 5, 8], [8]]),
  ],
  normalizeGradient: 'normalize',
  scatterAdd: [one((x) => move.scatterAdd(x, indices(1, 3, 1, 0), 5), undefined, [[4, 3]])],
};

const derived: Record<string, Case> = {
  silu: one(activation.silu, [-9, 9]),
  geluTanh: one(activation.geluTanh, [-9, 9]),
  gelu: one(activation.gelu, [-9, 9]),
  selu: one(activation.selu, [-9, 9]),
  upsampleNearest: one((x) => upsampleNearest(x), undefined, [[2, 3, 1, 5]]),
  averagePool: one((x) => averagePool(x), undefined, [[2, 4, 6, 3]]),
  sigmoid: one(activation.sigmoid, [-9, 9]),
  // Far out the slope is 0 to f32 precision: only that nothing overflows is to be seen.
  farSigmoid: { ...one(activation.sigmoid, [-90, 90]), flat: true },
};

interface Built {
  storages: TensorStorage[];
  outputs: Record<string, Tensor>;
  loss: Tensor;
}

/** The operation between other operations, before it and after it, with all of its gradients. */
function build({ inputs, range: [low, high] = [-2, 2], apply, flat: noGradient }: Case, seed: number): Built {
  const draw = random(seed);
  const numbers = (count: number, from: number, to: number) =>
    Float32Array.from({ length: count }, () => from + (to - from) * draw.uniform());
  const storages = inputs.map(
    (shape, i) => new TensorStorage(`input ${i}`, 'f32', sizeOf(shape), numbers(sizeOf(shape), low, high)),
  );
  const xs = storages.map((storage, i) => fromStorage(storage, inputs[i]));
  const middle = apply(...xs.map((x) => (low > 0 ? mul(x, 1.25) : add(mul(x, 0.75), 0.1))));
  const weights = tensor(numbers(middle.size, -1, 1), middle.shape);
  // Slopes of .1 to .3 that bend gently, whatever the values: rounding in `middle` is nowhere magnified.
  const bent = add(mul(middle, 0.2), point.sqrt(add(mul(mul(middle, middle), 0.01), 1)));
  const loss = sum(mul(bent, weights));
  const names = noGradient ? [] : gradients(loss, xs).map((g, i): [string, Tensor] => [`gradient ${i}`, g]);
  return { storages, loss, outputs: { middle, ...Object.fromEntries(names) } };
}

const all = [
  ...Object.entries(cases),
  ...Object.entries(derived).map(([name, single]) => [name, [single]] as const),
].flatMap(([name, list]) =>
  typeof list === 'string'
    ? []
    : list.map((single, i) => ({ name: `${name} ${i}`, single, seed: name.length * 100 + i })),
);

describe('the gradient rule agrees with central differences in float64', () => {
  it.each(all.filter(({ name, single }) => !single.flat && !name.startsWith('stopGradient')))(
    '$name',
    ({ single, seed }) => {
      const { storages, outputs, loss } = build(single, seed);
      const exact = interpret(storages.map((_, i) => outputs[`gradient ${i}`]));
      storages.forEach((storage, i) => {
        const step = 1e-5;
        const stride = Math.max(1, Math.floor(storage.length / 24));
        const [analytic, measured] = [[] as number[], [] as number[]];
        for (let k = 0; k < storage.length; k += stride) {
          const at = (delta: number) => {
            const moved = Float64Array.from(storage.initial!);
            moved[k] += delta;
            return interpret([loss], new Map([[storage, moved]]))[0][0];
          };
          analytic.push(exact[i][k]);
          measured.push((at(step) - at(-step)) / (2 * step));
        }
        expect(relativeError(analytic, measured)).toBeLessThan(1e-7);
      });
    },
  );

  // What is stopped is no derivative.
  it('stopGradient lets values through and no gradient', () => {
    const x = tensor([0.3, -1.2]);
    const [g] = gradients(sum(mul(point.stopGradient(sin(x)), x)), [x]);
    const [value] = interpret([g]);
    expect(relativeError(value, Array.from(x.attributes.storage.initial!, Math.sin))).toBeLessThan(1e-12);
  });

  it('names the tensor that an output does not depend on', () => {
    expect(() => gradients(sum(tensor([1])), [tensor([1, 2, 3])])).toThrow(
      /does not depend on a tensor of shape \[3\]/,
    );
  });
});

// Fresh numbers every time: SEED repeats a run. What has jumps keeps its own, as f32 may round across one.
const fresh = Number(process.env.SEED ?? Math.floor(Math.random() * 1e6));

const devices: Record<string, DeviceOptions> = {
  plain: {},
  'plain without subgroups': { without: ['subgroups'] },
  tiled: { family: 'tiled' },
};

describe.each(Object.keys(devices))(
  `kernels of family %s agree with float64, forward and gradients (SEED=${fresh})`,
  (family) => {
    let device: Device;
    beforeAll(async () => {
      device = await openDevice({ toggles: 'checked', ...devices[family] });
    });
    afterAll(() => device.dispose());

    // What has no kernel of its own is the same on every family.
    const kernels = /^(matmul|reduce|softmax|normalize)/;
    const chosen = family === 'plain' ? all : all.filter(({ name }) => kernels.test(name));
    it.each(chosen)('$name', async ({ single, seed }) => {
      const { outputs } = build(single, single.flat ? seed : seed + fresh);
      const names = Object.keys(outputs);
      const expected = interpret(Object.values(outputs));
      const actual = await evaluate(device, outputs);
      names.forEach((name, i) => expect(relativeError(actual[name], expected[i]), name).toBeLessThan(1e-5));
    });

    // Drivers' own are off by 2^-11, and by anything beyond half a turn.
    if (family === 'plain')
      it('sine and cosine are exact to 2e-7 over a thousand turns', async () => {
        const count = 16383;
        const angles = Float32Array.from({ length: count }, (_, i) => 8192 * ((2 * i) / (count - 1) - 1) ** 3);
        const x = tensor(angles);
        const { sines, cosines } = await evaluate(device, { sines: point.sin(x), cosines: point.cos(x) });
        const worst = (values: ArrayLike<number>, exact: (angle: number) => number) =>
          angles.reduce((most, angle, i) => Math.max(most, Math.abs(values[i] - exact(angle))), 0);
        expect(worst(sines, Math.sin)).toBeLessThan(2e-7);
        expect(worst(cosines, Math.cos)).toBeLessThan(2e-7);
      });
  },
);
