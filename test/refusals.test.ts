import { describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { UserError } from '../src/errors.js';
import { TensorStorage, type DType } from '../src/gpu/storage.js';
import { attention } from '../src/ops/attention.js';
import { expand, max, sum } from '../src/ops/broadcast.js';
import { conv2d } from '../src/ops/convolution.js';
import { matmul } from '../src/ops/matmul.js';
import { layerNorm, softmax } from '../src/ops/normalization.js';
import * as move from '../src/ops/movement.js';
import { adam, assign, pack } from '../src/ops/optimizer.js';
import * as point from '../src/ops/pointwise.js';
import { integers, normal, uniform } from '../src/ops/random.js';
import { constant, fromStorage, tensor, type Tensor } from '../src/tensor/tensor.js';

describe('what cannot be is refused in one line, before it reaches a device', () => {
  const [x, u] = [tensor([1, 2, 3, 4, 5, 6], [2, 3]), tensor(Uint32Array.of(1, 2, 3))];
  const whole = point.toIndex(tensor([1, 2, 3, 4, 5, 6], [3, 2]));
  const lines = (all: readonly Tensor[]) =>
    all.map((each) => move.reshape(each, [1, 3, 2])) as [Tensor, Tensor, Tensor];
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
    'a product of u32': () => matmul(x, whole),
    'a norm of u32': () => layerNorm(whole),
    'a softmax of u32': () => softmax(whole),
    'attention over u32': () => attention(...lines([x, x, whole]), 1),
    'attention over u32 with a mask': () => attention(...lines([x, whole, x]), 1, { mask: x }),
    'a convolution of u32': () => conv2d(move.reshape(whole, [1, 3, 2, 1]), tensor([1], [1, 1, 1, 1])),
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
    'scalars of another number': () => adam(packed, u, x, state(4)),
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
