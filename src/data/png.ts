import { UserError } from '../errors.js';
import { adler32, crc32 } from '../files/checksum.js';
import { inflate } from '../files/inflate.js';
import { kindOf } from '../files/kind.js';
import type { Picture } from './picture.js';

/**
 * PNG (W3C, third edition) as 8-bit grey or RGB, every colour type and depth, interlaced or not. Read here instead of by
 * fast-png, which writes our pictures: that one compares no Adler-32, ignores the transparent colour of grey and RGB
 * files and misreads interlaced rows of fewer than 8 bits.
 */

interface Header {
  width: number;
  height: number;
  depth: number;
  /** 1 where samples are indices into a palette. */
  indexed: boolean;
  /** Samples a pixel: 1 grey or index, 2 grey and alpha, 3 RGB, 4 RGBA. */
  samples: number;
  interlaced: boolean;
}

/** Samples a pixel and allowed depths, by colour type. */
const colourTypes: Record<number, { samples: number; depths: readonly number[] }> = {
  0: { samples: 1, depths: [1, 2, 4, 8, 16] },
  2: { samples: 3, depths: [8, 16] },
  3: { samples: 1, depths: [1, 2, 4, 8] },
  4: { samples: 2, depths: [8, 16] },
  6: { samples: 4, depths: [8, 16] },
};

const signature = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** x and y of the first pixel and the steps between pixels of each pass. */
const adam7 = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const;

/** Whether a file is PNG, by how it begins. */
export const isPng = (bytes: Uint8Array): boolean => signature.every((byte, i) => bytes[i] === byte);

/**
 * A PNG file as 8-bit grey or RGB: 16 bits are rounded, a palette is looked up, transparency is laid over white. Every
 * checksum of the format is compared.
 * @throws UserError naming the file that cannot be read, or that is damaged
 */
export function decodePng(bytes: Uint8Array, name: string): Picture {
  const fail = (why: string): never => {
    throw new UserError(`${name} cannot be read as PNG: ${why}`);
  };
  if (!isPng(bytes)) {
    const kind = kindOf(bytes.subarray(0, 512));
    return fail(kind === 'a PNG picture' || !kind ? 'its signature is wrong' : `it is ${kind}`);
  }
  const chunks = readChunks(bytes, fail);
  const header = readHeader(chunks, fail);
  const { width, height, depth, samples } = header;
  const passes = header.interlaced ? adam7 : ([[0, 0, 1, 1]] as const);
  const sizes = passes.map(([x, y, dx, dy]) => [Math.ceil((width - x) / dx), Math.ceil((height - y) / dy)] as const);
  const strideOf = (columns: number) => Math.ceil((columns * samples * depth) / 8);
  const expected = sizes.reduce((sum, [columns, rows]) => sum + (columns && rows && rows * (1 + strideOf(columns))), 0);
  const raw = inflateZlib(chunks.data, expected, fail);

  const values = depth === 16 ? new Uint16Array(width * height * samples) : new Uint8Array(width * height * samples);
  let at = 0;
  passes.forEach(([x0, y0, dx, dy], pass) => {
    const [columns, rows] = sizes[pass];
    if (!columns || !rows) return;
    const stride = strideOf(columns);
    let above: Uint8Array = new Uint8Array(stride);
    for (let row = 0; row < rows; row++, at += 1 + stride) {
      const line = raw.subarray(at + 1, at + 1 + stride);
      if (!unfilter(raw[at], line, above, Math.max(1, (samples * depth) >> 3))) fail(`it has no row filter ${raw[at]}`);
      above = line;
      for (let column = 0; column < columns; column++) {
        const to = ((y0 + row * dy) * width + x0 + column * dx) * samples;
        for (let k = 0; k < samples; k++) values[to + k] = sampleAt(line, column * samples + k, depth);
      }
    }
  });
  return compose(header, values, chunks, fail);
}

interface Chunks {
  header: Uint8Array;
  palette: Uint8Array | null;
  transparency: Uint8Array | null;
  data: Uint8Array;
}

function readChunks(bytes: Uint8Array, fail: (why: string) => never): Chunks {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found: Record<string, Uint8Array> = {};
  const data: Uint8Array[] = [];
  let type = '';
  for (let at = 8; type !== 'IEND';) {
    if (at + 12 > bytes.length) fail('it ends early; fetch it again');
    const length = view.getUint32(at);
    if (at + 12 + length > bytes.length) fail('it ends early or is damaged; fetch it again');
    type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const content = bytes.subarray(at + 8, at + 8 + length);
    if (crc32(bytes.subarray(at + 4, at + 8 + length)) !== view.getUint32(at + 8 + length))
      fail('a checksum is wrong, it is damaged; fetch it again');
    const known = ['IHDR', 'PLTE', 'IDAT', 'IEND'].includes(type);
    // A capital first letter says that the picture cannot be shown without the chunk.
    if (!known && !(bytes[at + 4] & 0x20)) fail(`it needs an extension of the format, ${JSON.stringify(type)}`);
    if (!found.IHDR && type !== 'IHDR') fail('it does not begin with its header');
    if (type === 'IDAT') data.push(content);
    else if (type in found && (known || type === 'tRNS')) fail(`it has ${type} twice`);
    else found[type] = content;
    at += 12 + length;
  }
  const length = data.reduce((sum, part) => sum + part.length, 0);
  const joined = new Uint8Array(length);
  let at = 0;
  for (const part of data) {
    joined.set(part, at);
    at += part.length;
  }
  return { header: found.IHDR, palette: found.PLTE ?? null, transparency: found.tRNS ?? null, data: joined };
}

