import { UserError } from '../errors.js';
import { crc32 } from './checksum.js';
import { inflate } from './inflate.js';
import type { Source } from './source.js';

/** A file in a zip archive. */
export interface ZipEntry {
  /** Bytes of its content. */
  size: number;
  /** Whether its content lies in the archive as it is, so that parts of it can be read. */
  stored: boolean;
  /** Where its data begin in the archive. @throws UserError where its own header is damaged */
  place(): Promise<number>;
  /** Its content, unpacked, compared with its checksum. @throws UserError where it is damaged */
  read(): Promise<Uint8Array>;
}

const endSignature = 0x06054b50;
const end64Signature = 0x06064b50;
const locator64Signature = 0x07064b50;
const directorySignature = 0x02014b50;
const localSignature = 0x04034b50;

/** Whether bytes begin as a zip archive does. */
export const isZip = (bytes: Uint8Array): boolean =>
  bytes[0] === 0x50 && bytes[1] === 0x4b && ((bytes[2] === 3 && bytes[3] === 4) || (bytes[2] === 5 && bytes[3] === 6));

/**
 * The directory of a zip archive (PKWARE APPNOTE 6.3): stored and deflated entries, zip64. The content of an entry is
 * read when asked for; folders are left out.
 * @throws UserError where the directory is missing, damaged, or holds what is not supported
 */
export async function openZip(source: Source): Promise<Map<string, ZipEntry>> {
  const { name, size } = source;
  const damaged = (what: string) =>
    new UserError(`${name}: ${what}: the zip archive is damaged or cut off; fetch it again`);
  const { count, offset, length } = await findDirectory(source, damaged);
  if (offset + length > size) throw damaged('its directory passes the end');
  const bytes = await source.read(offset, length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > bytes.length || view.getUint32(at, true) !== directorySignature) throw damaged('its directory ends');
    const [flags, method] = [view.getUint16(at + 8, true), view.getUint16(at + 10, true)];
    const crc = view.getUint32(at + 16, true);
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((field) => view.getUint16(at + field, true));
    const next = at + 46 + nameLength + extraLength + commentLength;
    if (next > bytes.length) throw damaged('its directory ends');
    const path = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    const extra = new DataView(bytes.buffer, bytes.byteOffset + at + 46 + nameLength, extraLength);
    const sizes = readSizes(view, at, extra);
    at = next;
    if (path.endsWith('/')) continue;
    const where = `${name}, ${path.slice(0, 120)}`;
    if (flags & 1) throw new UserError(`${where} is encrypted: unpack the archive first`);
    if (method !== 0 && method !== 8)
      throw new UserError(`${where} is packed by method ${method}: pack it anew, stored or deflated`);
    if (sizes.packed > size || sizes.offset + 30 > size || (method === 0 && sizes.packed !== sizes.whole))
      throw damaged(`${path.slice(0, 120)} passes the end`);
    if (entries.has(path)) throw damaged(`it holds ${path.slice(0, 120)} twice`);
    entries.set(path, entryOf(source, where, method === 0, crc, sizes));
  }
  if (at !== bytes.length) throw damaged('its directory is longer than its entries');
  return entries;
}

interface Sizes {
  packed: number;
  whole: number;
  offset: number;
}

/** Sizes and offset of a directory entry; those that are too large for it stand in its extra field 1, in this order. */
function readSizes(view: DataView, at: number, extra: DataView): Sizes {
  const fields = [view.getUint32(at + 24, true), view.getUint32(at + 20, true), view.getUint32(at + 42, true)];
  for (let place = 0; place + 4 <= extra.byteLength; place += 4 + extra.getUint16(place + 2, true)) {
    if (extra.getUint16(place, true) !== 1) continue;
    let value = place + 4;
    for (const [i, field] of fields.entries()) {
      if (field !== 0xffffffff || value + 8 > extra.byteLength) continue;
      fields[i] = Number(extra.getBigUint64(value, true));
      value += 8;
    }
    break;
  }
  return { whole: fields[0], packed: fields[1], offset: fields[2] };
}

function entryOf(source: Source, where: string, stored: boolean, crc: number, sizes: Sizes): ZipEntry {
  const { whole, packed, offset } = sizes;
  const damaged = () => new UserError(`${where}: its content is damaged; fetch the archive again`);
  const place = async () => {
    const header = await source.read(offset, 30);
    const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
    if (header.length < 30 || view.getUint32(0, true) !== localSignature) throw damaged();
    const start = offset + 30 + view.getUint16(26, true) + view.getUint16(28, true);
    if (start + packed > source.size) throw damaged();
    return start;
  };
  const read = async () => {
    const data = await source.read(await place(), packed);
    const content = stored ? data : inflate(data, whole);
    if (!content || content.length !== whole || crc32(content) !== crc) throw damaged();
    return content;
  };
  return { size: whole, stored, place, read };
}

async function findDirectory(
  source: Source,
  damaged: (what: string) => UserError,
): Promise<{ count: number; offset: number; length: number }> {
  const { size } = source;
  // The end record of 22 bytes, a comment of at most 65535, and before it the 20 of zip64's locator.
  const from = Math.max(0, size - 22 - 65535 - 20);
  const tail = await source.read(from, size - from);
  const view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength);
  let at = tail.length - 22;
  while (
    at >= 0 &&
    !(view.getUint32(at, true) === endSignature && at + 22 + view.getUint16(at + 20, true) === tail.length)
  )
    at--;
  if (at < 0) throw damaged('it has no directory');
  if (at >= 20 && view.getUint32(at - 20, true) === locator64Signature) {
    const place = Number(view.getBigUint64(at - 12, true));
    const record = place + 56 <= size ? await source.read(place, 56) : new Uint8Array(0);
    const wide = new DataView(record.buffer, record.byteOffset, record.byteLength);
    if (record.length < 56 || wide.getUint32(0, true) !== end64Signature) throw damaged('it has no directory');
    const [count, length, offset] = [32, 40, 48].map((field) => Number(wide.getBigUint64(field, true)));
    return { count, offset, length };
  }
  return {
    count: view.getUint16(at + 10, true),
    length: view.getUint32(at + 12, true),
    offset: view.getUint32(at + 16, true),
  };
}
