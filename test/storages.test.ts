import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { compile } from '../src/autodiff/compile.js';
import { evaluate } from '../src/autodiff/eager.js';
import { UserError } from '../src/errors.js';
import type { Device } from '../src/gpu/device.js';
import { TensorStorage, type DType, type HostArray } from '../src/gpu/storage.js';
import { expand, max, sum } from '../src/ops/broadcast.js';
import * as move from '../src/ops/movement.js';
import { adam, assign, pack } from '../src/ops/optimizer.js';
import * as point from '../src/ops/pointwise.js';
import { integers, normal, uniform } from '../src/ops/random.js';
import { random, wholeNumbers } from '../src/tensor/philox.js';
import { constant, fromStorage, tensor, type Tensor } from '../src/tensor/tensor.js';
import { interpret } from './support/interpreter.js';

const fresh = Number(process.env.SEED ?? Math.floor(Math.random() * 1e6));
const dtypes: DType[] = ['f32', 'u32', 'u8', 'f16'];
const lengths = [1, 2, 3, 4, 5, 7, 8, 13, 31];
const draw = random(fresh);

/** Whole numbers that every type keeps exactly. */
function numbers(dtype: DType, length: number): HostArray {
  const values = Array.from({ length }, () => draw.below(256));
  if (dtype === 'u32') return Uint32Array.from(values);
  return dtype === 'u8' ? Uint8Array.from(values) : Float32Array.from(values, (value) => value - 128);
}
const filled = (dtype: DType, length: number) =>
  new TensorStorage(`${dtype} of ${length}`, dtype, length, numbers(dtype, length));

