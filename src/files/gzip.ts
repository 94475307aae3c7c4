import { Gunzip } from 'fflate';
import { UserError } from '../errors.js';
import { crc32 } from './checksum.js';

/** Bytes given to the decoder at a time, so that data that swell are noticed before they fill the memory. */
const piece = 65536;

/** Most bytes that a file is unpacked to where nothing says how many there should be. */
const most = 2 ** 32 - 2 ** 16;

/** Whether bytes begin as gzip data do. */
export const isGzip = (bytes: Uint8Array): boolean => bytes[0] === 0x1f && bytes[1] === 0x8b && bytes[2] === 8;

/** What the first bytes of a gzipped file unpack to, as far as they go, unchecked; empty where they are damaged. */
export function gunzipStart(bytes: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [];
  try {
    new Gunzip((part) => void parts.push(part)).push(bytes.subarray(0, piece));
  } catch {
    // What came out before is returned.
  }
  return parts[0] ?? new Uint8Array(0);
}

/**
 * Undoes gzip (RFC 1952): members one after another, zeros behind the last one; the checksum and length of each are
 * compared, which the decoder itself does not do.
 * @param announced how many bytes there should be in all, by the first 64; unpacking stops as soon as there are more
 * @throws UserError where the data are broken, cut off or followed by something else
 */
export function gunzip(bytes: Uint8Array, name: string, announced?: (head: Uint8Array) => number): Uint8Array {
  const broken = () => new UserError(`${name}: its gzip data are damaged or cut off; fetch the file again`);
  const parts: Uint8Array[] = [];
  let [length, limit] = [0, Infinity];
  let member = { crc: 0, length: 0 };
  const stream = new Gunzip((part) => {
    if (!part.length) return;
    parts.push(part);
    length += part.length;
    member = { crc: crc32(part, member.crc), length: member.length + part.length };
  });
  const closes = (end: number) => {
    if (end < 8) return false;
    const trailer = new DataView(bytes.buffer, bytes.byteOffset + end - 8, 8);
    return trailer.getUint32(0, true) === member.crc && trailer.getUint32(4, true) === member.length >>> 0;
  };
  stream.onmember = (offset) => {
    if (!closes(offset)) throw broken();
    member = { crc: 0, length: 0 };
  };
  try {
    for (let at = 0; at < bytes.length; at += piece) {
      stream.push(bytes.subarray(at, at + piece), at + piece >= bytes.length);
      if (announced && limit === Infinity && length >= 64) limit = announced(join(parts, length));
      if (length > limit) return join(parts, length);
      if (length > most) throw new UserError(`${name}: unpacks to more than ${most} bytes; give a smaller file`);
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    // What follows the last member is no member: the check below says whether it is padding.
  }
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  // The trailer itself may end in zeros.
  const ends = Array.from({ length: 9 }, (_, zeros) => end + zeros).filter((at) => at <= bytes.length);
  if (!ends.some(closes)) throw broken();
  return join(parts, length);
}

function join(parts: readonly Uint8Array[], length: number): Uint8Array {
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
