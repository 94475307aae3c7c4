import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { planProgram } from '../src/autodiff/compile.js';
import { gradients } from '../src/autodiff/gradients.js';
import type { Profile } from '../src/gpu/profile.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { applyLinear, applyLinears, linearParameters } from '../src/nn/layers.js';
import { ParameterLayout } from '../src/nn/parameters.js';
import { sum } from '../src/ops/broadcast.js';
import { add, mul } from '../src/ops/pointwise.js';
import { random } from '../src/tensor/philox.js';
import { fromStorage, type Tensor } from '../src/tensor/tensor.js';
import { interpret } from './support/interpreter.js';

const profile: Profile = {
  vendor: 'none',
  architecture: '',
  description: 'none',
  software: true,
  family: 'plain',
  subgroupSize: 8,
  f16: true,
  half: false,
  maxBindings: 8,
  maxBindingBytes: 2 ** 27,
  maxBufferBytes: 2 ** 28,
  bindingAlignment: 256,
  workgroupBytes: 2 ** 14,
};

const drawn = (name: string, size: number, seed: number) => {
  const { normal } = random(seed);
  return new TensorStorage(name, 'f32', size, Float32Array.from({ length: size }, normal));
};

/** Linear layers of widths, with others between them as blocks have, in one arena that ends somewhere behind them. */
function network(widths: readonly number[], inputs: number, between: readonly number[], behind: number) {
  const names = widths.map((_, i) => `layer.${i}`);
  const layout = new ParameterLayout([
    ...widths.flatMap((width, i) => [
      { name: `between.${i}`, shape: [between[i % between.length]], initializer: () => new Float32Array(1) },
      ...linearParameters(names[i], inputs, width),
    ]),
    ...(behind ? [{ name: 'behind', shape: [behind], initializer: () => new Float32Array(1) }] : []),
  ]);
  const parameters = layout.bind(drawn('arena', layout.length, 3));
  const x = fromStorage(drawn('x', 3 * inputs, 4), [3, inputs]);
  const wanted = [x, ...names.flatMap((name) => [parameters(`${name}.weight`), parameters(`${name}.bias`)])];
  const loss = (values: readonly Tensor[]) =>
    values.map((value, i) => mul(sum(mul(value, value)), i + 1)).reduce((a, b) => add(a, b));
  const all = (values: readonly Tensor[]) => [...values, ...gradients(loss(values), wanted)];
  return {
    layout,
    at: applyLinears(parameters, names, x),
    together: () => all(applyLinears(parameters, names, x)),
    each: () => all(names.map((name) => applyLinear(parameters, name, x))),
  };
}

const products = (outputs: readonly Tensor[]) => {
  const { tasks } = planProgram(profile, { outputs: Object.fromEntries(outputs.map((value, i) => [`${i}`, value])) });
  return {
    matmuls: tasks.filter(({ kernel }) => kernel.source.startsWith('matmul')).length,
    kernels: tasks.length,
  };
};

describe('several linear layers of one input', () => {
  it('are each of them, with the gradients of each, wherever they lie', () => {
    const width = fc.integer({ min: 1, max: 9 });
    fc.assert(
      fc.property(
        fc.oneof(
          fc.array(width, { minLength: 1, maxLength: 4 }),
          // Of equal blocks.
          fc.tuple(width, fc.integer({ min: 2, max: 4 })).map(([one, count]) => Array<number>(count).fill(4 * one)),
        ),
        fc.constantFrom(4, 8, 5),
        fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 2 }),
        fc.integer({ min: 0, max: 400 }),
        (widths, inputs, between, behind) => {
          const { together, each } = network(widths, inputs, between, behind);
          const [actual, expected] = [interpret(together()), interpret(each())];
          actual.forEach((values, i) => values.forEach((value, k) => expect(value).toBeCloseTo(expected[i][k], 6)));
        },
      ),
      { numRuns: 40 },
    );
  });

  it('of equal blocks are one product over the arena, without a copy, also where it ends with the last', () => {
    for (const behind of [0, 1, 1000]) {
      const { at, layout } = network([12, 12, 12], 8, [200], behind);
      expect(layout.length).toBeGreaterThan(0);
      const { matmuls, kernels } = products(at);
      expect(matmuls).toBe(1);
      // The product, and each part where it was asked for.
      expect(kernels).toBe(4);
    }
  });

  it('of other widths are one product over a copy; those that vectors do not fit are multiplied each', () => {
    expect(products(network([12, 8, 4], 8, [200, 10], 0).at).matmuls).toBe(1);
    expect(products(network([12, 7, 4], 8, [200], 0).at).matmuls).toBe(3);
    expect(products(network([12, 8, 4], 6, [200], 0).at).matmuls).toBe(3);
  });
});
