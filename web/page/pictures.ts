/** Samples on a canvas: pictures as a mosaic, points in the colour of the noise that they came from. */
import type { Family } from '../protocol.js';
import { isDark } from './theme.js';

type Law = Pick<Family, 'kind' | 'shape' | 'range'>;

/** Draws samples of a family. @param origin where points started, which gives them their colours; without it one colour */
export function drawSamples(canvas: HTMLCanvasElement, family: Law, x: Float32Array, origin?: Float32Array): void {
  if (family.kind === 'points') drawPoints(canvas, x, family.range, origin);
  else drawMosaic(canvas, family, x);
}

/** Pictures [n, channels, height, width] in rows and columns, pixel by pixel; more than three channels show three. */
export function drawMosaic(
  canvas: HTMLCanvasElement,
  { shape: [channels, height, width], range: [black, white] }: Pick<Law, 'shape' | 'range'>,
  x: Float32Array,
  colour: (value: number) => readonly [number, number, number] = grey,
  columns = Math.ceil(Math.sqrt(x.length / (channels * height * width))),
): void {
  const size = channels * height * width;
  const count = x.length / size;
  const rows = Math.ceil(count / columns);
  canvas.width = columns * (width + 1) - 1;
  canvas.height = rows * (height + 1) - 1;
  canvas.classList.add('pixels');
  const context = canvas.getContext('2d')!;
  for (let n = 0; n < count; n++) {
    const image = context.createImageData(width, height);
    for (let i = 0; i < height * width; i++) {
      const value = (channel: number) =>
        (x[n * size + Math.min(channel, channels - 1) * height * width + i] - black) / (white - black);
      const [red, green, blue] =
        channels >= 3 ? [0, 1, 2].map((channel) => Math.round(255 * value(channel))) : colour(value(0));
      image.data.set([red, green, blue, 255], 4 * i);
    }
    context.putImageData(image, (n % columns) * (width + 1), Math.floor(n / columns) * (height + 1));
  }
}

/**
 * Values [channels, height, width] of a picture in a file: its middle in the form of the family, without colours where the
 * family has none.
 * @throws Error where the file is no picture that the browser reads, or the family makes none of 1 or 3 channels
 */
export async function readPicture(
  file: Blob,
  { shape: [channels, height, width], range: [black, white] }: Pick<Law, 'shape' | 'range'>,
): Promise<Float32Array> {
  if (channels !== 1 && channels !== 3) throw new Error('these networks do not make pictures of 1 or 3 channels');
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error('this file is no picture that the browser can read: take a PNG or a JPEG');
  });
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const [wide, high] = [bitmap.width * scale, bitmap.height * scale];
  const context = new OffscreenCanvas(width, height).getContext('2d')!;
  context.fillStyle = 'white';
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, (width - wide) / 2, (height - high) / 2, wide, high);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const level = (channel: number, i: number): number =>
    channels === 3 ? data[4 * i + channel] : luminance.reduce((sum, share, k) => sum + share * data[4 * i + k], 0);
  return Float32Array.from(
    { length: channels * height * width },
    (_, i) => black + ((white - black) * level(Math.floor(i / (height * width)), i % (height * width))) / 255,
  );
}

/** Shares of red, green and blue in grey (BT.709). */
const luminance = [0.2126, 0.7152, 0.0722];

const grey = (value: number): [number, number, number] => {
  const level = Math.round(255 * Math.min(1, Math.max(0, value)));
  return [level, level, level];
};

/** A blank square of the canvas' size on the page, sharp on every screen, from -1 to 1 of `extent` in both directions. */
export function plot(
  canvas: HTMLCanvasElement,
  extent: number,
): { context: CanvasRenderingContext2D; at: (x: number, y: number) => [number, number]; side: number; scale: number } {
  const scale = Math.min(2, devicePixelRatio || 1);
  const side = Math.max(60, Math.round((canvas.clientWidth || 200) * scale));
  canvas.width = canvas.height = side;
  const context = canvas.getContext('2d')!;
  const at = (x: number, y: number): [number, number] => [((x / extent + 1) / 2) * side, ((1 - y / extent) / 2) * side];
  return { context, at, side, scale };
}

/** Points [n, dim] by their first two coordinates. */
function drawPoints(
  canvas: HTMLCanvasElement,
  x: Float32Array,
  [, extent]: readonly [number, number],
  origin: Float32Array = x,
): void {
  const { context, at, side, scale } = plot(canvas, extent);
  const colours = hues();
  // As much ink however many there are.
  const size = Math.max(1.35 * scale, side / (3 * Math.sqrt(x.length)));
  context.globalAlpha = 0.75;
  for (let i = 0; i + 1 < x.length; i += 2) {
    context.fillStyle = colours[hueOf(origin[i], origin[i + 1])];
    const [left, top] = at(x[i], x[i + 1]);
    context.fillRect(left - size / 2, top - size / 2, size, size);
  }
}

const hueSteps = 48;
/** Which colour a place has: its direction from the centre. */
export const hueOf = (x: number, y: number): number =>
  Math.floor(((Math.atan2(y, x) / (2 * Math.PI) + 1) % 1) * hueSteps) % hueSteps;

/** Colours around the circle, equally light, for the page as it is. */
export const hues = (): string[] =>
  Array.from({ length: hueSteps }, (_, i) => `oklch(${isDark() ? 0.78 : 0.56} 0.15 ${(360 * i) / hueSteps + 20})`);
