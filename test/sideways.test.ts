import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { batchProducts } from '../src/autodiff/batch.js';
import { compile } from '../src/autodiff/compile.js';
import { gradients, reachable } from '../src/autodiff/gradients.js';
import { shareCommon } from '../src/autodiff/share.js';
import { sumProducts } from '../src/autodiff/sum-products.js';
import type { Device } from '../src/gpu/device.js';
import { silu } from '../src/ops/activations.js';
import { attention } from '../src/ops/attention.js';
import { sum } from '../src/ops/broadcast.js';
import { linear, matmul } from '../src/ops/matmul.js';
import { concat, reshape, slice } from '../src/ops/movement.js';
import { layerNorm } from '../src/ops/normalization.js';
import { add, cos, mul, sin } from '../src/ops/pointwise.js';
import { random } from '../src/tensor/philox.js';
import { tensor, type Tensor } from '../src/tensor/tensor.js';
import { relativeError } from './support/compare.js';
import { interpret } from './support/interpreter.js';

const draw = random(11);
const numbers = (...shape: number[]) =>
  tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => 2 * draw.uniform() - 1),
    shape,
  );

/** Products in a graph. */
const productsOf = (outputs: readonly Tensor[]) => reachable(outputs).filter(({ op }) => op === 'matmul').length;

/** Sums with the bias of a layer. */
const biasesOf = (outputs: readonly Tensor[]) =>
  reachable(outputs).filter(
    ({ op, inputs: [, b] }) => op === 'add' && b.op === 'expand' && b.inputs[0].op === 'storage',
  ).length;

/** A network of times [r] and of something else [r, 8] that takes all of its rows along: two layers of times, one of rows. */
function network() {
  const [first, second, own] = [numbers(12, 8), numbers(8, 12), numbers(8, 8)];
  const [bias, secondBias] = [numbers(12), numbers(8)];
  const frequencies = numbers(1, 4);
  return (x: Tensor, t: Tensor) => {
    const angles = mul(reshape(t, [t.size, 1]), frequencies);
    const hidden = silu(linear(concat([cos(angles), sin(angles)], 1), first, bias));
    return add(linear(x, own), linear(hidden, second, secondBias));
  };
}

describe('rows that meet one matrix', () => {
  const rows = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 2, maxLength: 6 });
  it('meet it together where none is computed from another, and keep their values', () => {
    fc.assert(
      fc.property(rows, fc.boolean(), (counts, parts) => {
        const apply = network();
        const all = numbers(counts.reduce((a, b) => a + b, 0));
        let start = 0;
        // Each call's rows come from the one before, its times from the start.
        let x: Tensor = numbers(1, 8);
        const outputs = counts.map((count) => {
          const t = parts ? slice(all, 0, start, start + count) : numbers(count);
          start += count;
          x = apply(add(slice(x, 0, 0, 1), numbers(count, 8)), mul(t, t));
          return x;
        });
        const graph = shareCommon(outputs);
        const batched = batchProducts(graph);
        // The rows of a call depend on those of the call before.
        expect(productsOf(batched)).toBe(2 + counts.length);
        expect([biasesOf(graph), biasesOf(batched)]).toEqual([2 * counts.length, 2]);
        const [actual, expected] = [interpret(batched), interpret(graph)];
        actual.forEach((values, i) => expect(values).toEqual(expected[i]));
      }),
      { numRuns: 20 },
    );
  });

  it('stay apart where one is computed from another, or from more than vectors', () => {
    const weight = numbers(8, 8);
    const first = linear(numbers(2, 8), weight);
    expect(productsOf(batchProducts(shareCommon([first, linear(silu(first), weight)])))).toBe(2);
    const tokens = [2, 3].map((count) => linear(sin(numbers(count, 4, 8)), weight));
    expect(productsOf(batchProducts(shareCommon(tokens)))).toBe(2);
  });
});

