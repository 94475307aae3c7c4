import { UserError } from '../errors.js';
import { tensor, type Tensor } from '../tensor/tensor.js';
import { concat, reshape, slice, split } from './movement.js';
import { add, mul, sub } from './pointwise.js';

/** Which channels are turned together: i and i + d / 2 (GPT-NeoX, LLaMA in transformers), or 2 i and 2 i + 1 (RoFormer). */
export type RotaryLayout = 'halves' | 'interleaved';

/** Cosines and sines of angles [tokens, d / 2]. */
export interface Rotation {
  cosines: Tensor;
  sines: Tensor;
}

/**
 * Angles position · base^(-2 i / width) for i < width / 2 (Su et al., 2021), for channels of `width` of each head.
 * @param positions of the tokens; not only whole ones
 * @throws UserError when the width is odd
 */
export function rotaryPositions(positions: readonly number[], width: number, base = 10000): Rotation {
  if (width % 2) throw new UserError(`rotary positions turn pairs of channels, but ${width} is odd`);
  const half = width / 2;
  const angles = positions.flatMap((p) => Array.from({ length: half }, (_, i) => p * base ** ((-2 * i) / width)));
  const table = (f: (angle: number) => number) => tensor(angles.map(f), [positions.length, half]);
  return { cosines: table(Math.cos), sines: table(Math.sin) };
}

/**
 * Queries or keys [B, tokens, heads · d], each head's first channels turned by the angles of their token's position, the
 * others as they are.
 * @throws UserError when the heads do not divide the width, or the rotation is for other tokens or more channels
 */
export function rotary(
  x: Tensor,
  { cosines, sines }: Rotation,
  { heads = 1, layout = 'halves' }: { heads?: number; layout?: RotaryLayout } = {},
): Tensor {
  const [batch, tokens, width] = x.shape;
  const [places, half] = cosines.shape;
  const depth = width / heads;
  if (x.shape.length !== 3 || !Number.isInteger(depth) || places !== tokens || 2 * half > depth) {
    throw new UserError(
      `rotary positions [${cosines.shape}] on ${heads} heads of [${x.shape}]: it takes [batch, tokens, heads · d] and angles [tokens, up to d / 2]`,
    );
  }
  const apart = reshape(x, [batch, tokens, heads, depth]);
  const [cos, sin] = [cosines, sines].map((y) => reshape(y, [tokens, 1, half]));
  const pairs = slice(apart, 3, 0, 2 * half);
  const paired = [batch, tokens, heads, half, 2];
  const parts =
    layout === 'halves'
      ? split(pairs, 3, 2)
      : split(reshape(pairs, paired), 4, 2).map((y) => reshape(y, paired.slice(0, 4)));
  const [a, b] = parts;
  const turned = [sub(mul(a, cos), mul(b, sin)), add(mul(b, cos), mul(a, sin))];
  const joined =
    layout === 'halves'
      ? concat(turned, 3)
      : reshape(
          concat(
            turned.map((y) => reshape(y, [...paired.slice(0, 4), 1])),
            4,
          ),
          [batch, tokens, heads, 2 * half],
        );
  const whole = 2 * half === depth ? joined : concat([joined, slice(apart, 3, 2 * half, depth)], 3);
  return reshape(whole, x.shape);
}
