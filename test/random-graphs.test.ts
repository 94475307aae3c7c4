import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { evaluate } from '../src/autodiff/eager.js';
import { openDevice } from '../node/device.js';
import type { Device } from '../src/gpu/device.js';
import { sum } from '../src/ops/broadcast.js';
import { matmul } from '../src/ops/matmul.js';
import * as move from '../src/ops/movement.js';
import { layerNorm, softmax } from '../src/ops/normalization.js';
import { silu } from '../src/ops/activations.js';
import { add, cos, mul, sin, sub, tanh } from '../src/ops/pointwise.js';
import { random, type Random } from '../src/tensor/philox.js';
import { tensor, type Tensor } from '../src/tensor/tensor.js';
import { relativeError } from './support/compare.js';
import { interpret } from './support/interpreter.js';

const extents = [1, 2, 3, 4, 5, 8, 12];

/** A graph of some twenty operations over matrices, with values used several times and across kernels. */
function randomGraph(draw: Random): Tensor[] {
  const pick = <T>(list: readonly T[]): T => list[draw.below(list.length)];
  const input = (rows = pick(extents), columns = pick(extents)) =>
    tensor(
      Float32Array.from({ length: rows * columns }, () => 2 * draw.uniform() - 1),
      [rows, columns],
    );
  const nodes: Tensor[] = [input(), input()];
  const steps: ((x: Tensor) => Tensor)[] = [
    sin,
    (x) => silu(cos(x)),
    (x) => add(x, pick(nodes.filter(({ shape }) => shape[0] === x.shape[0] && shape[1] === x.shape[1]))),
    (x) => mul(x, input(1, x.shape[1])),
    (x) => sub(input(x.shape[0], 1), x),
    (x) => tanh(matmul(x, input(x.shape[1]))),
    (x) => tanh(matmul(input(x.shape[0]), x, { transposeA: true })),
    (x) => add(matmul(x, x, { transposeB: true }), input(1, x.shape[0])),
    softmax,
    (x) => (x.shape[1] > 2 ? layerNorm(x, 0.1) : x),
    (x) => tanh(sum(x, [draw.below(2)], true)),
    move.transpose,
    (x) => move.concat([x, pick(nodes.filter(({ shape }) => shape[0] === x.shape[0]))], 1),
    (x) => (x.shape[1] > 1 ? move.slice(x, 1, 0, Math.ceil(x.shape[1] / 2)) : x),
    (x) => move.pad(x, [0, draw.below(5)], [x.shape[0] + 1, x.shape[1] + 5]),
    (x) => move.reshape(x, [x.shape[1], x.shape[0]]),
    (x) => move.gather(x, tensor(Uint32Array.from({ length: pick(extents) }, () => draw.below(x.shape[0])))),
  ];
  while (nodes.length < 22) {
    // Now and then from the first nodes, so that values live long.
    const made = pick(steps)(
      draw.below(3) ? nodes[nodes.length - 1 - draw.below(Math.min(4, nodes.length))] : pick(nodes),
    );
    if (made.size <= 2000) nodes.push(made);
  }
  return [nodes.at(-1)!, ...[1, 2].map(() => pick(nodes.slice(2)))];
}

const fresh = Number(process.env.SEED ?? Math.floor(Math.random() * 1e6));

describe(`graphs made at random: fusion and memory change no value (SEED=${fresh})`, () => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice({ toggles: 'checked' });
  });
  afterAll(() => device.dispose());

  it.each(Array.from({ length: 30 }, (_, i) => i))('graph %i', { timeout: 60_000 }, async (i) => {
    const outputs = randomGraph(random(fresh, i));
    const expected = interpret(outputs);
    const actual = await evaluate(device, Object.fromEntries(outputs.map((output, k) => [k, output])));
    outputs.forEach((_, k) => expect(relativeError(actual[k], expected[k], 0.1)).toBeLessThan(3e-5));
  });
});
