import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { evaluate } from '../src/autodiff/eager.js';
import { gradients } from '../src/autodiff/gradients.js';
import { UserError } from '../src/errors.js';
import type { Device } from '../src/gpu/device.js';
import { TensorStorage } from '../src/gpu/storage.js';
import {
  applyBatchNorm,
  applyConvolution,
  applyEmbedding,
  applyLineConvolution,
  applyTransposedConvolution,
  batchNormParameters,
  convolutionParameters,
  embeddingParameters,
  lineConvolutionParameters,
  rmsNormParameters,
  scaledRmsNorm,
  transposedConvolutionParameters,
} from '../src/nn/layers.js';
import { ParameterLayout, type Parameter } from '../src/nn/parameters.js';
import { elu, glu, hardSwish, leakyRelu, mish, relu, relu6, softplus } from '../src/ops/activations.js';
import { sum } from '../src/ops/broadcast.js';
import { clamp } from '../src/ops/comparison.js';
import { conv1d, conv2d, convTranspose2d } from '../src/ops/convolution.js';
import { einsum } from '../src/ops/einsum.js';
import { crossEntropy } from '../src/ops/losses.js';
import { softmax } from '../src/ops/normalization.js';
import { im2col, windowsIn } from '../src/ops/patches.js';
import { add, mul, sqrt } from '../src/ops/pointwise.js';
import { averagePool, maxPool } from '../src/ops/pooling.js';
import { pow } from '../src/ops/powers.js';
import { dropout } from '../src/ops/random.js';
import { padEdges, pixelShuffle, pixelUnshuffle, squeeze, stack, take } from '../src/ops/rearrangement.js';
import { resize } from '../src/ops/resampling.js';
import { rotary, rotaryPositions } from '../src/ops/rotary.js';
import { logSumExp, norm, normalizeLength, variance } from '../src/ops/statistics.js';
import { random } from '../src/tensor/philox.js';
import { sizeOf } from '../src/tensor/shape.js';
import { constant, tensor, type Tensor } from '../src/tensor/tensor.js';
import { relativeError } from './support/compare.js';
import { full } from './support/full.js';
import { functionalCases, Numbers, type FunctionalCase } from './support/functional-cases.js';
import { interpret } from './support/interpreter.js';

/** An operation between others, so that it meets scaled inputs and an upstream gradient that depends on its result. */
function build({ shapes, range: [low, high] = [-2, 2], apply, flat }: FunctionalCase, seed: number) {
  const draw = random(seed);
  const numbers = (count: number, from: number, to: number) =>
    Float32Array.from({ length: count }, () => from + (to - from) * draw.uniform());
  const values = shapes.map((shape) => numbers(sizeOf(shape), low, high));
  const inputs = values.map((x, i) => tensor(x, shapes[i]));
  const output = apply(...inputs.map((x) => mul(x, scale)));
  const weights = numbers(output.size, -1, 1);
  const loss = sum(mul(bent(output), tensor(weights, output.shape)));
  return { values, output, weights, slopes: flat ? [] : gradients(loss, inputs) };
}
const scale = 1.25;
const bent = (x: Tensor) => add(mul(x, 0.2), sqrt(add(mul(mul(x, x), 0.01), 1)));

/** The definition in place of the operation. */
function define({ shapes, reference }: FunctionalCase, values: readonly ArrayLike<number>[]): Numbers {
  return reference(
    ...values.map(
      (x, i) =>
        new Numbers(
          shapes[i],
          Float64Array.from(x, (value) => value * scale),
        ),
    ),
  );
}

const built = functionalCases.map((single, i) => ({ single, ...build(single, i) }));

