import { describe, expect, it } from 'vitest';
import { gradients } from '../src/autodiff/gradients.js';
import { max, sum } from '../src/ops/broadcast.js';
import { abs, maximum, minimum, mul } from '../src/ops/pointwise.js';
import { random } from '../src/tensor/philox.js';
import { tensor, type Tensor } from '../src/tensor/tensor.js';
import { interpret } from './support/interpreter.js';

// Slopes where there is none: half of the way from one side to the other, as PyTorch takes them. The mean of both one-sided
// differences is that, as all functions here are made of straight lines.
const step = 1e-3;
function slopes(
  f: (x: Tensor) => Tensor,
  values: number[],
  shape: number[],
): { got: Float64Array; expected: number[] } {
  const x = tensor(values, shape);
  const weights = tensor(values.map((_, i) => 1 + (i % 5)).slice(0, f(x).size), f(x).shape);
  const loss = sum(mul(f(x), weights));
  const [got] = interpret(gradients(loss, [x]));
  const at = (k: number, delta: number) => {
    const moved = Float64Array.from(values);
    moved[k] += delta;
    return interpret([loss], new Map([[x.attributes.storage, moved]]))[0][0];
  };
  return { got, expected: values.map((_, k) => (at(k, step) - at(k, -step)) / (2 * step)) };
}

describe('gradients at kinks', () => {
  const values = [-2, -1, 0, 0, 1, 2, -0, 3];
  it.each<[string, (x: Tensor) => Tensor]>([
    ['abs', abs],
    ['maximum with a number', (x) => maximum(x, 0)],
    ['minimum with a number', (x) => minimum(1, x)],
    ['a clamp whose ends are met', (x) => minimum(maximum(x, -1), 2)],
    ['maximum with another tensor', (x) => maximum(x, tensor([-2, 1, 0, 5, -1, 2, 0, 3]))],
    ['minimum with another tensor', (x) => minimum(tensor([-2, 1, 0, 5, -1, 2, 0, 3]), x)],
  ])('%s', (_, f) => {
    const { got, expected } = slopes(f, values, [8]);
    expected.forEach((slope, i) => expect(got[i]).toBeCloseTo(slope, 9));
  });

  it('both operands of a tie get half of the gradient', () => {
    const [a, b] = [tensor([1, 2, 3]), tensor([3, 2, 1])];
    for (const [f, first] of [
      [maximum, [0, 0.5, 1]],
      [minimum, [1, 0.5, 0]],
    ] as const) {
      const [da, db] = interpret(gradients(sum(f(a, b)), [a, b]));
      expect([...da]).toEqual(first);
      expect([...db]).toEqual(first.map((share) => 1 - share));
    }
  });

  // Long rows and axes apart are reduced in stages.
  it.each<[string, number[], number[] | undefined]>([
    ['a row', [7], undefined],
    ['columns', [5, 3], [0]],
    ['axes apart', [3, 2, 4], [0, 2]],
    ['everything', [3, 2, 4], undefined],
    ['a negative axis', [4, 6], [-1]],
    ['a row in stages', [20_000], undefined],
    ['columns in stages', [1200, 2], [0]],
    ['a prime length', [16_411], undefined],
  ])('of a maximum are shared evenly: %s', (_, shape, axes) => {
    const size = shape.reduce((a, b) => a * b);
    const { below } = random(size);
    const x = tensor(
      Float32Array.from({ length: size }, () => below(3)),
      shape,
    );
    const greatest = max(x, axes);
    const [g, value, sums] = interpret([...gradients(sum(mul(greatest, 6)), [x]), greatest, max(x, axes, true)]);
    expect(sums).toEqual(value);
    // Of each group: 6 in equal parts to its greatest elements, nothing to the others.
    const reduced = new Set((axes ?? shape.map((_, axis) => axis)).map((axis) => (axis + shape.length) % shape.length));
    const groups = new Map<string, number[]>();
    for (let i = 0; i < size; i++) {
      let rest = i;
      const at = shape.map(() => 0);
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        at[axis] = reduced.has(axis) ? 0 : rest % shape[axis];
        rest = Math.floor(rest / shape[axis]);
      }
      const group = groups.get(at.join());
      if (group) group.push(i);
      else groups.set(at.join(), [i]);
    }
    const numbers = x.attributes.storage.initial!;
    for (const members of groups.values()) {
      const most = members.reduce((most, i) => Math.max(most, numbers[i]), -Infinity);
      const first = members.filter((i) => numbers[i] === most);
      for (const i of members) expect(g[i]).toBeCloseTo(numbers[i] === most ? 6 / first.length : 0, 9);
    }
  });
});
