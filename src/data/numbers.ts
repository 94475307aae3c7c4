import { halfToNumber } from '../checkpoint/dtypes.js';
import type { NumberValues } from './format.js';

/** Kinds of elements that files of arrays hold: i and u integers, f floats, b booleans, with their bytes. */
export type NumberKind = 'b1' | 'u1' | 'i1' | 'u2' | 'i2' | 'u4' | 'i4' | 'u8' | 'i8' | 'f2' | 'f4' | 'f8';

type Maker = new (count: number) => NumberValues;
const readers: Record<NumberKind, [Maker, (view: DataView, at: number, little: boolean) => number]> = {
  b1: [Uint8Array, (view, at) => view.getUint8(at)],
  u1: [Uint8Array, (view, at) => view.getUint8(at)],
  i1: [Int8Array, (view, at) => view.getInt8(at)],
  u2: [Uint16Array, (view, at, little) => view.getUint16(at, little)],
  i2: [Int16Array, (view, at, little) => view.getInt16(at, little)],
  u4: [Uint32Array, (view, at, little) => view.getUint32(at, little)],
  i4: [Int32Array, (view, at, little) => view.getInt32(at, little)],
  u8: [Float64Array, (view, at, little) => Number(view.getBigUint64(at, little))],
  i8: [Float64Array, (view, at, little) => Number(view.getBigInt64(at, little))],
  f2: [Float32Array, (view, at, little) => halfToNumber(view.getUint16(at, little))],
  f4: [Float32Array, (view, at, little) => view.getFloat32(at, little)],
  f8: [Float64Array, (view, at, little) => view.getFloat64(at, little)],
};

export const isNumberKind = (text: string): text is NumberKind => Object.hasOwn(readers, text);

/** Bytes of an element. */
export const bytesOf = (kind: NumberKind): number => Number(kind[1]);

/**
 * `count` elements from the start of bytes, which hold as many. 64-bit integers become doubles, exact up to 2⁵³.
 * @param little whether the low byte comes first
 */
export function readNumbers(bytes: Uint8Array, kind: NumberKind, count: number, little: boolean): NumberValues {
  if (bytesOf(kind) === 1 && kind !== 'i1') return bytes.slice(0, count);
  const [Values, read] = readers[kind];
  const [values, view, size] = [new Values(count), new DataView(bytes.buffer, bytes.byteOffset), bytesOf(kind)];
  for (let i = 0; i < count; i++) values[i] = read(view, i * size, little);
  return values;
}