describe('in float64, operations and gradients are their definition and its central differences', () => {
  it.each(built.map((entry) => [entry.single.name, entry] as const))('%s', (_, entry) => {
    const { single, values, output, weights, slopes } = entry;
    const expected = define(single, values);
    const [actual, ...derived] = interpret([output, ...slopes]);
    expect(output.shape).toEqual(expected.shape);
    expect(relativeError(actual, expected.data, 1)).toBeLessThan(3e-7);
    slopes.forEach((slope, i) => {
      expect(slope.shape).toEqual(single.shapes[i]);
      const step = 1e-5;
      const [analytic, measured] = [[] as number[], [] as number[]];
      for (let k = 0; k < slope.size; k += Math.max(1, Math.floor(slope.size / 12))) {
        const at = (delta: number) => {
          const moved = values.map((x) => Float64Array.from(x));
          moved[i][k] += delta;
          return define(single, moved).data.reduce(
            (total, y, j) => total + weights[j] * (0.2 * y + Math.sqrt(0.01 * y * y + 1)),
            0,
          );
        };
        analytic.push(derived[i][k]);
        measured.push((at(step) - at(-step)) / (2 * step));
      }
      expect(relativeError(analytic, measured, 0.1), `gradient ${i}`).toBeLessThan(2e-7);
    });
  });
});

describe('on the device they agree with float64', () => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice({ toggles: 'checked' });
  });
  afterAll(() => device.dispose());

  // Many in one program: equal kernels are compiled once, and all at the same time.
  const perProgram = 24;
  const run = built.filter(({ single }) => !single.host).filter((_, i) => full || i % 2 === 0);
  const groups = Array.from({ length: Math.ceil(run.length / perProgram) }, (_, i) =>
    run.slice(i * perProgram, (i + 1) * perProgram),
  );
  it.each(groups.map((group) => [`${group[0].single.name} to ${group.at(-1)!.single.name}`, group] as const))(
    '%s',
    { timeout: 300_000 },
    async (_, group) => {
      const outputs = Object.fromEntries(
        group.flatMap(({ single, output, slopes }) => [
          [single.name, output] as const,
          ...slopes.map((slope, k) => [`${single.name}, gradient ${k}`, slope] as const),
        ]),
      );
      const expected = interpret(Object.values(outputs));
      const actual = await evaluate(device, outputs);
      Object.keys(outputs).forEach((name, i) =>
        expect(relativeError(actual[name], expected[i], 0.1), name).toBeLessThan(1e-5),
      );
    },
  );
});

