import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { evaluate } from '../src/autodiff/eager.js';
import { openDevice } from '../node/device.js';
import { gradients } from '../src/autodiff/gradients.js';
import type { Device } from '../src/gpu/device.js';
import { layerNorm, modulate, softmax } from '../src/ops/normalization.js';
import { mul, sin } from '../src/ops/pointwise.js';
import { tensor } from '../src/tensor/tensor.js';
import { relativeError } from './support/compare.js';

/** Reproducible numbers in [-size, size). */
function numbers(count: number, seed: number, size = 1): Float32Array {
  let state = seed * 2654435761 + 12345;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state / 2 ** 32) * 2 - 1) * size;
  });
}

type RowFunction = (row: number[]) => number[];
const sumOf = (xs: number[]) => xs.reduce((sum, x) => sum + x, 0);
const meanOf = (xs: number[]) => sumOf(xs) / xs.length;

const softmaxRow: RowFunction = (row) => {
  const top = Math.max(...row);
  const weights = row.map((x) => Math.exp(x - top));
  return weights.map((w) => w / sumOf(weights));
};
const softmaxGradient = (row: number[], g: number[]) => {
  const p = softmaxRow(row);
  return p.map((_, i) => sumOf(p.map((pj, j) => g[j] * pj * ((i === j ? 1 : 0) - p[i]))));
};

const deviation = (row: number[]) => Math.sqrt(meanOf(row.map((x) => (x - meanOf(row)) ** 2)) + 1e-5);
const normRow: RowFunction = (row) => {
  const [mean, deviated] = [meanOf(row), deviation(row)];
  return row.map((x) => (x - mean) / deviated);
};
const normGradient = (row: number[], g: number[]) => {
  const [y, deviated] = [normRow(row), deviation(row)];
  const slope = meanOf(y.map((x, i) => x * g[i]));
  return g.map((value, i) => (value - meanOf(g) - y[i] * slope) / deviated);
};

function eachRow(x: ArrayLike<number>, length: number, f: (row: number[], index: number) => number[]): number[] {
  const all = Array.from(x);
  return Array.from({ length: all.length / length }, (_, r) => f(all.slice(r * length, (r + 1) * length), r)).flat();
}

/** Largest difference against the larger of 1 and the largest reference value. */
const error = (actual: ArrayLike<number>, expected: ArrayLike<number>) => relativeError(actual, expected, 1);

describe('the float64 references', () => {
  it.each([
    ['softmax', softmaxRow, softmaxGradient],
    ['layer normalisation', normRow, normGradient],
  ] as const)('of %s have gradients that central differences confirm', (_, f, gradient) => {
    const row = Array.from(numbers(6, 1));
    const g = Array.from(numbers(6, 2));
    const loss = (x: number[]) => sumOf(f(x).map((y, i) => y * g[i]));
    gradient(row, g).forEach((slope, i) => {
      const moved = (by: number) => loss(row.map((x, j) => (j === i ? x + by : x)));
      expect((moved(1e-5) - moved(-1e-5)) / 2e-5).toBeCloseTo(slope, 7);
    });
  });
});

