import { UserError } from '../errors.js';
import type { NumberArray } from './format.js';
import { bytesOf, isNumberKind, readNumbers, type NumberKind } from './numbers.js';

export const isNpy = (bytes: Uint8Array): boolean =>
  bytes.length >= 10 && [...'\x93NUMPY'].every((character, i) => bytes[i] === character.charCodeAt(0));

/** What the header of a .npy file says. */
export interface NpyHeader {
  shape: number[];
  kind: NumberKind;
  /** Whether low bytes come first, and the last index runs fastest. */
  little: boolean;
  rowMajor: boolean;
  /** Where elements begin, and where they end. */
  start: number;
  end: number;
}

/** Bytes in which every header lies. */
export const mostHeader = 65536 + 12;

/**
 * The header of NumPy's .npy format, versions 1 to 3, of numbers of any size and byte order, in C or Fortran order.
 * @throws UserError where it is another kind of file, or holds what are no numbers
 */
export function npyHeader(bytes: Uint8Array, name: string): NpyHeader {
  if (!isNpy(bytes)) throw new UserError(`${name} is not a .npy file`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const damaged = (what: string) => new UserError(`${name}: ${what}: it is damaged; save or fetch it again`);
  if (bytes[6] < 1 || bytes[6] > 3) throw damaged(`its format version is ${bytes[6]}`);
  const start = bytes[6] > 1 ? 12 : 10;
  if (bytes.length < start) throw damaged('its header ends early');
  const length = bytes[6] > 1 ? view.getUint32(8, true) : view.getUint16(8, true);
  const offset = start + length;
  if (offset > bytes.length || length > 65536) throw damaged('its header ends early');
  const header = new TextDecoder().decode(bytes.subarray(start, offset));
  const fields =
    /^\{\s*'descr':\s*('[^']*'|\[.*\]),\s*'fortran_order':\s*(True|False),\s*'shape':\s*\(([\d\s,L]*)\),?\s*\}\s*$/.exec(
      header,
    );
  if (!fields) throw damaged('its header does not describe an array');
  const [, descr, order, extents] = fields;
  const kind = /^'[<>=|]?(.*)'$/.exec(descr)?.[1] ?? descr;
  if (kind.startsWith('O'))
    throw new UserError(`${name} holds Python objects, which are not opened: save it as an array of numbers`);
  if (!isNumberKind(kind))
    throw new UserError(`${name} holds ${descr.slice(0, 40)}: save it as integers or floats of up to 64 bits`);
  const shape = extents.split(',').flatMap((text) => (text.trim() ? [Number(text.replace('L', ''))] : []));
  const count = shape.reduce((size, extent) => size * extent, 1);
  const end = offset + count * bytesOf(kind);
  if (!Number.isSafeInteger(count)) throw damaged(`[${shape}] elements are announced, more than any file holds`);
  return { shape, kind, little: descr[1] !== '>', rowMajor: order !== 'True', start: offset, end };
}

/**
 * An array of that format.
 * @throws UserError as `npyHeader`; also where it ends early or goes on behind its data
 */
export function parseNpy(bytes: Uint8Array, name: string): NumberArray {
  const { shape, kind, little, rowMajor, start, end } = npyHeader(bytes, name);
  checkEnd(bytes.length, end, name);
  const array = npyElements(bytes.subarray(start), shape, kind, little, name);
  return rowMajor ? array : toRowMajor(array);
}

/** @throws UserError where a file is not as long as its header says */
export function checkEnd(size: number, end: number, name: string): void {
  if (size < end) throw new UserError(`${name} ends after ${size} bytes, ${end} are announced; save or fetch it again`);
  if (size > end)
    throw new UserError(`${name}: ${size - end} bytes lie behind its data: it is damaged; save or fetch it again`);
}

/** Elements of an array in row-major order. @throws UserError where one is beyond what a double holds */
export function npyElements(
  bytes: Uint8Array,
  shape: number[],
  kind: NumberKind,
  little: boolean,
  name: string,
): NumberArray {
  const count = shape.reduce((size, extent) => size * extent, 1);
  const values = readNumbers(bytes, kind, count, little);
  const lost = kind === 'i8' || kind === 'u8' ? values.findIndex((value) => !Number.isSafeInteger(value)) : -1;
  if (lost >= 0) throw new UserError(`${name}: element ${lost} is ${values[lost]}, beyond 2^53: save smaller numbers`);
  return { shape, values, ...(kind === 'b1' && { boolean: true as const }) };
}

/** The same array with its last index running fastest; Fortran's order has its first one so. */
function toRowMajor(array: NumberArray): NumberArray {
  const { shape, values } = array;
  if (shape.length < 2) return array;
  const ordered = values.slice();
  const index = shape.map(() => 0);
  for (let from = 0; from < values.length; from++) {
    let to = 0;
    for (let axis = 0; axis < shape.length; axis++) to = to * shape[axis] + index[axis];
    ordered[to] = values[from];
    for (let axis = 0; axis < shape.length && ++index[axis] === shape[axis]; axis++) index[axis] = 0;
  }
  return { ...array, values: ordered };
}
