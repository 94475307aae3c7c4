import * as z from 'zod';
import { pad, slice } from '../ops/movement.js';
import type { Tensor } from '../tensor/tensor.js';

/** No size of a backbone is beyond these: what is larger is a mistake, and no device holds it. */
export const extent = z
  .number()
  .int()
  .positive()
  .max(2 ** 24);
/** How often something is repeated: layers, blocks, levels. */
export const repetition = z.number().int().positive().max(1000);

/** Sides of a picture: one number for a square, or height and width. */
export const sides = z.union([extent, z.tuple([extent, extent])]);

/** Height and width. */
export const sidesOf = (size: z.infer<typeof sides>): [number, number] =>
  typeof size === 'number' ? [size, size] : size;

/** Sides as a description states them. */
export const statedSides = (height: number, width: number): z.infer<typeof sides> =>
  height === width ? height : [height, width];

/** Each side raised to the next multiple. */
export const raised = (size: readonly [number, number], multiple: number): [number, number] => [
  Math.ceil(size[0] / multiple) * multiple,
  Math.ceil(size[1] / multiple) * multiple,
];

/** Images with zeros below and to the right of them. @param axis of the rows; columns follow */
export function padSides(images: Tensor, axis: number, [height, width]: readonly [number, number]): Tensor {
  const shape = images.shape.map((size, i) => (i === axis ? height : i === axis + 1 ? width : size));
  return pad(
    images,
    shape.map(() => 0),
    shape,
  );
}

/** What lies within the first rows and columns: undoes `padSides`. */
export const cropSides = (images: Tensor, axis: number, [height, width]: readonly [number, number]): Tensor =>
  slice(slice(images, axis, 0, height), axis + 1, 0, width);

/** Tokens that a transformer has at most by default: a step on a picture then takes no more memory than on a small one. */
const mostTokens = 256;

/**
 * The patch of a transformer over pictures of that size, unless another is asked for: 4 where it tiles them, else the
 * smallest that leaves few tokens, or one not twice as large that tiles them.
 */
export function defaultPatch(height: number, width: number): number {
  const tokens = (patch: number) => Math.ceil(height / patch) * Math.ceil(width / patch);
  const tiles = (patch: number) => height % patch === 0 && width % patch === 0;
  if (tiles(4) && tokens(4) <= mostTokens) return 4;
  let least = 1;
  while (tokens(least) > mostTokens) least++;
  for (let patch = least; patch < 2 * least; patch++) if (tiles(patch)) return patch;
  return least;
}
