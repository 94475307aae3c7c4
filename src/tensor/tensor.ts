import { UserError } from '../errors.js';
import { TensorStorage } from '../gpu/storage.js';
import { sizeOf, type Shape } from './shape.js';

/**
 * Every operation of the graph with what its nodes carry besides their inputs. Here are those that the graph itself is
 * made of; each file of `ops/` declares its own, and `ops/table.ts` has a row for each.
 */
export interface OpAttributes {
  storage: { storage: TensorStorage; offset: number };
  constant: { value: number };
  /** The second output of a kernel. */
  secondary: object;
  /** A value with a gradient of its own: inputs are the value, then what the gradient is with respect to. */
  custom: { gradient: (g: Tensor) => (Tensor | null)[] };
}
/** The names of all operations. */
export type OpName = keyof OpAttributes;
/** What kernels compute with: numbers, and whole numbers that do not fall below 0. */
export type NumberType = 'f32' | 'u32';

let created = 0;

/** A node of the lazily built graph: what to compute, not yet where or when. Inputs always have smaller ids. */
export class Tensor<K extends OpName = OpName> {
  readonly id = created++;
  /** Number of elements. */
  readonly size: number;
  constructor(
    readonly op: K,
    readonly inputs: readonly Tensor[],
    readonly attributes: OpAttributes[K],
    readonly shape: Shape,
    readonly dtype: NumberType = 'f32',
  ) {
    if (shape.some((extent) => !Number.isInteger(extent) || extent < 1)) {
      throw new UserError(`${op} of shape [${shape}]: every extent must be a positive whole number`);
    }
    this.size = sizeOf(shape);
  }
}

/** A tensor over (part of) a storage, `offset` in elements. */
export function fromStorage(storage: TensorStorage, shape: Shape = [storage.length], offset = 0): Tensor<'storage'> {
  if (!Number.isInteger(offset) || offset < 0 || offset + sizeOf(shape) > storage.length) {
    throw new UserError(`[${shape}] at ${offset} does not fit storage ${storage.name} of ${storage.length} elements`);
  }
  // Numbers are f32 to the graph and whole ones u32, however a storage keeps them.
  const dtype = storage.dtype === 'f32' || storage.dtype === 'f16' ? 'f32' : 'u32';
  return new Tensor('storage', [], { storage, offset }, shape, dtype);
}

/**
 * A tensor with the given values; f32 unless a Uint32Array is given. It belongs to no device: on each, the programs
 * that read it share a copy.
 */
export function tensor(values: ArrayLike<number> | Uint32Array, shape: Shape = [values.length]): Tensor<'storage'> {
  const integer = values instanceof Uint32Array;
  const data = integer ? values.slice() : Float32Array.from(values);
  if (data.length !== sizeOf(shape)) {
    throw new UserError(`${data.length} values do not fill a tensor of shape [${shape}]`);
  }
  return fromStorage(new TensorStorage('tensor', integer ? 'u32' : 'f32', data.length, data, true), shape);
}

/**
 * A tensor filled with one number.
 * @throws UserError where it is not finite, or of u32 no whole number from 0 to 2^32 - 1
 */
export function constant(value: number, shape: Shape = [], dtype: NumberType = 'f32'): Tensor<'constant'> {
  if (!Number.isFinite(Math.fround(value))) throw new UserError(`a constant of ${value} is no finite f32`);
  if (dtype === 'u32' && !(Number.isInteger(value) && value >= 0 && value < 2 ** 32))
    throw new UserError(`a constant of ${value} is no u32: whole numbers from 0 to 2^32 - 1 are`);
  return new Tensor('constant', [], { value }, shape, dtype);
}

/**
 * `value` with a gradient written by hand in place of the derived one.
 * @param gradient from the gradient of `value` to those of `inputs`, null where none flows
 */
export function withGradient(
  value: Tensor,
  inputs: readonly Tensor[],
  gradient: OpAttributes['custom']['gradient'],
): Tensor<'custom'> {
  return new Tensor('custom', [value, ...inputs], { gradient }, value.shape, value.dtype);
}
