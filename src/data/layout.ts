import { UserError } from '../errors.js';
import type { NumberArray, NumberValues } from './format.js';

/** An array of images with channels first, and what had to be assumed or done to get it. */
export interface LaidOut {
  array: NumberArray;
  notes: string[];
}

/** Images of so many rows and columns that lie column by column, row by row: [..., columns, rows] to [..., rows, columns]. */
export function swapSides<Values extends NumberValues>(values: Values, rows: number, columns: number): Values {
  const moved = values.slice() as Values;
  const area = rows * columns;
  for (let image = 0; image < values.length; image += area)
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < columns; x++) moved[image + y * columns + x] = values[image + x * rows + y];
  return moved;
}

const isColour = (extent: number) => extent === 1 || extent === 3;

/**
 * Images as [n, c, h, w], from [n, h, w], [n, c, h, w] or [n, h, w, c]: channels are the axis of extent 1 or 3, or else
 * the shorter of the two. Bytes of four channels, the last of an [n, h, w, 4], are RGBA and are laid over white.
 * @throws UserError where the array is of another rank
 */
export function channelsFirst(array: NumberArray, name: string): LaidOut {
  const { shape, values } = array;
  const [count, ...rest] = shape;
  if (rest.length === 2) return { array: { ...array, shape: [count, 1, ...rest] }, notes: [] };
  if (rest.length !== 3)
    throw new UserError(
      `${name} holds an array [${shape}]: images are [n, h, w], [n, h, w, c] or [n, c, h, w], points [n, d]`,
    );
  const [first, , last] = rest;
  const notes: string[] = [];
  if (isColour(first) && isColour(last) && first !== 1)
    notes.push(`[${shape}] is read as [n, c, h, w], though it could be [n, h, w, c]`);
  const rgba = last === 4 && first !== 4 && values instanceof Uint8Array && !array.boolean;
  if (isColour(first) || (!isColour(last) && !rgba && first <= last)) return { array, notes };
  const [height, width, channels] = rest;
  const area = height * width;
  const kept = rgba ? 3 : channels;
  const moved = values.slice(0, count * kept * area);
  for (let i = 0; i < count; i++)
    for (let at = 0; at < area; at++) {
      const from = (i * area + at) * channels;
      const alpha = rgba ? values[from + 3] / 255 : 1;
      for (let channel = 0; channel < kept; channel++) {
        const value = values[from + channel];
        moved[(i * kept + channel) * area + at] = rgba ? Math.round(value * alpha + 255 * (1 - alpha)) : value;
      }
    }
  if (rgba) notes.push('four channels are read as RGBA and laid over white');
  return { array: { ...array, shape: [count, kept, height, width], values: moved }, notes };
}
