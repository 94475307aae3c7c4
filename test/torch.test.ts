import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { evaluate } from '../src/autodiff/eager.js';
import { openDevice } from '../node/device.js';
import { gradients } from '../src/autodiff/gradients.js';
import type { Device } from '../src/gpu/device.js';
import { attention } from '../src/ops/attention.js';
import { max, sum } from '../src/ops/broadcast.js';
import { conv2d } from '../src/ops/convolution.js';
import { averagePool } from '../src/ops/pooling.js';
import { upsampleNearest } from '../src/ops/resampling.js';
import { linear, matmul } from '../src/ops/matmul.js';
import * as move from '../src/ops/movement.js';
import { groupNorm, layerNorm, modulate, softmax } from '../src/ops/normalization.js';
import * as activation from '../src/ops/activations.js';
import * as point from '../src/ops/pointwise.js';
import { sizeOf, type Shape } from '../src/tensor/shape.js';
import { random } from '../src/tensor/philox.js';
import { tensor, type Tensor } from '../src/tensor/tensor.js';
import { relativeError } from './support/compare.js';
import { full } from './support/full.js';
import { functionalCases } from './support/functional-cases.js';
import { interpret } from './support/interpreter.js';

const python = '/usr/bin/python3';
const found = spawnSync(python, ['-c', 'import torch']).status === 0;
if (!found) console.log(`skipped: ${python} has no torch to compare with (apt-get install python3-torch)`);

// SEED repeats a run.
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e6));
const draw = random(seed);
/** A random extent. */
const upTo = (most: number, least = 1) => least + Math.floor(draw.uniform() * (most - least + 1));

interface Case {
  shapes: Shape[];
  /** The expression in PyTorch, of x[0], x[1] … */
  torch: string;
  semiflow: (...x: Tensor[]) => Tensor;
  range?: [number, number];
}

const unary = (torch: string, semiflow: (x: Tensor) => Tensor, range?: [number, number]): Case => ({
  shapes: [[upTo(5), upTo(9), upTo(17)]],
  torch,
  semiflow,
  range,
});

/** Two shapes that broadcast to one. */
function broadcastPair(): Shape[] {
  const shape = [upTo(4), upTo(7), upTo(13)];
  const other = shape.map((n) => (draw.uniform() < 0.4 ? 1 : n));
  return [shape, other.slice(draw.uniform() < 0.3 ? 1 : 0)];
}
const binary = (torch: string, semiflow: (a: Tensor, b: Tensor) => Tensor, range?: [number, number]): Case => ({
  shapes: broadcastPair(),
  torch,
  semiflow,
  range,
});

const nchw = (x: string) => `${x}.permute(0, 3, 1, 2)`;
const nhwc = (x: string) => `(${x}).permute(0, 2, 3, 1)`;

function convolution(): Case {
  const kernel = upTo(5);
  const stride = upTo(2);
  const padding = upTo(2, 0);
  const [channels, filters] = [upTo(9), upTo(9)];
  return {
    shapes: [[upTo(3), upTo(7, 5), upTo(9, 5), channels], [kernel, kernel, channels, filters], [filters]],
    torch: nhwc(
      `F.conv2d(${nchw('x[0]')}, x[1].permute(3, 2, 0, 1).contiguous(), x[2], stride=${stride}, padding=${padding})`,
    ),
    semiflow: (x, w, b) => conv2d(x, w, b, { stride, padding }),
  };
}

function attentionCase(causal: boolean): Case {
  const heads = upTo(3);
  const depth = upTo(11);
  const [shape, keys] = [
    [upTo(3), upTo(37), heads * depth],
    [0, upTo(37), heads * depth],
  ];
  keys[0] = shape[0];
  const split = (i: number) => `x[${i}].reshape(${shape[0]}, -1, ${heads}, ${depth}).transpose(1, 2)`;
  const unseen = causal ? ` + torch.triu(torch.full((${shape[1]}, ${keys[1]}), float('-inf')), 1)` : '';
  const scores = `torch.softmax(${split(0)} @ ${split(1)}.transpose(2, 3) * ${depth ** -0.5}${unseen}, -1)`;
  return {
    shapes: [shape, keys, keys],
    torch: `(${scores} @ ${split(2)}).transpose(1, 2).reshape(${shape})`,
    semiflow: (q, k, v) => attention(q, k, v, heads, { causal }),
  };
}

