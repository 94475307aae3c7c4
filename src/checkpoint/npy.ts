import type { Shape } from '../tensor/shape.js';

const magic = '\x93NUMPY\x01\x00';

/** An array of f32, bytes or i64 as a NumPy file: format 1.0, little-endian, row-major; the data start at a multiple of 64. */
export function encodeNpy(data: Float32Array | Uint8Array | BigInt64Array, shape: Shape): Uint8Array {
  const tuple = `(${shape.join(', ')}${shape.length === 1 ? ',' : ''})`;
  const kind = data instanceof Float32Array ? '<f4' : data instanceof Uint8Array ? '|u1' : '<i8';
  const dictionary = `{'descr': '${kind}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const dataStart = Math.ceil((magic.length + 2 + dictionary.length + 1) / 64) * 64;
  const file = new Uint8Array(dataStart + data.byteLength);
  const header = dictionary.padEnd(dataStart - magic.length - 3) + '\n';
  const latin = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));
  file.set(latin(magic));
  new DataView(file.buffer).setUint16(magic.length, header.length, true);
  file.set(latin(header), magic.length + 2);
  file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), dataStart);
  return file;
}