describe('at the edge of their domain', () => {
  /** Values and slopes at single places. */
  const at = (f: (x: Tensor) => Tensor, ...places: number[]) => {
    const x = tensor(places);
    const y = f(x);
    const [value, slope] = interpret([y, ...gradients(sum(y), [x])]);
    return { value: [...value], slope: [...slope] };
  };

  it('powers of 0 and of negative numbers', () => {
    expect(at((x) => pow(x, 1), 0)).toEqual({ value: [0], slope: [1] });
    expect(at((x) => pow(x, 2), 0)).toEqual({ value: [0], slope: [0] });
    expect(at((x) => pow(x, 3), 0, -2)).toEqual({ value: [0, -8], slope: [0, 12] });
    expect(at((x) => pow(x, 0), 0)).toEqual({ value: [1], slope: [0] });
    expect(at((x) => pow(x, 1.5), 0)).toEqual({ value: [0], slope: [0] });
    expect(at((x) => pow(x, 0.5), 0)).toEqual({ value: [0], slope: [Infinity] });
    expect(at((x) => pow(x, 0.3), 0)).toEqual({ value: [0], slope: [Infinity] });
    expect(at((x) => pow(x, -1), -2)).toEqual({ value: [-0.5], slope: [-0.25] });
    expect(at((x) => pow(x, 2.5), -2).value[0]).toBeNaN();
    // The same by a tensor, with the slope of the exponent too.
    const [base, power] = [tensor([0, 0, 0, 0, -2, -2]), tensor([0, 1, 2, 1.5, 3, 0])];
    const y = pow(base, power);
    const [value, dBase, dPower] = interpret([y, ...gradients(sum(y), [base, power])]);
    expect([...value]).toEqual([1, 0, 0, 0, expect.closeTo(-8, 9), 1]);
    expect([...dBase].map(Math.abs)).toEqual([0, 1, 0, 0, expect.closeTo(12, 9), 0]);
    expect([...dPower].slice(0, 4)).toEqual([0, 0, 0, 0]);
  });

  it('slopes at kinks, NaN that stays NaN, tails without overflow', () => {
    expect(at(relu, 0, -1, 2).slope).toEqual([0, 0, 1]);
    expect(at(relu6, 6, 0, 3).slope).toEqual([0, 0, 1]);
    expect(at(elu, 0).slope).toEqual([1]);
    expect(at(leakyRelu, 0).slope[0]).toBeCloseTo(0.01, 7);
    expect(at((x) => clamp(x, -1, 1), -1, 1, 2).slope).toEqual([1, 1, 0]);
    for (const f of [relu, relu6, leakyRelu, elu, softplus, mish, hardSwish, (x: Tensor) => clamp(x, 0, 1)])
      expect(at(f as (x: Tensor) => Tensor, NaN).value[0]).toBeNaN();
    expect(at(softplus, 1000, -1000)).toEqual({ value: [1000, 0], slope: [1, 0] });
    expect(at((x) => norm(x), 0, 0)).toEqual({ value: [0], slope: [0, 0] });
    expect(at((x) => normalizeLength(x), 0, 0).value).toEqual([0, 0]);
    expect(at((x) => logSumExp(x), 1000, 1000).value[0]).toBeCloseTo(1000 + Math.LN2, 9);
  });

  it('the first of equal maxima gets the gradient of a pool', () => {
    const x = tensor(new Float32Array(16).fill(1), [1, 4, 4, 1]);
    const [slope] = interpret(gradients(sum(maxPool(x, { kernel: 3, stride: 1 })), [x]));
    expect([...slope]).toEqual([1, 1, 0, 0, 1, 1, ...Array<number>(10).fill(0)]);
  });

  it('a convolution has second derivatives', () => {
    const draw = random(5);
    const numbers = (count: number) => Float32Array.from({ length: count }, () => 2 * draw.uniform() - 1);
    const [x, w] = [tensor(numbers(2 * 5 * 4 * 2), [2, 5, 4, 2]), tensor(numbers(3 * 3 * 2 * 3), [3, 3, 2, 3])];
    const y = conv2d(x, w, undefined, { stride: 2, padding: 1 });
    const slopes = gradients(sum(mul(mul(y, y), y)), [x, w]);
    // Σ of squares of the first derivatives, whose own derivatives central differences confirm.
    const energy = add(sum(mul(slopes[0], slopes[0])), sum(mul(slopes[1], slopes[1])));
    const second = interpret(gradients(energy, [x, w]));
    [x, w].forEach((input, i) => {
      for (const k of [0, 7, 23, 50]) {
        const move = (delta: number) => {
          const moved = Float64Array.from(input.attributes.storage.initial!);
          moved[k] += delta;
          return interpret([energy], new Map([[input.attributes.storage, moved]]))[0][0];
        };
        expect(second[i][k]).toBeCloseTo((move(1e-5) - move(-1e-5)) / 2e-5, 4);
      }
    });
  });

  it('im2col gives back what its patches were given', () => {
    const geometry = { kernel: [2, 3], stride: [2, 1], dilation: [1, 2], before: [1, 0] } as const;
    const x = tensor(
      Float32Array.from({ length: 5 * 6 * 3 }, (_, i) => Math.sin(i)),
      [1, 5, 6, 3],
    );
    const patches = im2col(x, geometry, windowsIn([5, 6], geometry));
    const g = tensor(
      Float32Array.from({ length: patches.size }, (_, i) => Math.cos(i)),
      patches.shape,
    );
    const [forward, backward, values, upstream] = interpret([patches, ...gradients(patches, [x], g), x, g]);
    const dot = (a: Float64Array, b: Float64Array) => a.reduce((total, value, i) => total + value * b[i], 0);
    // <im2col x, g> = <x, col2im g>.
    expect(dot(forward, upstream)).toBeCloseTo(dot(values, backward), 9);
  });
});

