import { filterName, resample, type Sides } from './resample.js';

/** Pixels row by row, channels together: 1 grey or 3 red, green, blue. */
export interface Picture {
  width: number;
  height: number;
  channels: 1 | 3;
  pixels: Uint8Array;
}

/**
 * Reads a picture of another kind than PNG, which semiflow reads itself: the seam for what differs between Node (sharp) and
 * a page (createImageBitmap). Transparency is laid over white, a rotation that the file asks for is made.
 * @throws UserError in one line, naming the file and the mend
 */
export type PictureDecoder = (bytes: Uint8Array, name: string) => Promise<Picture>;

/** A picture of another size: its middle of that form, resampled; it stays as it is where it has the size. */
export function cover(picture: Picture, [height, width]: Sides): Picture {
  if (picture.height === height && picture.width === width) return picture;
  const { channels } = picture;
  const values = resample(picture.pixels, 1, [picture.height, picture.width], channels, [height, width]);
  return { width, height, channels, pixels: toBytes(values) };
}

/** Whole numbers from 0 to 255. */
export const toBytes = (values: Float32Array): Uint8Array =>
  Uint8Array.from(values, (value) => Math.min(255, Math.max(0, Math.round(value))));

/** The line that says how pictures came to their size. @param from which sizes */
export const resizing = (from: string, [height, width]: Sides): string =>
  `resized ${from} to ${height}x${width}: the middle of that form, by ${filterName}`;
