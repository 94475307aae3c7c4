import { UserError } from '../errors.js';
import type { Shape } from '../tensor/shape.js';
import { checkBound, smallBound } from '../tensor/philox.js';
import { Tensor } from '../tensor/tensor.js';
import { greater, mul, where } from './pointwise.js';
import type { IndexRule } from './rule.js';

type Distribution = 'uniform' | 'normal' | 'integer';

declare module '../tensor/tensor.js' {
  interface OpAttributes {
    random: { distribution: Distribution; stream: number; bound: number };
  }
}

/**
 * Random numbers by Philox4x32-10, a pure function of (seed, step, stream, element): a step replayed with the same
 * key draws the same numbers, and no two streams share any.
 * @param key u32 [3]: seed low word, seed high word, step
 */
function random(distribution: Distribution, key: Tensor, stream: number, shape: Shape, bound = 0): Tensor {
  if (key.dtype !== 'u32' || key.size < 3)
    throw new UserError('random numbers need a u32 key of seed low, seed high and step');
  if (!isWord(stream)) throw new UserError(`stream ${stream}: a stream is a whole number from 0 to 2^32 - 1`);
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
/**
 * Whole numbers 0 … bound - 1 as u32, the same as `wholeNumbers` of tensor/philox.ts gives on the host.
 * @param bound from 1 to 2^32
 */
export function integers(key: Tensor, stream: number, shape: Shape, bound: number): Tensor {
  checkBound(bound);
  return random('integer', key, stream, shape, bound);
}

const isWord = (value: number) => Number.isInteger(value) && value >= 0 && value < 2 ** 32;

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
  access: 'moved',
  precise: true,
  tabulate: true,
  emit: ({ inputs: [key], attributes: { distribution, stream, bound } }, emitter, index, width) => {
    emitter.include('philox');
    const [low, high, step] = [0, 1, 2].map((i) => emitter.value(key, `${i}u`, 1));
    const from = `${index} / 4u, ${step}, ${stream}u, ${low}, ${high}`;
    const drawn = emitter.line(
      {
        uniform: `philox_uniform4(${from})`,
        normal: `philox_normal4(${from})`,
        integer:
          bound <= smallBound ? `philox_below4(${from}, ${bound}u)` : `philox_far_below4(${from}, ${bound % 2 ** 32}u)`,
      }[distribution],
    );
    return width === 4 ? drawn : emitter.line(`${drawn}[${index} % 4u]`);
  },
  gradient: null,
};