describe.each(['plain', 'tiled'] as const)('rows, %s family', (family) => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice({ toggles: 'checked', family });
  });
  afterAll(() => device.dispose());

  // Shorter than a vec4, with a rest, longer than a workgroup; more rows than one workgroup of the plain family has.
  const lengths = [
    [70, 1],
    [3, 2],
    [5, 3],
    [67, 5],
    [130, 17],
    [9, 384],
    [3, 1000],
  ];
  it.each(lengths)('softmax of %i rows of %i, and its gradient', async (rows, length) => {
    const [x, g] = [numbers(rows * length, 3, 4), numbers(rows * length, 4)];
    const input = tensor(x, [rows, length]);
    const y = softmax(input);
    const [dx] = gradients(y, [input], tensor(g, [rows, length]));
    const results = await evaluate(device, { y, dx });
    const gradient = eachRow(x, length, (row, r) =>
      softmaxGradient(row, Array.from(g.slice(r * length, (r + 1) * length))),
    );
    expect(error(results.y, eachRow(x, length, softmaxRow))).toBeLessThan(1e-6);
    expect(error(results.dx, gradient)).toBeLessThan(1e-6);
  });

  it.each(lengths)('layerNorm of %i rows of %i, and its gradient', async (rows, length) => {
    const [x, g] = [numbers(rows * length, 5, 3), numbers(rows * length, 6)];
    const input = tensor(x, [rows, length]);
    const y = layerNorm(input);
    const [dx] = gradients(y, [input], tensor(g, [rows, length]));
    const results = await evaluate(device, { y, dx });
    const gradient = eachRow(x, length, (row, r) =>
      normGradient(row, Array.from(g.slice(r * length, (r + 1) * length))),
    );
    // Of rows of one element nothing is left but 0 times rstd = 316, of short ones a division by a small deviation.
    expect(error(results.y, eachRow(x, length, normRow))).toBeLessThan(2e-5);
    expect(error(results.dx, gradient)).toBeLessThan(2e-5);
  });

  it('softmax takes logits of ±80, all equal or one above all, without NaN', async () => {
    const rows = [
      [80, -80, 79, 0, 80],
      [-80, -80, -80, -80, -80],
      [80, 80, 80, 80, 80],
      [-3e38, -3e38, 3e38, 0, -3e38],
    ];
    const input = tensor(rows.flat(), [4, 5]);
    const { y } = await evaluate(device, { y: softmax(input) });
    expect(error(y, rows.flatMap(softmaxRow))).toBeLessThan(1e-6);
  });

  it('layerNorm keeps its accuracy under a mean far from 0', async () => {
    const length = 384;
    const x = numbers(4 * length, 7).map((value) => value + 1000);
    const { y } = await evaluate(device, { y: layerNorm(tensor(x, [4, length])) });
    // x itself is rounded to 6e-5 here, but the reference starts from the rounded values; one pass would lose 3 digits.
    expect(error(y, eachRow(x, length, normRow))).toBeLessThan(5e-4);
  });

  it('layerNorm in the middle of a graph: fused input, modulation after it, gradients through both', async () => {
    const [rows, length] = [6, 20];
    const [x, g] = [numbers(rows * length, 8, 2), numbers(rows * length, 9)];
    const [scale, shift] = [numbers(length, 10), numbers(length, 11)];
    const [input, a, b] = [tensor(x, [rows, length]), tensor(scale, [length]), tensor(shift, [length])];
    const y = modulate(layerNorm(mul(sin(input), 2)), a, b);
    const [dx, da, db] = gradients(y, [input, a, b], tensor(g, [rows, length]));
    const results = await evaluate(device, { y, dx, da, db });

    const inner = Array.from(x, (value) => 2 * Math.sin(value));
    const normal = eachRow(inner, length, normRow);
    const column = (f: (i: number) => number) =>
      Array.from({ length }, (_, c) => sumOf(Array.from({ length: rows }, (_, r) => f(r * length + c))));
    const upstream = Array.from(g, (value, i) => value * (1 + scale[i % length]));
    const dInner = eachRow(inner, length, (row, r) => normGradient(row, upstream.slice(r * length, (r + 1) * length)));
    expect(
      error(
        results.y,
        normal.map((value, i) => value * (1 + scale[i % length]) + shift[i % length]),
      ),
    ).toBeLessThan(2e-6);
    expect(
      error(
        results.dx,
        dInner.map((value, i) => value * 2 * Math.cos(x[i])),
      ),
    ).toBeLessThan(4e-6);
    expect(
      error(
        results.da,
        column((i) => g[i] * normal[i]),
      ),
    ).toBeLessThan(4e-6);
    expect(
      error(
        results.db,
        column((i) => g[i]),
      ),
    ).toBeLessThan(4e-6);
  });
});
