/** A typed array as a tensor's raw content. F16 and BF16 come as their bits, BOOL and F8 as bytes. */
export type RawArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | BigUint64Array
  | BigInt64Array
  | Float32Array
  | Float64Array;

interface DtypeRow {
  /** Bytes an element. */
  size: number;
  /** View on aligned little-endian bytes; every machine that runs JavaScript engines today is little-endian. */
  view: (buffer: ArrayBufferLike, offset: number, count: number) => RawArray;
  /** Tags of the typed arrays that hold such elements. */
  arrays: readonly string[];
}

function row(
  size: number,
  array: new (buffer: ArrayBufferLike, offset: number, count: number) => RawArray,
  ...alsoFrom: string[]
): DtypeRow {
  return { size, view: (buffer, offset, count) => new array(buffer, offset, count), arrays: [array.name, ...alsoFrom] };
}

const table = {
  BOOL: row(1, Uint8Array),
  U8: row(1, Uint8Array, 'Uint8ClampedArray'),
  I8: row(1, Int8Array),
  F8_E5M2: row(1, Uint8Array),
  F8_E4M3: row(1, Uint8Array),
  U16: row(2, Uint16Array),
  I16: row(2, Int16Array),
  F16: row(2, Uint16Array, 'Float16Array'),
  BF16: row(2, Uint16Array),
  U32: row(4, Uint32Array),
  I32: row(4, Int32Array),
  F32: row(4, Float32Array),
  U64: row(8, BigUint64Array),
  I64: row(8, BigInt64Array),
  F64: row(8, Float64Array),
};

/** Element types of the safetensors format. */
export type Dtype = keyof typeof table;

export const dtypes: Readonly<Record<Dtype, DtypeRow>> = table;

export function isDtype(name: unknown): name is Dtype {
  return typeof name === 'string' && Object.hasOwn(table, name);
}

/** The value of IEEE binary16 bits. */
export function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** The values of binary16 by their bits; made when it is first asked for. */
let halfValues: Float32Array | undefined;

/** Hundreds of millions of elements are read so: by a table, and without a call for each. */
function halves(bits: Uint16Array): Float32Array {
  halfValues ??= Float32Array.from({ length: 2 ** 16 }, (_, i) => halfToNumber(i));
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = halfValues[bits[i]];
  return values;
}

/** bfloat16 is the upper half of a binary32. */
function bfloats(bits: Uint16Array): Float32Array {
  const widened = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) widened[i] = bits[i] << 16;
  return new Float32Array(widened.buffer);
}

/**
 * Raw content as f32. F64 is rounded; integers must be exact in f32.
 * @returns the values, or a text that says which value cannot be held (F8 is never converted)
 */
export function toFloat32(dtype: Dtype, raw: RawArray): Float32Array | string {
  switch (dtype) {
    case 'F32':
      return raw as Float32Array;
    case 'F16':
      return halves(raw as Uint16Array);
    case 'BF16':
      return bfloats(raw as Uint16Array);
    case 'F8_E4M3':
    case 'F8_E5M2':
      return `${dtype} values are not converted`;
    case 'F64': {
      const values = Float32Array.from(raw as Float64Array);
      const lost = values.findIndex((value, i) => Math.abs(value) === Infinity && Number.isFinite(raw[i] as number));
      return lost < 0 ? values : `element ${lost} is ${raw[lost]}, beyond the range of f32`;
    }
    default: {
      const values = Float32Array.from(raw as ArrayLike<number | bigint>, Number);
      const lost = values.findIndex((value, i) =>
        typeof raw[i] === 'bigint' ? BigInt(value) !== raw[i] : value !== raw[i],
      );
      return lost < 0 ? values : `element ${lost} is ${raw[lost]}, which f32 cannot hold exactly`;
    }
  }
}
