import { UserError } from '../errors.js';

/**
 * Element types. u8 exists only for resident data sets, four to a word; kernels read it as u32. f16 is a way to store
 * numbers: kernels compute with them in f32, and the host sees Float32Array.
 */
export type DType = 'f32' | 'u32' | 'u8' | 'f16';
export type HostArray = Float32Array | Uint32Array | Uint8Array;

/**
 * Memory that outlives a program: parameters, optimizer state, data sets, the scalars of a step. A device gives it a
 * buffer on first use, filled from `initial` or with zeros.
 */
export class TensorStorage {
  constructor(
    readonly name: string,
    readonly dtype: DType,
    readonly length: number,
    readonly initial?: HostArray,
  ) {
    if (initial && initial.length !== length) {
      throw new UserError(`storage ${name} has ${length} elements but ${initial.length} initial values`);
    }
  }

  get bytes(): number {
    return this.length * bytesPerElement[this.dtype];
  }
}

export const bytesPerElement: Record<DType, number> = { f32: 4, u32: 4, f16: 2, u8: 1 };
