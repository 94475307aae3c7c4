import { decode } from 'fast-png';
import { readFile } from 'node:fs/promises';
import { UserError } from '../errors.js';

/** Pixels row by row, channels together: 1 grey or 3 red, green, blue. */
export interface Picture {
  width: number;
  height: number;
  channels: 1 | 3;
  pixels: Uint8Array;
}

/**
 * A PNG file as 8-bit grey or RGB: 16 bits are rounded, a palette is looked up, transparency is laid over white.
 * @throws UserError naming the file that cannot be read
 */
export async function decodePng(path: string): Promise<Picture> {
  let png;
  try {
    png = decode(await readFile(path));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new UserError(`${path} cannot be read as PNG (${code ?? message})`);
  }
  const { width, height, palette, depth } = png;
  const level = (value: number) =>
    depth === 16 ? Math.round(value / 257) : depth < 8 ? value * (255 / (2 ** depth - 1)) : value;
  const data = depth < 8 ? unpackBits(png.data as Uint8Array, width, height, depth) : png.data;
  const stored = palette ? 1 : png.channels;
  const channels = palette || stored > 2 ? 3 : 1;
  const alphaAt = stored === 2 || stored === 4 ? stored - 1 : -1;
  const pixels = Uint8Array.from({ length: width * height * channels }, (_, i) => {
    const [pixel, channel] = [Math.floor(i / channels), i % channels];
    if (palette) {
      const entry = palette[data[pixel]];
      const alpha = (entry[3] ?? 255) / 255;
      return Math.round(entry[channel] * alpha + 255 * (1 - alpha));
    }
    const alpha = alphaAt < 0 ? 1 : level(data[pixel * stored + alphaAt]) / 255;
    return Math.round(level(data[pixel * stored + channel]) * alpha + 255 * (1 - alpha));
  });
  return { width, height, channels, pixels };
}

/** One value a pixel from rows of packed bits, each row starting at a byte. */
function unpackBits(packed: Uint8Array, width: number, height: number, depth: number): Uint8Array {
  const stride = Math.ceil((width * depth) / 8);
  return Uint8Array.from({ length: width * height }, (_, i) => {
    const bit = (i % width) * depth;
    const byte = packed[Math.floor(i / width) * stride + (bit >> 3)];
    return (byte >> (8 - depth - (bit & 7))) & (2 ** depth - 1);
  });
}