function readHeader({ header }: Chunks, fail: (why: string) => never): Header {
  if (header.length !== 13) fail('its header has a wrong length');
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  const [depth, type, compression, filter, interlace] = header.subarray(8);
  const colour = colourTypes[type];
  if (!width || !height) fail(`it is ${height}x${width}`);
  if (!colour?.depths.includes(depth)) fail(`there is no colour type ${type} of ${depth} bits`);
  if (compression || filter || interlace > 1) fail('it is packed by a method that the format does not have');
  return { width, height, depth, indexed: type === 3, samples: colour.samples, interlaced: interlace === 1 };
}

function inflateZlib(data: Uint8Array, size: number, fail: (why: string) => never): Uint8Array {
  const [cmf, flags] = data;
  const zlib = data.length >= 6 && (cmf & 15) === 8 && (cmf * 256 + flags) % 31 === 0 && !(flags & 0x20);
  const raw = zlib ? inflate(data.subarray(2, -4), size) : null;
  const end = data.length - 4;
  if (!raw || adler32(raw) !== new DataView(data.buffer, data.byteOffset).getUint32(end))
    return fail('its pixels are damaged or do not fill it; fetch it again');
  return raw;
}

/** Undoes a row's filter in place. @param step bytes between a byte and the one it is predicted from */
function unfilter(filter: number, line: Uint8Array, above: Uint8Array, step: number): boolean {
  if (filter > 4) return false;
  for (let i = 0; filter && i < line.length; i++) {
    const left = i < step ? 0 : line[i - step];
    if (filter === 1) line[i] += left;
    else if (filter === 2) line[i] += above[i];
    else if (filter === 3) line[i] += (left + above[i]) >> 1;
    else {
      const corner = i < step ? 0 : above[i - step];
      const [a, b, c] = [above[i] - corner, left - corner, left + above[i] - 2 * corner].map(Math.abs);
      line[i] += a <= b && a <= c ? left : b <= c ? above[i] : corner;
    }
  }
  return true;
}

function sampleAt(line: Uint8Array, index: number, depth: number): number {
  if (depth === 8) return line[index];
  if (depth === 16) return (line[2 * index] << 8) | line[2 * index + 1];
  const bit = index * depth;
  return (line[bit >> 3] >> (8 - depth - (bit & 7))) & (2 ** depth - 1);
}

/** Samples as pixels of 8 bits over white. */
function compose(
  { width, height, depth, indexed, samples }: Header,
  values: Uint8Array | Uint16Array,
  { palette, transparency }: Chunks,
  fail: (why: string) => never,
): Picture {
  const channels = indexed || samples > 2 ? 3 : 1;
  const area = width * height;
  const pixels = new Uint8Array(area * channels);
  const most = 2 ** depth - 1;
  const over = (value: number, alpha: number) => Math.round(value * alpha + 255 * (1 - alpha));
  if (indexed) {
    if (!palette || palette.length % 3 || palette.length > 768) return fail('its palette is missing or damaged');
    for (let i = 0; i < area; i++) {
      const index = values[i];
      if (3 * index >= palette.length) fail(`pixel ${i} has colour ${index}, the palette ends before`);
      const alpha = (transparency?.[index] ?? 255) / 255;
      for (let k = 0; k < 3; k++) pixels[3 * i + k] = over(palette[3 * index + k], alpha);
    }
    return { width, height, channels, pixels };
  }
  const hasAlpha = samples === 2 || samples === 4;
  if (transparency && (hasAlpha || transparency.length !== 2 * samples))
    return fail('its transparent colour is damaged');
  // The one colour that is transparent, in samples of the file's own depth.
  const clear =
    transparency &&
    Array.from({ length: samples }, (_, k) => ((transparency[2 * k] << 8) | transparency[2 * k + 1]) & most);
  for (let i = 0; i < area; i++) {
    const from = i * samples;
    const seen = clear?.every((value, k) => values[from + k] === value) ? 0 : 1;
    const alpha = hasAlpha ? values[from + samples - 1] / most : seen;
    for (let k = 0; k < channels; k++) pixels[i * channels + k] = over((values[from + k] * 255) / most, alpha);
  }
  return { width, height, channels, pixels };
}
