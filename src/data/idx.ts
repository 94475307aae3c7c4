import { UserError } from '../errors.js';

/** The IDX format of MNIST and its kin: big-endian magic 0x0000'08'rank (08: bytes), extents, bytes; maybe gzipped. */

/** Images in row-major order, a byte a pixel. */
export interface IdxImages {
  count: number;
  height: number;
  width: number;
  values: Uint8Array;
}

/** @throws UserError if the bytes are not an IDX file of images, whole and without rest */
export async function parseIdxImages(bytes: Uint8Array, name: string): Promise<IdxImages> {
  const { extents, values } = await parseIdx(bytes, name, 3);
  const [count, height, width] = extents;
  if (values.length === 0)
    throw new UserError(`${name}: holds ${count} images of ${height}x${width}; give a file with images`);
  return { count, height, width, values };
}

/** @throws UserError if the bytes are not an IDX file of labels, whole and without rest */
export async function parseIdxLabels(bytes: Uint8Array, name: string): Promise<Uint32Array> {
  return Uint32Array.from((await parseIdx(bytes, name, 1)).values);
}

const contents: Record<number, string> = { 1: 'labels', 3: 'images' };

async function parseIdx(
  bytes: Uint8Array,
  name: string,
  rank: number,
): Promise<{ extents: number[]; values: Uint8Array }> {
  const headerBytes = 4 + 4 * rank;
  const file = await unpack(bytes, name, headerBytes, (header) => headerBytes + sizeOf(readHeader(header, name, rank)));
  const extents = readHeader(file, name, rank);
  const expected = headerBytes + sizeOf(extents);
  if (file.length !== expected) {
    const found = file.length > expected ? 'more' : `only ${file.length}`;
    throw new UserError(
      `${name}: ${contents[rank]} of ${extents.join('x')} take ${expected} bytes, the file has ${found}; ${mend}`,
    );
  }
  return { extents, values: file.subarray(headerBytes) };
}

const mend = 'it is damaged or no such file, fetch it again';

function readHeader(bytes: Uint8Array, name: string, rank: number): number[] {
  const need = (length: number) => {
    if (bytes.length >= length) return;
    throw new UserError(`${name}: ${bytes.length} bytes are too few for an IDX file; ${mend}`);
  };
  need(4);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = view.getUint32(0);
  if (magic !== 0x800 + rank) {
    const other = contents[magic - 0x800];
    const found = other ? `it holds ${other}` : `its magic number is ${magic}`;
    throw new UserError(
      `${name}: not an IDX file of ${contents[rank]} (${found}); give a file with magic number ${0x800 + rank}`,
    );
  }
  need(4 + 4 * rank);
  return Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i));
}

function sizeOf(extents: number[]): number {
  return extents.reduce((product, extent) => product * extent, 1);
}

/** Undoes gzip where there is any, and stops as soon as more comes out than the header announces. */
async function unpack(
  bytes: Uint8Array,
  name: string,
  headerBytes: number,
  announced: (header: Uint8Array) => number,
): Promise<Uint8Array> {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const parts: Uint8Array[] = [];
  let length = 0;
  let limit = Infinity;
  try {
    // A copy, because the stream wants an ArrayBuffer that nobody shares.
    const stream = new Blob([Uint8Array.from(bytes)]).stream().pipeThrough(new DecompressionStream('gzip'));
    for await (const part of stream as unknown as AsyncIterable<Uint8Array>) {
      parts.push(part);
      length += part.length;
      if (limit === Infinity && length >= headerBytes) limit = announced(join(parts, length));
      if (length > limit) break;
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${name}: the gzip data are broken or cut off; fetch the file again`);
  }
  return join(parts, length);
}

function join(parts: Uint8Array[], length: number): Uint8Array {
  const whole = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