describe(`storages of every type and length (SEED=${fresh})`, () => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice();
  });
  afterAll(() => device.dispose());

  it.each(dtypes)('%s: the host writes any part and leaves the rest', async (dtype) => {
    for (const length of lengths) {
      const storage = filled(dtype, length);
      const expected = storage.initial!.slice();
      for (let round = 0; round < 12; round++) {
        const offset = draw.below(length);
        const part = numbers(dtype, 1 + draw.below(length - offset));
        device.write(storage, part, offset);
        expected.set(part, offset);
        expect([...(await device.read(storage))], `${length}`).toEqual([...expected]);
      }
      storage.dispose();
    }
  });

  it.each(dtypes)('%s: is read as data, from any offset, more than once, and the device goes on', async (dtype) => {
    const wanted: Record<string, Tensor> = {};
    for (const length of [1, 3, 4, 5, 8, 13]) {
      const storage = filled(dtype, length);
      for (const offset of new Set([0, 1, length - 1]))
        if (offset < length) wanted[`${length} from ${offset}`] = fromStorage(storage, [length - offset], offset);
    }
    const program = await compile(device, { outputs: wanted });
    program.run();
    for (const [name, node] of Object.entries(wanted)) {
      const [expected] = interpret([node]);
      const [first, second] = await Promise.all([program.read(name), program.read(name)]);
      expect([...first], name).toEqual([...expected]);
      expect(second).toEqual(first);
    }
    program.dispose();
    await device.finished();
  });

  /** Everything that moves, compares or converts, and works on numbers of either type. */
  const operations: Record<string, (x: Tensor, all: Tensor) => Tensor> = {
    'read twice after a gather': (x) => {
      const rows = move.gather(x, tensor(Uint32Array.from({ length: 5 }, (_, i) => (i * 7) % x.size)));
      return point.add(rows, point.mul(rows, rows));
    },
    'rows gathered': (_, all) => move.gather(all, tensor(Uint32Array.of(1, 0, 1))),
    slice: (x) => move.slice(x, -1, x.size >> 1, x.size),
    pad: (x) => move.pad(x, [3], [x.size + 4]),
    concat: (x) => move.concat([x, move.slice(x, 0, 0, 1), x], -1),
    transpose: (_, all) => move.transpose(all),
    'repeat rows': (x) => expand(x, [3, x.size]),
    'repeat an element': (x) => expand(move.reshape(move.slice(x, 0, 0, 1), []), [2, 3]),
    where: (x) => point.where(point.greater(x, 20), x, 7),
    'where by itself': (x) => point.where(x, 3, x),
    equal: (x) => point.equal(x, move.slice(x, 0, x.size - 1, x.size)),
    'greater than an element': (x) => point.greater(x, move.slice(x, 0, 0, 1)),
    'maximum and minimum': (x) => point.minimum(point.maximum(x, 9), 99),
    'quotient of whole numbers': (x) => point.div(point.toIndex(point.maximum(x, 0)), point.toIndex(x)),
    'sum of floats': (x) => sum(point.toFloat(x)),
  };
  it.each(dtypes)('%s: operations see the values', async (dtype) => {
    const wanted: Record<string, Tensor> = {};
    for (const [length, offset] of [
      [1, 0],
      [7, 3],
      [8, 4],
    ]) {
      const x = fromStorage(filled(dtype, length + 5), [length], offset);
      const pair = fromStorage(filled(dtype, 2 * length), [2, length]);
      for (const [name, apply] of Object.entries(operations))
        wanted[`${name} of ${length} from ${offset}`] = apply(x, pair);
    }
    const results = await evaluate(device, wanted);
    const expected = interpret(Object.values(wanted));
    Object.keys(wanted).forEach((name, i) => expect([...results[name]], name).toEqual([...expected[i]]));
  });

  it.each(dtypes)('%s: a program assigns it, rounded as it keeps numbers', async (dtype) => {
    for (const length of [1, 3, 4, 7, 8]) {
      const [storage, other] = [filled(dtype, length), filled(dtype, length + 3)];
      const value = point.add(fromStorage(storage), fromStorage(other, [length], 3));
      const turned = fromStorage(other, [length], 1);
      const program = await compile(device, {
        effects: [assign(storage, value), assign(other, move.pad(turned, [2], [length + 3]))],
      });
      const [sums, moved] = interpret([value, move.pad(turned, [2], [length + 3])]);
      program.run();
      const kept = (x: number) => (dtype === 'u8' ? x % 256 : x);
      expect([...(await device.read(storage))], `${length}`).toEqual([...sums].map(kept));
      expect([...(await device.read(other))], `${length}`).toEqual([...moved]);
      for (const held of [program, storage, other]) held.dispose();
    }
  });

  it('f16 rounds what a program assigns as the host does', async () => {
    const values = Float32Array.from({ length: 9 }, () => (draw.uniform() - 0.5) * 1e3);
    const [written, assigned] = [new TensorStorage('written', 'f16', 9), new TensorStorage('assigned', 'f16', 9)];
    device.write(written, values);
    const program = await compile(device, { effects: [assign(assigned, tensor(values))] });
    program.run();
    expect(await device.read(assigned)).toEqual(await device.read(written));
    for (const held of [program, written, assigned]) held.dispose();
  });

  it('what is written between runs is seen by the next, what is read is of the run before', async () => {
    const storage = new TensorStorage('input', 'u8', 3);
    const program = await compile(device, { outputs: { y: point.mul(fromStorage(storage), 2) } });
    const seen: Promise<HostArray>[] = [];
    for (let i = 0; i < 4; i++) {
      device.write(storage, Uint8Array.of(i + 1), i % 3);
      program.run();
      seen.push(program.read('y'));
    }
    const rows = (await Promise.all(seen)).map((row) => [...row]);
    expect(rows).toEqual([
      [2, 0, 0],
      [2, 4, 0],
      [2, 4, 6],
      [8, 4, 6],
    ]);
    for (const held of [program, storage]) held.dispose();
  });

  it('numbers become indices by what is written, whatever they are', async () => {
    const values = [-3.5, -0.25, 0, 0.99, 1, 7.5, 2 ** 24 + 1, 4e9, 1e10, 1e38, Infinity, -Infinity, NaN];
    const x = fromStorage(new TensorStorage('any', 'f32', values.length, Float32Array.from(values)));
    const got = await evaluate(device, { index: point.toIndex(x), floor: point.floor(move.slice(x, 0, 0, 9)) });
    const most = 2 ** 32 - 256;
    const index = values.map((value) => (value > 0 ? Math.min(Math.trunc(Math.fround(value)), most) : 0));
    expect([...got.index]).toEqual(index);
    expect([...got.floor]).toEqual(values.slice(0, 9).map((value) => Math.floor(Math.fround(value))));
  });

  it('whole numbers below any bound are those of the host', async () => {
    const key = tensor(Uint32Array.of(12, 3, 9));
    const bounds = [1, 3, 1000, 2 ** 16, 2 ** 16 + 1, 2 ** 24 - 3, 3 * 2 ** 30, 2 ** 32 - 1, 2 ** 32];
    const wanted = Object.fromEntries(bounds.map((bound, i) => [bound, integers(key, i, [i % 2 ? 257 : 64], bound)]));
    const got = await evaluate(device, wanted);
    bounds.forEach((bound, i) =>
      expect(got[bound]).toEqual(wholeNumbers(wanted[bound].size, bound, 12 + 3 * 2 ** 32, 9, i)),
    );
  });

  it('rows beyond a table read as zeros and add to nothing', async () => {
    for (const row of [1, 3, 4]) {
      const table = filled('f32', 4 * row);
      const index = new TensorStorage('index', 'u32', 4, Uint32Array.of(3, 4, 0, 2 ** 32 - 1));
      const [rows, indices] = [fromStorage(table, [4, row]), fromStorage(index)];
      const wanted = { rows: move.gather(rows, indices), sums: move.scatterAdd(rows, indices, 4) };
      const got = await evaluate(device, wanted);
      const at = (i: number) => [...table.initial!.subarray(i * row, (i + 1) * row)];
      const none = new Array<number>(row).fill(0);
      expect([...got.rows]).toEqual([at(3), none, at(0), none].flat());
      expect([...got.sums]).toEqual([at(2), none, none, at(0)].flat());
    }
  });
});