describe.each(['plain', 'tiled'] as const)('kernels that do what others would, %s family', (family) => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice({ family, toggles: 'checked' });
  });
  afterAll(() => device.dispose());

  /** What a graph computes here against float64, and the kernels that it runs. */
  async function run(outputs: Record<string, Tensor>): Promise<string[]> {
    const program = await compile(device, { outputs });
    program.run();
    const expected = interpret(Object.values(outputs));
    for (const [i, name] of Object.keys(outputs).entries())
      expect(relativeError((await program.read(name)) as Float32Array, expected[i], 1), name).toBeLessThan(1e-5);
    program.dispose();
    return program.dispatches.map(({ label }) => label);
  }

  it.each([
    [7, 5],
    [1, 8],
    [33, 12],
    [2, 2],
  ])('sums over rows of a gradient and of it times a norm: %i rows of %i', async (count, width) => {
    const [g, x] = [numbers(count, width), numbers(count, width)];
    const labels = await run({ shift: sum(g, [0]), scale: sum(mul(g, layerNorm(x)), [0]) });
    expect(labels.filter((label) => label.startsWith('reduce')).length).toBe(count > 1 ? 1 : 0);
  });

  it('sums over the rows of each sample, of three things, by two kernels', async () => {
    const g = numbers(3, 5, 8);
    const outputs = { a: sum(g, [1]), b: sum(mul(g, numbers(3, 5, 8)), [1]), c: sum(mul(g, g), [1]) };
    const labels = await run(outputs);
    expect(labels.sort()).toEqual(['reduce-columns', 'reduce-columns-pair']);
  });

  it.each([
    [5, 8, 12],
    [33, 36, 4],
    [64, 20, 68],
    [7, 5, 3],
  ])("a linear layer's gradients: %i rows, %i to %i", async (count, inputs, outputs) => {
    const [x, weight, bias] = [numbers(count, inputs), numbers(outputs, inputs), numbers(outputs)];
    const g = sin(linear(numbers(count, 8), numbers(outputs, 8)));
    const [w, b] = gradients(sum(mul(linear(x, weight, bias), g)), [weight, bias]);
    const labels = await run({ w, b });
    // The sums of a bias come with the product where its columns are whole vectors and the kernel is that of subgroups.
    const joined = device.profile.family === 'plain' && device.profile.subgroupSize === 8 && outputs % 4 === 0;
    expect(labels.filter((label) => label.startsWith('reduce')).length).toBe(joined ? 0 : 1);
  });

  it('a sum of two products, forward and back, and what nobody else reads of them', async () => {
    const products = async (outputs: Record<string, Tensor>) =>
      (await run(outputs)).filter((label) => label.startsWith('matmul')).length;
    const [x, weight, down, up] = [numbers(3, 11, 8), numbers(12, 8), numbers(4, 8), numbers(12, 4)];
    const hidden = linear(x, down);
    const beside = linear(hidden, up);
    expect(await products({ y: add(add(linear(x, weight), beside), numbers(12)) })).toBe(2);
    // A third product is added to what the kernel has in its registers.
    expect(await products({ y: add(add(linear(x, weight), beside), linear(sin(x), weight)) })).toBe(3);
    expect(await products({ y: add(linear(x, weight), beside), beside })).toBe(3);
    const [g] = gradients(sum(mul(sin(numbers(3, 11, 12)), add(linear(x, weight), beside))), [x]);
    expect(await products({ g })).toBe(2);
    // Products of matrices that are stored differently stay apart.
    expect(await products({ y: add(linear(x, weight), matmul(hidden, numbers(4, 12))) })).toBe(3);
  });

  it('but of matrices that are bound in parts each product by itself', () => {
    const sums = [add(linear(numbers(6, 64), numbers(8, 64)), linear(numbers(6, 4), numbers(8, 4)))];
    const left = (maxBindingBytes: number) => productsOf(sumProducts(sums, { ...device.profile, maxBindingBytes }));
    expect([4 * 8 * 64, 4 * 8 * 64 - 1].map(left)).toEqual([1, 2]);
  });

  it('what follows a product, and the product itself', async () => {
    const y = linear(numbers(5, 8), numbers(12, 8), numbers(12));
    const labels = await run({ followed: mul(silu(y), numbers(5, 12)), squares: sum(mul(y, y), [1]), y });
    expect(labels.filter((label) => label.startsWith('pointwise'))).toEqual([]);
  });

  it('the row sums of attention with its gradients', async () => {
    const [q, k, v] = [0, 1, 2].map(() => numbers(2, 7, 6));
    const out = attention(q, k, v, 2);
    const [dq, dk, dv] = gradients(sum(mul(out, numbers(2, 7, 6))), [q, k, v]);
    const labels = await run({ dq, dk, dv });
    expect(labels.filter((label) => label.startsWith('reduce'))).toEqual([]);
  });

  it('two tensors side by side, normalised and multiplied', async () => {
    const [a, b] = [linear(numbers(9, 4), numbers(8, 4)), linear(numbers(9, 4), numbers(12, 4))];
    const both = concat([a, b], 1);
    const labels = await run({ normed: layerNorm(both), product: linear(both, numbers(4, 20)), a, b });
    expect(labels.filter((label) => label.startsWith('pointwise'))).toEqual([]);
  });
});
