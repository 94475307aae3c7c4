import { unzipSync } from 'fflate';
import { UserError } from '../errors.js';

/** An array from NumPy. */
export interface NpyArray {
  shape: number[];
  values: Uint8Array | Float32Array;
}

const magic = '\x93NUMPY';

/**
 * A .npy file: little-endian, in C order; bytes stay bytes, every other number becomes f32.
 * @throws UserError where it is another kind of file, or holds what no image set does
 */
export function parseNpy(bytes: Uint8Array, name: string): NpyArray {
  const latin = (from: number, to: number) => String.fromCharCode(...bytes.subarray(from, to));
  if (latin(0, 6) !== magic) throw new UserError(`${name} is not a .npy file`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const long = bytes[6] > 1;
  const start = long ? 12 : 10;
  const length = long ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = latin(start, start + length);
  const descr = /'descr': *'([^']*)'/.exec(header)?.[1];
  const shapeText = /'shape': *\(([^)]*)\)/.exec(header)?.[1];
  if (!descr || shapeText === undefined || /'fortran_order': *True/.test(header))
    throw new UserError(`${name}: only plain arrays in C order are read: save it by np.save(np.ascontiguousarray(x))`);
  const shape = shapeText.split(',').flatMap((text) => (text.trim() ? [Number(text)] : []));
  const count = shape.reduce((size, extent) => size * extent, 1);
  const reader = readers[descr];
  if (!reader) throw new UserError(`${name} holds ${descr}: save it as uint8, integers or floats`);
  const offset = start + length;
  if (bytes.length < offset + count * reader.bytes)
    throw new UserError(`${name} ends after ${bytes.length} bytes, ${offset + count * reader.bytes} are announced`);
  if (descr === '|u1') return { shape, values: bytes.slice(offset, offset + count) };
  const values = Float32Array.from({ length: count }, (_, i) => reader.read(view, offset + i * reader.bytes));
  return { shape, values };
}

const readers: Record<string, { bytes: number; read: (view: DataView, at: number) => number }> = {
  '|u1': { bytes: 1, read: (view, at) => view.getUint8(at) },
  '|i1': { bytes: 1, read: (view, at) => view.getInt8(at) },
  '<i2': { bytes: 2, read: (view, at) => view.getInt16(at, true) },
  '<i4': { bytes: 4, read: (view, at) => view.getInt32(at, true) },
  '<i8': { bytes: 8, read: (view, at) => Number(view.getBigInt64(at, true)) },
  '<f4': { bytes: 4, read: (view, at) => view.getFloat32(at, true) },
  '<f8': { bytes: 8, read: (view, at) => view.getFloat64(at, true) },
};

/** The arrays of a .npz file by name. */
export function parseNpz(bytes: Uint8Array, name: string): Map<string, NpyArray> {
  let files;
  try {
    files = unzipSync(bytes);
  } catch {
    throw new UserError(`${name} is not a .npz file, or is damaged`);
  }
  return new Map(
    Object.entries(files).map(([entry, content]) => [
      entry.replace(/\.npy$/, ''),
      parseNpy(content, `${name}, ${entry}`),
    ]),
  );
}