function matmulCase(transposeA: boolean, transposeB: boolean): Case {
  const [batch, m, k, n] = [upTo(3), upTo(40), upTo(40), upTo(40)];
  return {
    shapes: [
      [batch, ...(transposeA ? [k, m] : [m, k])],
      [...(draw.uniform() < 0.5 ? [] : [batch]), ...(transposeB ? [n, k] : [k, n])],
    ],
    torch: `x[0]${transposeA ? '.transpose(-1, -2)' : ''} @ x[1]${transposeB ? '.transpose(-1, -2)' : ''}`,
    semiflow: (a, b) => matmul(a, b, { transposeA, transposeB }),
  };
}

function groupNormCase(): Case {
  const groups = upTo(4);
  const channels = groups * upTo(5, 2);
  return {
    shapes: [[upTo(3), upTo(5, 2), upTo(5, 2), channels], [channels], [channels]],
    torch: nhwc(`F.silu(F.group_norm(${nchw('x[0]')}, ${groups}, x[1], x[2]))`),
    semiflow: (x, scale, shift) => activation.silu(point.add(point.mul(groupNorm(x, groups), scale), shift)),
  };
}

function linearCase(): Case {
  const [n, inner, outer] = [upTo(9), upTo(33), upTo(33)];
  return {
    shapes: [[n, inner], [outer, inner], [outer]],
    torch: 'F.gelu(F.linear(x[0], x[1], x[2]))',
    semiflow: (x, w, b) => activation.gelu(linear(x, w, b)),
  };
}

function layerNormCase(): Case {
  const shape = [upTo(4), upTo(7), upTo(29, 2)];
  const one = [shape[0], 1, shape[2]];
  return {
    shapes: [shape, one, one],
    torch: `F.layer_norm(x[0], (${shape[2]},)) * (1 + x[1]) + x[2]`,
    semiflow: (x, scale, shift) => modulate(layerNorm(x), scale, shift),
  };
}

function gatherCase(): Case {
  const rows = upTo(9);
  const indices = Array.from({ length: upTo(12) }, () => upTo(rows) - 1);
  return {
    shapes: [[rows, upTo(7)]],
    torch: `x[0][torch.tensor([${indices}])]`,
    semiflow: (x) => move.gather(x, tensor(Uint32Array.from(indices))),
  };
}

function movementCase(): Case {
  const [a, b, c] = [upTo(5), upTo(6, 2), upTo(7)];
  return {
    shapes: [
      [a, b, c],
      [a, b, c],
    ],
    torch:
      'torch.cat([F.pad(x[0].permute(2, 0, 1)[..., 1:], (1, 2, 0, 1)), x[1].permute(2, 0, 1).repeat(1, 1, 1)[..., :1].expand(-1, -1, ' +
      `${b + 2})], 1)`,
    semiflow: (x, y) => {
      const moved = move.permute(x, [2, 0, 1]);
      const padded = move.pad(move.slice(moved, 2, 1, b), [0, 0, 1], [c, a + 1, b + 2]);
      const column = move.slice(move.permute(y, [2, 0, 1]), 2, 0, 1);
      return move.concat([padded, point.mul(column, tensor(new Float32Array(b + 2).fill(1)))], 1);
    },
  };
}

