import { crc32, deflateSync } from 'node:zlib';
import type { Random } from '../src/tensor/philox.js';

/** Writes PNG files of every kind from the specification alone, with the pixels that they stand for. */

export interface PngKind {
  /** The format's colour type. */
  type: 0 | 2 | 3 | 4 | 6;
  depth: 1 | 2 | 4 | 8 | 16;
  interlaced: boolean;
  /** With a transparent colour, or transparent entries of the palette. */
  clear: boolean;
  width: number;
  height: number;
}

export const pngSignature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);

export function chunk(type: string, data: Uint8Array = new Uint8Array(0)): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

const depthsOf = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] } as const;

/** All colour types, depths and interlacings, transparent or not, of sides that no pass of the interlacing divides. */
export function* pngKinds(): Generator<PngKind> {
  for (const [width, height] of [
    [11, 13],
    [1, 1],
    [3, 2],
  ])
    for (const type of [0, 2, 3, 4, 6] as const)
      for (const depth of depthsOf[type])
        for (const interlaced of [false, true])
          for (const clear of type < 4 ? [false, true] : [false])
            yield { type, depth, interlaced, clear, width, height };
}

const passes = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
];

export function makePng({ type, depth, interlaced, clear, width, height }: PngKind, draw: Random) {
  const samples = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }[type];
  const levels = 2 ** depth;
  const values = Array.from({ length: width * height * samples }, () => draw.below(levels));
  const at = (x: number, y: number, k: number) => values[(y * width + x) * samples + k];
  const step = Math.max(1, (samples * depth) / 8);
  const data: number[] = [];
  for (const [x0, y0, dx, dy] of interlaced ? passes : [[0, 0, 1, 1]]) {
    let above: number[] = [];
    for (let y = y0; y < height; y += dy) {
      if (x0 >= width) break;
      let bits = '';
      for (let x = x0; x < width; x += dx)
        for (let k = 0; k < samples; k++) bits += at(x, y, k).toString(2).padStart(depth, '0');
      const line = bits.match(/.{1,8}/g)!.map((byte) => parseInt(byte.padEnd(8, '0'), 2));
      const filter = draw.below(5);
      data.push(filter, ...line.map((byte, i) => filtered(filter, byte, line[i - step], above[i], above[i - step])));
      above = line;
    }
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([depth, type, 0, 0, interlaced ? 1 : 0], 8);
  const palette = Array.from({ length: 3 * Math.min(levels, 256) }, () => draw.below(256));
  const alphas = Array.from({ length: Math.max(1, palette.length / 6) }, () => draw.below(256));
  const key = Array.from({ length: samples }, (_, k) => at(0, 0, k));
  const words = Buffer.alloc(2 * samples);
  key.forEach((value, k) => words.writeUInt16BE(value, 2 * k));
  const packed = deflateSync(Buffer.from(data));
  const half = packed.length >> 1;
  const bytes = Buffer.concat([
    pngSignature,
    chunk('IHDR', header),
    chunk('tEXt', Buffer.from('Software\0none')),
    ...(type === 3 ? [chunk('PLTE', Buffer.from(palette))] : []),
    ...(clear ? [chunk('tRNS', type === 3 ? Buffer.from(alphas) : words)] : []),
    chunk('IDAT', packed.subarray(0, half)),
    chunk('IDAT', packed.subarray(half)),
    chunk('IEND'),
  ]);
  const channels = type === 0 || type === 4 ? 1 : 3;
  const pixels: number[] = [];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const own = Array.from({ length: samples }, (_, k) => at(x, y, k));
      let alpha = 1;
      let colour = own.slice(0, channels).map((value) => (value * 255) / (levels - 1));
      if (type === 3) {
        alpha = clear ? (alphas[own[0]] ?? 255) / 255 : 1;
        colour = palette.slice(3 * own[0], 3 * own[0] + 3);
      } else if (type >= 4) alpha = own[samples - 1] / (levels - 1);
      else if (clear && own.every((value, k) => value === key[k])) alpha = 0;
      pixels.push(...colour.map((value) => Math.round(value * alpha + 255 * (1 - alpha))));
    }
  const name = `type ${type}, ${depth} bits, ${height}x${width}${interlaced ? ', interlaced' : ''}${clear ? ', clear' : ''}`;
  return { name, bytes, picture: { width, height, channels, pixels: Uint8Array.from(pixels) } };
}

function filtered(filter: number, byte: number, left = 0, above = 0, corner = 0): number {
  const estimate = left + above - corner;
  const nearest = [left, above, corner].reduce((best, value) =>
    Math.abs(estimate - value) < Math.abs(estimate - best) ? value : best,
  );
  return (byte - [0, left, above, (left + above) >> 1, nearest][filter]) & 255;
}
