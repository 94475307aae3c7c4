import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { evaluate } from '../src/autodiff/eager.js';
import type { Device } from '../src/gpu/device.js';
import { random } from '../src/tensor/philox.js';
import { sizeOf } from '../src/tensor/shape.js';
import { constant, tensor } from '../src/tensor/tensor.js';
import { SampleSource, shownConditions, type SampleSet } from '../trainers/batches.js';
import { Rows } from '../trainers/rows.js';
import { interpret } from './support/interpreter.js';

const draw = random(11);
const count = 101;
const floats = (shape: number[]): SampleSet => ({
  shape,
  count,
  // Zeros of either sign among them.
  values: Float32Array.from({ length: count * sizeOf(shape) }, (_, i) => (i % 7 ? draw.normal() : -0)),
  range: [0, 1],
  labels: Uint32Array.from({ length: count }, (_, i) => i),
});
const bytes = (shape: number[]): SampleSet => ({
  ...floats(shape),
  values: Uint8Array.from({ length: count * sizeOf(shape) }, () => draw.below(256)),
  range: [-1, 1],
});
const sets: [string, SampleSet][] = [
  ['points', floats([2])],
  ['numbers of an odd size', floats([5])],
  ['pictures', floats([1, 4, 3])],
  ['bytes', bytes([1, 4, 4])],
  ['bytes of an odd size', bytes([3, 3, 1])],
];
const batch = 64;
const drawn = () => new Rows(tensor(Uint32Array.of(3, 0, 8)), [batch]);

describe('what a network is told of samples', () => {
  it('is, for a share of them, what guidance leads away from, of all that there is such of', () => {
    const rows = drawn();
    const told = { context: constant(1, [batch, 2, 3]), shift: constant(2, [batch, 1]), mask: constant(3, [batch, 1]) };
    const negative = { context: constant(-1, [batch, 2, 3]), shift: constant(-2, [batch, 1]) };
    const shown = (dropout: number) => {
      const { context, shift, mask } = shownConditions(told, negative, rows, dropout);
      return interpret([context, shift, mask]).map((values) => Array.from(values));
    };
    const [context, shift, mask] = shown(0.25);
    // A sample is told all of it or none.
    const hidden = shift.map((value) => value === -2);
    expect(context).toEqual(hidden.flatMap((none) => Array.from({ length: 6 }, () => (none ? -1 : 1))));
    expect(new Set(mask)).toEqual(new Set([3]));
    const share = hidden.filter(Boolean).length / batch;
    expect(Math.abs(share - 0.25)).toBeLessThan(4 * Math.sqrt((0.25 * 0.75) / batch));
    expect(new Set(shown(1)[0])).toEqual(new Set([-1]));
    expect(shownConditions(told, negative, rows, 0)).toBe(told);
    expect(shownConditions(told, {}, rows, 0.5)).toBe(told);
  });
});

describe('a data set of several pages', () => {
  /** Everything on one page, a few rows each, one row each, and less than a row. */
  const limits = (set: SampleSet) => {
    const row = sizeOf(set.shape) * set.values.BYTES_PER_ELEMENT;
    return [row * count, row * 9, row * 40 + 1, row, Math.ceil(row / 2)];
  };

  it.each(sets)('gives the same batches of %s, whatever a binding holds', (_, set) => {
    const [whole, ...paged] = limits(set).map((maxBindingBytes) => {
      const { x, labels } = new SampleSource(set, { seed: 0, batch }).draw(drawn(), { maxBindingBytes });
      return interpret([x, labels!]);
    });
    // Labels tell which rows were drawn.
    const { values, range } = set;
    const size = sizeOf(set.shape);
    const [low, high] = range;
    const numbers = Array.from(values, (v) => (values instanceof Uint8Array ? (v * (high - low)) / 255 + low : v));
    const rows = [...whole[1]].flatMap((row) => numbers.slice(row * size, (row + 1) * size));
    rows.forEach((value, i) => expect(whole[0][i]).toBeCloseTo(value, 12));
    expect(new Set(whole[1]).size).toBeGreaterThan(20);
    for (const part of paged) expect(part).toEqual(whole);
  });

  let device: Device;
  beforeAll(async () => {
    device = await openDevice({ toggles: 'checked' });
  });
  afterAll(() => device.dispose());

  it.each([sets[3]])('on the device too, to the bit: %s', async (_, set) => {
    const read = [];
    // More pages than a kernel may bind.
    for (const maxBindingBytes of limits(set).slice(0, 2)) {
      const { x, labels } = new SampleSource(set, { seed: 0, batch }).draw(drawn(), { maxBindingBytes });
      const values = (await evaluate(device, { x, labels: labels! })) as { x: Float32Array; labels: Uint32Array };
      read.push([...new Uint32Array(values.x.buffer, values.x.byteOffset, values.x.length), ...values.labels]);
    }
    for (const other of read.slice(1)) expect(other).toEqual(read[0]);
  });
});
