import { UserError } from '../errors.js';
import type { Shape } from '../tensor/shape.js';
import { Tensor, type Distribution } from '../tensor/tensor.js';
import { greater, mul, where } from './pointwise.js';
import type { IndexRule } from './rule.js';

/**
 * Random numbers by Philox4x32-10, a pure function of (seed, step, stream, element): a step replayed with the same
 * key draws the same numbers, and no two streams share any.
 * @param key u32 [3]: seed low word, seed high word, step
 */
function random(distribution: Distribution, key: Tensor, stream: number, shape: Shape, bound = 0): Tensor {
  if (key.dtype !== 'u32' || key.size < 3)
    throw new UserError('random numbers need a u32 key of seed low, seed high and step');
  return new Tensor(
    'random',
    [key],
    { distribution, stream, bound },
    shape,
    distribution === 'integer' ? 'u32' : 'f32',
  );
}

/** Uniform in (0, 1), both ends excluded. */
export const uniform = (key: Tensor, stream: number, shape: Shape): Tensor => random('uniform', key, stream, shape);
/** Standard normal. */
export const normal = (key: Tensor, stream: number, shape: Shape): Tensor => random('normal', key, stream, shape);
/** Whole numbers 0 … bound - 1 as u32; bound at most 2^24. */
export const integers = (key: Tensor, stream: number, shape: Shape, bound: number): Tensor =>
  random('integer', key, stream, shape, bound);

/**
 * x / (1 - rate) where a uniform number is at least `rate`, else 0 (Srivastava et al., 2014).
 * @throws UserError when the rate is outside [0, 1)
 */
export function dropout(x: Tensor, rate: number, key: Tensor, stream: number): Tensor {
  if (!(rate >= 0 && rate < 1)) throw new UserError(`dropout at rate ${rate}: it is from 0 up to less than 1`);
  return where(greater(rate, uniform(key, stream, x.shape)), 0, mul(x, 1 / (1 - rate)));
}

export const randomRule: IndexRule<'random'> = {
  kind: 'index',
  cost: 64,
  tabulate: true,
  emit: ({ inputs: [key], attributes: { distribution, stream, bound } }, emitter, index, width) => {
    emitter.include('philox');
    const [low, high, step] = [0, 1, 2].map((i) => emitter.value(key, `${i}u`, 1));
    const source = distribution === 'normal' ? 'philox_normal4' : 'philox_uniform4';
    const drawn = emitter.line(`${source}(${index} / 4u, ${step}, ${stream}u, ${low}, ${high})`);
    const value = width === 4 ? drawn : emitter.line(`${drawn}[${index} % 4u]`);
    if (distribution !== 'integer') return value;
    return emitter.line(
      width === 4
        ? `min(vec4u(${value} * ${bound}f), vec4u(${bound - 1}u))`
        : `min(u32(${value} * ${bound}f), ${bound - 1}u)`,
    );
  },
  gradient: null,
};