describe('shapes and settings that do not fit', () => {
  const zeros = (...shape: number[]) => constant(0, shape);
  const image = zeros(2, 5, 7, 6);
  it.each<[string, () => unknown, RegExp]>([
    ['groups', () => conv2d(image, zeros(3, 3, 3, 5), undefined, { groups: 2 }), /2 groups do not divide 5/],
    [
      'channels of groups',
      () => conv2d(image, zeros(3, 3, 4, 4), undefined, { groups: 2 }),
      /\[2,5,7,6\].*\[3,3,4,4\]/,
    ],
    [
      'a kernel',
      () => conv2d(image, zeros(3, 3, 6, 1), undefined, { dilation: 4 }),
      /3x3 does not fit images \[2,5,7,6\]/,
    ],
    ['a stride', () => conv2d(image, zeros(3, 3, 6, 1), undefined, { stride: 0 }), /stride \[0,0\]/],
    ['lines', () => conv1d(image, zeros(3, 6, 1)), /\[2,5,7,6\].*three axes/],
    ['transposed channels', () => convTranspose2d(image, zeros(3, 3, 5, 4)), /\[2,5,7,6\].*\[3,3,5,4\]/],
    [
      'output padding',
      () => convTranspose2d(image, zeros(3, 3, 5, 6), undefined, { outputPadding: 1 }),
      /outputPadding 1/,
    ],
    [
      'padding that eats all',
      () => convTranspose2d(zeros(1, 1, 1, 6), zeros(1, 1, 5, 6), undefined, { padding: 2 }),
      /leaves nothing/,
    ],
    ['a window', () => maxPool(image, { kernel: 6 }), /\[6,6\] do not fit images \[2,5,7,6\]/],
    ['half a window', () => averagePool(image, { padding: 2 }), /at most half/],
    ['a size', () => resize(image, [0, 4]), /0x4/],
    ['squeeze', () => squeeze(image, [1]), /axis 1 of \[2,5,7,6\]/],
    ['stack', () => stack([image, zeros(2, 5)]), /\[1,2,5\] and \[1,2,5,7,6\]/],
    ['take', () => take(image, zeros(2, 2), 0), /\[2,2\]/],
    ['reflection', () => padEdges(image, 1, [5, 0], 'reflect'), /at most 4/],
    ['pixels', () => pixelShuffle(image, 4), /6 channels/],
    ['tiles', () => pixelUnshuffle(image, 2), /\[2,5,7,6\]/],
    ['variance', () => variance(zeros(3, 1), [1]), /\[3,1\]/],
    ['norm', () => norm(image, [0], false, 0), /order 0/],
    ['cross entropy', () => crossEntropy(zeros(3, 5), zeros(4)), /\[3,5\].*\[4\]/],
    ['rotary width', () => rotaryPositions([0, 1], 5), /5 is odd/],
    ['rotary tokens', () => rotary(zeros(1, 3, 8), rotaryPositions([0, 1], 4)), /\[1,3,8\]/],
    ['einsum terms', () => einsum('ij,jk', image), /->/],
    ['einsum ranks', () => einsum('ij->j', image), /\[2,5,7,6\]/],
    ['einsum extents', () => einsum('ij,jk->ik', zeros(2, 3), zeros(4, 5)), /axis j has two extents/],
    ['einsum letters', () => einsum('ii->i', zeros(3, 3)), /repeats/],
    ['einsum output', () => einsum('ij->ik', zeros(3, 3)), /no operand has k/],
    ['glu', () => glu(zeros(2, 5)), /\[2,5\].*odd/],
    ['dropout', () => dropout(image, 1, tensor(Uint32Array.of(1, 2, 3)), 0), /rate 1/],
    ['an axis', () => softmax(image, 4), /axis 4/],
  ])('%s', (_, call, message) => {
    expect(call).toThrow(UserError);
    expect(call).toThrow(message);
  });
});

