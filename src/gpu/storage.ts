import { UserError } from '../errors.js';
import { Resource } from './resource.js';

/**
 * How a storage keeps its elements. u8 exists only for resident data sets, four to a word; kernels read it as u32. f16 is
 * a way to store numbers: kernels compute with them in f32, and the host sees Float32Array.
 */
export type DType = 'f32' | 'u32' | 'u8' | 'f16';
/** Elements on the host: Float32Array of f32 and f16, Uint32Array of u32, Uint8Array of u8. */
export type HostArray = Float32Array | Uint32Array | Uint8Array;

/**
 * First values that come part by part, such as tensors of a file, so that the host never holds all of them. What it does
 * not write is zero.
 */
export type Filler = (write: (values: HostArray, offset: number) => Promise<void>) => Promise<void>;

/**
 * Memory that outlives a program: parameters, optimizer state, the scalars of a step. The device that uses it first gives
 * it a buffer, filled from `initial` or with zeros, until it is disposed; another device refuses it.
 *
 * A `fixed` one is mere values (a literal tensor, a data set, a frozen network): nothing writes it, all programs of a
 * device that read it share one copy, which goes with the last of them, and no one needs to dispose of it.
 */
export class TensorStorage extends Resource {
  /** The device that it lies on, once it does. */
  owner?: {
    /** Gives its buffer back. */
    release(storage: TensorStorage): void;
  };

  readonly initial?: HostArray;
  /** Brings the first values, where they come part by part. */
  readonly filler?: Filler;

  /** @throws UserError where the length is none, or `initial` is of another type or length */
  constructor(
    readonly name: string,
    readonly dtype: DType,
    readonly length: number,
    initial?: HostArray | Filler,
    readonly fixed = false,
  ) {
    super(`storage ${name}`);
    if (!Number.isSafeInteger(length) || length < 1)
      throw new UserError(`storage ${name} of ${length} elements: a storage has one at least`);
    if (typeof initial === 'function') {
      this.filler = initial;
      return;
    }
    this.initial = initial;
    if (initial) this.checkValues(initial);
    if (initial && initial.length !== length)
      throw new UserError(`storage ${name} has ${length} elements but ${initial.length} initial values`);
  }

  /** What its elements take, without padding. */
  get bytes(): number {
    return this.length * bytesPerElement[this.dtype];
  }

  /** @throws UserError where the host keeps such elements in another type */
  checkValues(values: HostArray): void {
    const type = hostType[this.dtype];
    if (!(values instanceof type))
      throw new UserError(
        `storage ${this.name} keeps ${this.dtype}: give it a ${type.name}, not a ${values.constructor.name}`,
      );
  }

  protected free(): void {
    this.owner?.release(this);
  }
}

/** What an element takes on the device. */
export const bytesPerElement: Record<DType, number> = { f32: 4, u32: 4, f16: 2, u8: 1 };
const hostType = { f32: Float32Array, f16: Float32Array, u32: Uint32Array, u8: Uint8Array };
