import { UserError } from '../src/errors.js';
import type { Picture, PictureDecoder } from '../src/data/picture.js';
import { readPicture } from '../src/data/pictures.js';
import { readAll } from '../src/files/source.js';
import { fileSource } from './files.js';

/**
 * JPEG, WebP and what else sharp reads (GIF, TIFF, AVIF), as 8-bit grey or sRGB: turned as their EXIF says, colour profiles
 * applied, transparency over white, of several frames the first. sharp is an optional peer.
 * @throws UserError where it is not installed, or the file is damaged
 */
export const decodePicture: PictureDecoder = async (bytes, name) => {
  const sharp = await import('sharp').catch(() => {
    throw new UserError(`${name} is no PNG, and what reads others is not installed: npm install sharp`);
  });
  try {
    const image = sharp.default(bytes).autoOrient().flatten({ background: '#ffffff' });
    const { channels: stored } = await image.metadata();
    const space = stored && stored < 3 ? 'b-w' : 'srgb';
    const { data, info } = await image
      .toColourspace(space)
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    const { width, height, channels } = info;
    if (channels !== 1 && channels !== 3) throw new Error(`it has ${channels} channels`);
    return { width, height, channels, pixels: new Uint8Array(data.buffer, data.byteOffset, data.length) };
  } catch (error) {
    throw new UserError(`${name} cannot be read: ${(error as Error).message}; fetch it again or convert it to PNG`);
  }
};

/** A picture of any kind at `path`. @throws UserError where it is none, or cannot be read */
export async function pictureAt(path: string): Promise<Picture> {
  return readPicture(await readAll(await fileSource(path)), path, decodePicture);
}
