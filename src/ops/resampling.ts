import { UserError } from '../errors.js';
import { axisOf, sizeOf } from '../tensor/shape.js';
import { tensor, withGradient, type Tensor } from '../tensor/tensor.js';
import { expand, sum } from './broadcast.js';
import { gather, iota, reshape } from './movement.js';
import type { Extents } from './patches.js';
import { add, mul } from './pointwise.js';

/** For each output along an axis the inputs that it is a sum of, with their weights. */
export type AxisMap = readonly (readonly (readonly [input: number, weight: number])[])[];

/** A linear map along one axis that is zero nearly everywhere, such as an interpolation; its gradient is its transpose. */
export function mapAxis(x: Tensor, axis: number, map: AxisMap): Tensor {
  const along = axisOf(axis, x.shape.length);
  const extent = x.shape[along];
  const [outer, inner] = [sizeOf(x.shape.slice(0, along)), sizeOf(x.shape.slice(along + 1))];
  const longest = Math.max(...map.map((terms) => terms.length));
  // Short sums repeat their own input with weight 0.
  const filled = map.flatMap((terms) => Array.from({ length: longest }, (_, i) => terms[i] ?? [terms[0]?.[0] ?? 0, 0]));
  const inputs = tensor(
    Uint32Array.from(filled, ([input]) => input),
    [1, filled.length],
  );
  const weights = filled.map(([, weight]) => weight);
  const rows = add(mul(iota([outer, 1]), extent), inputs);
  const taken = reshape(gather(reshape(x, [outer * extent, inner]), rows), [outer, map.length, longest, inner]);
  const scaled = weights.every((w) => w === 1) ? taken : mul(taken, tensor(weights, [map.length, longest, 1]));
  const shape = x.shape.map((size, i) => (i === along ? map.length : size));
  return withGradient(reshape(sum(scaled, [2]), shape), [x], (g) => [mapAxis(g, along, transposeMap(map, extent))]);
}

function transposeMap(map: AxisMap, inputs: number): AxisMap {
  const columns = Array.from({ length: inputs }, (): [number, number][] => []);
  map.forEach((terms, output) => terms.forEach(([input, weight]) => columns[input].push([output, weight])));
  return columns;
}

/** How a pixel of another grid is made from its neighbours. */
export type Interpolation = 'nearest' | 'bilinear' | 'bicubic';

/**
 * Images [N, H, W, C] at another size [h, w], as torch.nn.functional.interpolate with `size`: without antialiasing,
 * `nearest` from pixel ⌊i H / h⌋; `bicubic` by Keys' kernel (1981) with a = -0.75.
 * @param alignCorners whether the middles of the corner pixels stay in place, rather than the corners of the image
 * @throws UserError when a size is no positive whole number
 */
export function resize(
  x: Tensor,
  [height, width]: Extents,
  mode: Interpolation = 'bilinear',
  { alignCorners = false }: { alignCorners?: boolean } = {},
): Tensor {
  if (x.shape.length !== 4 || ![height, width].every((size) => Number.isInteger(size) && size > 0))
    throw new UserError(`resize of [${x.shape}] to ${height}x${width}: images are [n, h, w, c] and sizes from 1 on`);
  const [, h, w] = x.shape;
  const [down, across] = [height / h, width / w];
  if (mode === 'nearest' && Number.isInteger(down) && Number.isInteger(across)) return repeatPixels(x, down, across);
  const along = (y: Tensor, axis: 1 | 2, size: number) =>
    y.shape[axis] === size ? y : mapAxis(y, axis, interpolationMap(y.shape[axis], size, mode, alignCorners));
  return along(along(x, 1, height), 2, width);
}

/** Every pixel repeated to `factor` x `factor`: [N, H, W, C] to [N, factor H, factor W, C]. */
export const upsampleNearest = (x: Tensor, factor = 2): Tensor => repeatPixels(x, factor, factor);

function repeatPixels(x: Tensor, down: number, across: number): Tensor {
  const [n, h, w, c] = x.shape;
  const each = expand(reshape(x, [n, h, 1, w, 1, c]), [n, h, down, w, across, c]);
  return reshape(each, [n, down * h, across * w, c]);
}

function interpolationMap(inputs: number, outputs: number, mode: Interpolation, alignCorners: boolean): AxisMap {
  return Array.from({ length: outputs }, (_, output) => {
    if (mode === 'nearest') return [[Math.floor((output * inputs) / outputs), 1]];
    const corners = outputs > 1 ? (output * (inputs - 1)) / (outputs - 1) : 0;
    const place = alignCorners ? corners : ((output + 0.5) * inputs) / outputs - 0.5;
    if (mode === 'bicubic') {
      const first = Math.floor(place) - 1;
      return mergedTerms(
        [0, 1, 2, 3].map((i) => [first + i, keys(place - first - i)]),
        inputs,
      );
    }
    const inside = Math.max(0, place);
    const first = Math.floor(inside);
    return mergedTerms(
      [
        [first, 1 - (inside - first)],
        [first + 1, inside - first],
      ],
      inputs,
    );
  });
}

/** Places beyond the image are its outermost pixels. */
function mergedTerms(terms: readonly (readonly [number, number])[], inputs: number): [number, number][] {
  const merged = new Map<number, number>();
  for (const [place, weight] of terms) {
    const input = Math.min(inputs - 1, Math.max(0, place));
    if (weight) merged.set(input, (merged.get(input) ?? 0) + weight);
  }
  return [...merged];
}

/** Keys' cubic convolution kernel. */
function keys(distance: number): number {
  const [a, d] = [-0.75, Math.abs(distance)];
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}