const cases: Record<string, () => Case> = {
  add: () => binary('x[0] + x[1]', point.add),
  sub: () => binary('x[0] - x[1]', point.sub),
  mul: () => binary('x[0] * x[1]', point.mul),
  div: () => binary('x[0] / x[1]', point.div, [0.5, 2]),
  maximum: () => binary('torch.maximum(x[0], x[1])', point.maximum),
  minimum: () => binary('torch.minimum(x[0], x[1])', point.minimum),
  where: () =>
    binary('torch.where(x[0] > 0, x[1], x[0] * x[1])', (a, b) => point.where(point.greater(a, 0), b, point.mul(a, b))),
  neg: () => unary('-x[0]', point.neg),
  exp: () => unary('torch.exp(x[0])', point.exp),
  log: () => unary('torch.log(x[0])', point.log, [0.1, 9]),
  sqrt: () => unary('torch.sqrt(x[0])', point.sqrt, [0.1, 9]),
  sin: () => unary('torch.sin(x[0])', point.sin, [-20, 20]),
  cos: () => unary('torch.cos(x[0])', point.cos, [-20, 20]),
  tanh: () => unary('torch.tanh(x[0])', point.tanh, [-5, 5]),
  erf: () => unary('torch.erf(x[0])', point.erf, [-3, 3]),
  abs: () => unary('torch.abs(x[0])', point.abs),
  sigmoid: () => unary('torch.sigmoid(x[0])', activation.sigmoid, [-9, 9]),
  silu: () => unary('F.silu(x[0])', activation.silu, [-9, 9]),
  selu: () => unary('F.selu(x[0])', activation.selu, [-9, 9]),
  gelu: () => unary('F.gelu(x[0])', activation.gelu, [-6, 6]),
  geluTanh: () =>
    unary(
      '0.5 * x[0] * (1 + torch.tanh(0.7978845608028654 * (x[0] + 0.044715 * x[0] ** 3)))',
      activation.geluTanh,
      [-6, 6],
    ),
  softmax: () => unary('torch.softmax(x[0], -1)', softmax, [-9, 9]),
  'sum of rows': () => unary('x[0].sum(-1)', (x) => sum(x, [-1])),
  'sum of columns': () => unary('x[0].sum((0, 1))', (x) => sum(x, [0, 1])),
  'sum of the middle': () => unary('x[0].sum(1, keepdim=True)', (x) => sum(x, [1], true)),
  'sum of the outer': () => unary('x[0].sum((0, 2))', (x) => sum(x, [0, 2])),
  'maximum of rows': () => unary('x[0].amax(-1)', (x) => max(x, [-1])),
  'maximum of columns': () => unary('x[0].amax(0)', (x) => max(x, [0])),
  matmul: () => matmulCase(false, false),
  'matmul, A transposed': () => matmulCase(true, false),
  'matmul, B transposed': () => matmulCase(false, true),
  'matmul, both transposed': () => matmulCase(true, true),
  linear: linearCase,
  layerNorm: layerNormCase,
  groupNorm: groupNormCase,
  'attention across sequences': () => attentionCase(false),
  'causal attention': () => attentionCase(true),
  conv2d: convolution,
  upsampleNearest: () => ({
    shapes: [[upTo(3), upTo(5), upTo(5), upTo(7)]],
    torch: nhwc(`F.interpolate(${nchw('x[0]')}, scale_factor=2, mode="nearest")`),
    semiflow: (x) => upsampleNearest(x),
  }),
  averagePool: () => ({
    shapes: [[upTo(3), 2 * upTo(4), 2 * upTo(4), upTo(7)]],
    torch: nhwc(`F.avg_pool2d(${nchw('x[0]')}, 2)`),
    semiflow: (x) => averagePool(x),
  }),
  gather: gatherCase,
  'pad, slice, permute, concat': movementCase,
};

interface Question {
  code: string;
  inputs: { shape: Shape; values: number[] }[];
  weights: number[];
}
interface Answer {
  output: number[];
  gradients: (number[] | null)[];
}

