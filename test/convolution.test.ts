import { describe, expect, it } from 'vitest';
import { conv2d } from '../src/ops/convolution.js';
import { random } from '../src/tensor/philox.js';
import { tensor } from '../src/tensor/tensor.js';
import { relativeError } from './support/compare.js';
import { interpret } from './support/interpreter.js';

const draw = random(3);
const numbers = (count: number) => Float32Array.from({ length: count }, () => 2 * draw.uniform() - 1);

describe('conv2d', () => {
  // The definition, written down; operations.test.ts holds kernels and gradients against the same graph.
  it.each([
    [[2, 5, 7, 3], [3, 3, 3, 5], 1, 1],
    [[1, 6, 4, 4], [3, 3, 4, 2], 2, 1],
    [[2, 5, 8, 1], [2, 4, 1, 3], 2, 0],
    [[1, 6, 5, 3], [5, 3, 3, 2], 3, 2],
    [[1, 4, 5, 8], [1, 1, 8, 4], 1, 0],
  ])('of [%j] with [%j], stride %i, padding %i', (shape, kernel, stride, padding) => {
    const [n, h, w, c] = shape;
    const [rows, columns, , out] = kernel;
    const [x, weight] = [numbers(n * h * w * c), numbers(rows * columns * c * out)];
    const y = conv2d(tensor(x, shape), tensor(weight, kernel), undefined, { stride, padding });
    const expected: number[] = [];
    for (let b = 0; b < n; b++) {
      for (let i = 0; i * stride + rows <= h + 2 * padding; i++) {
        for (let j = 0; j * stride + columns <= w + 2 * padding; j++) {
          for (let o = 0; o < out; o++) {
            let sum = 0;
            for (let p = 0; p < rows; p++) {
              for (let q = 0; q < columns; q++) {
                const [down, across] = [i * stride + p - padding, j * stride + q - padding];
                if (down < 0 || down >= h || across < 0 || across >= w) continue;
                for (let k = 0; k < c; k++) {
                  sum += x[((b * h + down) * w + across) * c + k] * weight[((p * columns + q) * c + k) * out + o];
                }
              }
            }
            expected.push(sum);
          }
        }
      }
    }
    expect(y.size).toBe(expected.length);
    expect(relativeError(interpret([y])[0], expected)).toBeLessThan(1e-12);
  });

  it('names what does not fit', () => {
    const x = tensor(new Float32Array(2 * 4 * 4 * 3), [2, 4, 4, 3]);
    expect(() => conv2d(x, tensor(new Float32Array(36), [3, 3, 4, 1]))).toThrow(/channels come last and must agree/);
    expect(() => conv2d(x, tensor(new Float32Array(75), [5, 5, 3, 1]))).toThrow(/5x5 does not fit/);
  });
});