describe('what cannot be is refused in one line, before it reaches a device', () => {
  const [x, u] = [tensor([1, 2, 3, 4, 5, 6], [2, 3]), tensor(Uint32Array.of(1, 2, 3))];
  const key = tensor(Uint32Array.of(1, 0, 0));
  const storage = (dtype: DType, length = 4) => new TensorStorage('s', dtype, length);
  const packed = pack([tensor([1, 2, 3, 4])], [0], 4);
  const state = (length: number, averages = length) => ({
    parameters: storage('f32', length),
    firstMoment: storage('f32', 4),
    secondMoment: storage('f32', 4),
    averages: storage('f32', averages),
  });
  const refused: Record<string, () => unknown> = {
    'a storage of nothing': () => storage('f32', 0),
    'a storage of half an element': () => storage('f32', 1.5),
    'a storage of bytes with floats': () => new TensorStorage('s', 'u8', 4, new Float32Array(4)),
    'a storage with too few values': () => new TensorStorage('s', 'f32', 4, new Float32Array(3)),
    'a view beyond a storage': () => fromStorage(storage('f32'), [4], 1),
    'a view from within an element': () => fromStorage(storage('f32'), [1], 0.5),
    'an empty tensor': () => tensor([]),
    'an extent of 0': () => tensor([], [2, 0]),
    'a shape that is not filled': () => tensor([1, 2, 3], [2, 2]),
    'an infinite constant': () => constant(Infinity),
    'a constant beyond f32': () => constant(1e39),
    'a constant that is no number': () => point.add(x, NaN),
    'a negative u32': () => point.add(u, -1),
    'a fractional u32': () => point.where(u, 0.5, u),
    'u32 and f32': () => point.add(x, u),
    'f32 and u32 to choose from': () => point.where(u, u, tensor([1, 2, 3])),
    'the exponential of u32': () => point.exp(u),
    'a negated u32': () => point.neg(u),
    'a sum of u32': () => sum(u),
    'a maximum of u32': () => max(u),
    'shapes that do not broadcast': () => point.add(x, tensor([1, 2])),
    'a repetition that is none': () => expand(x, [3, 3]),
    'a repetition to less': () => expand(x, [3]),
    'an axis that is not there': () => sum(x, [2]),
    'an axis between two': () => sum(x, [0.5]),
    'a slice of nothing': () => move.slice(x, 0, 1, 1),
    'a slice beyond the end': () => move.slice(x, 1, 0, 4),
    'a slice from within': () => move.slice(x, 1, 0.5, 2),
    'parts that are not equal': () => move.split(x, 1, 2),
    'a pad that cuts': () => move.pad(x, [0, 0], [2, 2]),
    'a pad from before': () => move.pad(x, [-1, 0], [4, 4]),
    'a pad of another rank': () => move.pad(x, [0], [6]),
    'a shape of other size': () => move.reshape(x, [4]),
    'two free extents': () => move.reshape(x, [-1, -1]),
    'a free extent that does not divide': () => move.reshape(x, [4, -1]),
    'axes twice': () => move.permute(x, [0, 0]),
    'axes once too often': () => move.permute(x, [0, 1, 1]),
    'the transpose of a row': () => move.transpose(u),
    'nothing joined': () => move.concat([], 0),
    'f32 and u32 joined': () => move.concat([u, tensor([1])], 0),
    'shapes that do not join': () => move.concat([x, tensor([1, 2], [1, 2])], 0),
    'an index beyond the table': () => move.gather(x, tensor(Uint32Array.of(0, 2))),
    'an index beyond the table, reshaped': () => move.gather(x, move.reshape(tensor(Uint32Array.of(0, 9)), [2, 1])),
    'an index that is f32': () => move.gather(x, tensor([0, 1])),
    'a table of rank 0': () => move.gather(constant(1), u),
    'a sum into a row that is not there': () => move.scatterAdd(x, tensor(Uint32Array.of(0, 5)), 5),
    'a sum of rows of another count': () => move.scatterAdd(x, tensor(Uint32Array.of(0, 1, 1)), 5),
    'a sum of u32 rows': () => move.scatterAdd(u, u, 5),
    'random numbers of no key': () => uniform(x, 0, [3]),
    'random numbers of a negative stream': () => normal(key, -1, [3]),
    'no whole numbers': () => integers(key, 0, [3], 0),
    'whole numbers below a half': () => integers(key, 0, [3], 0.5),
    'whole numbers beyond a word': () => integers(key, 0, [3], 2 ** 32 + 1),
    'a value of another size': () => assign(storage('f32'), x),
    'f32 into u32': () => assign(storage('u32', 6), x),
    'u32 into f16': () => assign(storage('f16', 3), u),
    'a value into a literal': () => assign(x.attributes.storage, x),
    'an arena that is no whole vec4s': () => adam(packed, u, x, state(3)),
    'an arena beside a longer gradient': () => adam(packed, u, x, state(8)),
    'averages of other parameters': () => adam(packed, u, x, state(4, 6)),
  };
  it.each(Object.keys(refused))('%s', (name) => {
    let error: unknown;
    try {
      refused[name]();
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(UserError);
    expect((error as Error).message).toMatch(/^.+$/);
  });

  it('and so is what the host writes wrongly', async () => {
    const device = await openDevice();
    const state = storage('u32');
    for (const write of [
      () => device.write(state, new Float32Array(4)),
      () => device.write(state, new Uint32Array(5)),
      () => device.write(state, new Uint32Array(2), 3),
      () => device.write(state, new Uint32Array(1), -1),
      () => device.write(state, new Uint32Array(1), 0.5),
      () => device.write(x.attributes.storage, new Float32Array(6)),
    ])
      expect(write).toThrow(UserError);
    expect(device.memory.buffers).toBe(0);
    device.dispose();
  });
});
