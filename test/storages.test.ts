import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { compile } from '../src/autodiff/compile.js';
import { evaluate } from '../src/autodiff/eager.js';
import type { Device } from '../src/gpu/device.js';
import { TensorStorage, type DType, type HostArray } from '../src/gpu/storage.js';
import { expand, sum } from '../src/ops/broadcast.js';
import * as move from '../src/ops/movement.js';
import { assign } from '../src/ops/optimizer.js';
import * as point from '../src/ops/pointwise.js';
import { integers } from '../src/ops/random.js';
import { random, wholeNumbers } from '../src/tensor/philox.js';
import { fromStorage, tensor, type Tensor } from '../src/tensor/tensor.js';
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
    const bounds = [3, 2 ** 16, 2 ** 16 + 1, 3 * 2 ** 30, 2 ** 32];
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