/** What PyTorch makes of expressions, and their gradients under the weights. */
function ask(questions: readonly Question[]): Answer[] {
  const done = spawnSync(python, ['test/support/torch-oracle.py'], {
    input: JSON.stringify(questions),
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (done.status !== 0) throw new Error(done.stderr);
  return JSON.parse(done.stdout);
}

/** Cases of one operation: each has shapes of its own. */
const repeats = 2;

describe.skipIf(!found)(`PyTorch in float64, random shapes and numbers (SEED=${seed})`, () => {
  const drawn = Object.entries(cases).flatMap(([name, make]) =>
    Array.from({ length: repeats }, (_, i) => {
      const single = make();
      const [low, high] = single.range ?? [-2, 2];
      const numbers = (shape: Shape, from: number, to: number) =>
        Float32Array.from({ length: sizeOf(shape) }, () => from + (to - from) * draw.uniform());
      const inputs = single.shapes.map((shape) => ({ shape, values: numbers(shape, low, high) }));
      const x = inputs.map(({ shape, values }) => tensor(values, shape));
      const output = single.semiflow(...x);
      const weights = numbers(output.shape, -1, 1);
      return { name: `${name} ${i + 1}: ${single.shapes.map((s) => `[${s}]`)}`, single, inputs, x, output, weights };
    }),
  );
  let device: Device;
  let reference: Answer[];

  beforeAll(async () => {
    device = await openDevice({ toggles: 'checked' });
    const request = drawn.map(({ single, inputs, weights }) => ({
      code: single.torch,
      inputs: inputs.map(({ shape, values }) => ({ shape, values: [...values] })),
      weights: [...weights],
    }));
    reference = ask(request);
  }, 120_000);
  afterAll(() => device.dispose());

  const tried = drawn.map((entry, i) => [entry.name, i] as const).filter(([, i]) => full || i % 2 === 0);
  it.each(tried)('%s', { timeout: 60_000 }, async (_, i) => {
    const { x, output, weights } = drawn[i];
    const slopes = gradients(sum(point.mul(output, tensor(weights, output.shape))), x);
    const actual: Record<string, ArrayLike<number>> = await evaluate(device, {
      output,
      ...Object.fromEntries(slopes.map((g, k) => [`gradient ${k}`, g])),
    });
    // Relative to the largest, or to 1 where all are small: inputs, weights and slopes are of order 1.
    expect(relativeError(actual.output, reference[i].output, 1), 'output').toBeLessThan(1e-5);
    reference[i].gradients.forEach((g, k) =>
      expect(relativeError(actual[`gradient ${k}`], g!, 1), `gradient ${k}`).toBeLessThan(1e-5),
    );
  });
});

// test/functional.test.ts holds the device against float64; here float64 is held against PyTorch, without a device.
describe.skipIf(!found)(`what torch.nn.functional has, in float64 (SEED=${seed})`, () => {
  const known = functionalCases.filter((single) => single.torch);
  const drawn = known.map(({ shapes, range: [low, high] = [-2, 2], apply, flat }) => {
    const numbers = (shape: Shape, from: number, to: number) =>
      Float32Array.from({ length: sizeOf(shape) }, () => from + (to - from) * draw.uniform());
    const values = shapes.map((shape) => numbers(shape, low, high));
    const x = values.map((value, i) => tensor(value, shapes[i]));
    const output = apply(...x);
    const weights = numbers(output.shape, -1, 1);
    const slopes = flat ? [] : gradients(sum(point.mul(output, tensor(weights, output.shape))), x);
    return { values, output, weights, slopes };
  });
  let reference: Answer[];
  beforeAll(() => {
    reference = ask(
      known.map(({ torch, shapes }, i) => ({
        code: torch!,
        inputs: shapes.map((shape, k) => ({ shape, values: [...drawn[i].values[k]] })),
        weights: [...drawn[i].weights],
      })),
    );
  }, 120_000);

  it.each(known.map(({ name }, i) => [name, i] as const))('%s', (_, i) => {
    const { output, slopes } = drawn[i];
    const [value, ...derived] = interpret([output, ...slopes]);
    expect(relativeError(value, reference[i].output, 1)).toBeLessThan(3e-7);
    derived.forEach((slope, k) =>
      expect(relativeError(slope, reference[i].gradients[k]!, 1), `gradient ${k}`).toBeLessThan(3e-7),
    );
  });
});