describe('layers read what PyTorch writes', () => {
  const draw = random(9);
  /** A state dict of random numbers, its parameters bound, and its values. */
  async function bound(parameters: Parameter[]) {
    const layout = new ParameterLayout(parameters);
    const state = new Map(
      parameters.map(({ name, shape }) => [
        name,
        { shape, data: Float32Array.from({ length: sizeOf(shape) }, () => 0.5 + draw.uniform()) },
      ]),
    );
    const arena = await layout.collect({ dtype: 'f32', read: async (name) => state.get(name)!.data });
    const values = (name: string) => new Numbers(state.get(name)!.shape, Float64Array.from(state.get(name)!.data));
    return { p: layout.bind(new TensorStorage('weights', 'f32', layout.length, arena)), values };
  }
  const image = (...shape: number[]) => {
    const x = tensor(
      Float32Array.from({ length: sizeOf(shape) }, () => draw.uniform() - 0.5),
      shape,
    );
    return { x, at: new Numbers(shape, Float64Array.from(x.attributes.storage.initial!)) };
  };
  const total = (count: number, f: (i: number) => number) =>
    Array.from({ length: count }, (_, i) => f(i)).reduce((a, b) => a + b, 0);
  const agrees = (y: Tensor, expected: Numbers) => {
    expect(y.shape).toEqual(expected.shape);
    expect(relativeError(interpret([y])[0], expected.data)).toBeLessThan(1e-6);
  };

  it('convolutions, grouped, along one axis and transposed', async () => {
    // One window each, so that the definition is one sum: 4 channels in 2 groups to 6.
    const plain = await bound(convolutionParameters('c', 2, 6, [3, 2]));
    const [x, w, b] = [image(2, 3, 2, 4), plain.values('c.weight'), plain.values('c.bias')];
    expect(w.shape).toEqual([6, 2, 3, 2]);
    agrees(
      applyConvolution(plain.p, 'c', x.x, { groups: 2 }),
      Numbers.of([2, 1, 1, 6], (n, _i, _j, o) => {
        const tap = (k: number, c: number) =>
          x.at.at(n, k >> 1, k & 1, (o < 3 ? 0 : 2) + c) * w.at(o, c, k >> 1, k & 1);
        return b.at(o) + total(6, (k) => total(2, (c) => tap(k, c)));
      }),
    );
    const line = await bound(lineConvolutionParameters('c', 3, 5, 4));
    const [y, u, d] = [image(2, 4, 3), line.values('c.weight'), line.values('c.bias')];
    expect(u.shape).toEqual([5, 3, 4]);
    agrees(
      applyLineConvolution(line.p, 'c', y.x),
      Numbers.of(
        [2, 1, 5],
        (n, _, o) => d.at(o) + total(12, (k) => y.at.at(n, k & 3, k >> 2) * u.at(o, k >> 2, k & 3)),
      ),
    );
    const back = await bound(transposedConvolutionParameters('c', 4, 6, [3, 2], 2));
    const [z, v, e] = [image(2, 1, 1, 4), back.values('c.weight'), back.values('c.bias')];
    expect(v.shape).toEqual([4, 3, 3, 2]);
    agrees(
      applyTransposedConvolution(back.p, 'c', z.x, { groups: 2 }),
      Numbers.of([2, 3, 2, 6], (n, i, j, o) => {
        const group = o < 3 ? 0 : 2;
        return e.at(o) + total(2, (c) => z.at.at(n, 0, 0, group + c) * v.at(group + c, o % 3, i, j));
      }),
    );
  });

  it('norms and embeddings; running statistics are not trained', async () => {
    const parameters = batchNormParameters('n', 5);
    expect(parameters.filter(({ frozen }) => frozen).map(({ name }) => name)).toEqual([
      'n.running_mean',
      'n.running_var',
    ]);
    const { p, values } = await bound([...parameters, ...rmsNormParameters('r', 5), ...embeddingParameters('e', 7, 5)]);
    const x = image(2, 3, 5);
    const of = (name: string, c: number) => values(name).at(c);
    agrees(
      applyBatchNorm(p, 'n', x.x, 1e-3),
      Numbers.of([2, 3, 5], (n, i, c) => {
        const normal = (x.at.at(n, i, c) - of('n.running_mean', c)) / Math.sqrt(of('n.running_var', c) + 1e-3);
        return normal * of('n.weight', c) + of('n.bias', c);
      }),
    );
    agrees(
      scaledRmsNorm(p, 'r', x.x, 1e-3),
      Numbers.of([2, 3, 5], (n, i, c) => {
        const squares = total(5, (k) => x.at.at(n, i, k) ** 2);
        return (x.at.at(n, i, c) / Math.sqrt(squares / 5 + 1e-3)) * of('r.weight', c);
      }),
    );
    agrees(
      applyEmbedding(p, 'e', tensor(Uint32Array.of(6, 0, 6))),
      Numbers.of([3, 5], (i, c) => values('e.weight').at([6, 0, 6][i], c)),
    );
  });
});
