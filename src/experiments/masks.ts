import { UserError } from '../errors.js';
import { random } from '../tensor/philox.js';
import { hostStreams } from '../tensor/streams.js';

export const maskNames = ['centre', 'half', 'strokes'] as const;
export type MaskName = (typeof maskNames)[number];

/** What an image hides: 1 where it is to be filled, 0 where it is known. Of one channel, row by row. */
export interface Mask {
  name: string;
  height: number;
  width: number;
  hidden: Uint8Array;
}

/**
 * A named mask: `centre`, a box of half the image's sides; `half`, the right half; `strokes`, some thick random strokes.
 * @param seed of the strokes
 * @throws UserError where the images are so small that it hides nothing or everything
 */
export function namedMask(name: MaskName, height: number, width: number, seed: number): Mask {
  const hidden = new Uint8Array(height * width);
  const paint = (inside: (y: number, x: number) => boolean) =>
    hidden.forEach((value, i) => {
      hidden[i] = value || Number(inside(Math.floor(i / width), i % width));
    });
  if (name === 'centre')
    paint((y, x) => Math.abs(y + 0.5 - height / 2) < height / 4 && Math.abs(x + 0.5 - width / 2) < width / 4);
  else if (name === 'half') paint((_, x) => x >= width / 2);
  else for (const stroke of strokes(height, width, seed)) paint(stroke);
  return checkedMask({ name, height, width, hidden });
}

/** A mask as it is. @throws UserError where it hides nothing or everything, so that there is no edge and nothing to compare */
export function checkedMask(mask: Mask): Mask {
  const area = mask.hidden.reduce((sum, value) => sum + value, 0);
  if (!area || area === mask.hidden.length)
    throw new UserError(
      `the mask ${mask.name} hides ${area ? 'everything' : 'nothing'} of ${mask.height}x${mask.width} pixels: choose another, white where to fill`,
      'mask',
    );
  return mask;
}

/** Thick segments between random points. */
function strokes(height: number, width: number, seed: number): ((y: number, x: number) => boolean)[] {
  const draw = random(seed, 0, hostStreams.maskStrokes);
  const radius = Math.max(0.7, Math.min(height, width) / 16);
  const end = () => [draw.uniform() * height, draw.uniform() * width];
  return Array.from({ length: 4 }, () => {
    const [[y0, x0], [y1, x1]] = [end(), end()];
    const [dy, dx] = [y1 - y0, x1 - x0];
    return (y, x) => {
      const along = ((y + 0.5 - y0) * dy + (x + 0.5 - x0) * dx) / (dy * dy + dx * dx);
      const nearest = Math.min(1, Math.max(0, along));
      return Math.hypot(y + 0.5 - y0 - nearest * dy, x + 0.5 - x0 - nearest * dx) <= radius;
    };
  });
}

/** Pairs of neighbours of which one is hidden and the other known, as flat indices of one channel. */
export function boundaryOf({ height, width, hidden }: Mask): [number, number][] {
  const pairs: [number, number][] = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      if (x + 1 < width && hidden[at] !== hidden[at + 1]) pairs.push([at, at + 1]);
      if (y + 1 < height && hidden[at] !== hidden[at + width]) pairs.push([at, at + width]);
    }
  }
  return pairs;
}
