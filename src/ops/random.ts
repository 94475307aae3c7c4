import { UserError } from '../errors.js';
import { sizeOf, type Shape } from '../tensor/shape.js';
import { checkBound, smallBound } from '../tensor/philox.js';
import { Tensor } from '../tensor/tensor.js';
import { greater, mul, where } from './pointwise.js';
import type { IndexRule, Width } from './rule.js';

/** What random numbers are distributed as. */
export type Distribution = 'uniform' | 'normal' | 'integer';

declare module '../tensor/tensor.js' {
  interface OpAttributes {
    random: { distribution: Distribution; stream: number; bound: number };
  }
}

/**
 * Random numbers by Philox4x32-10, a pure function of (seed, step, stream, element): a step replayed with the same
 * key draws the same numbers, and no two streams share any.
 * @param key u32 [3]: seed low word, seed high word, step
 * @param rows u32 [shape[0]]: of which rows of a longer tensor the numbers are, in place of its first ones
 */
function random(
  distribution: Distribution,
  key: Tensor,
  stream: number,
  shape: Shape,
  { bound = 0, rows }: { bound?: number; rows?: Tensor },
): Tensor {
  if (key.dtype !== 'u32' || key.size < 3)
    throw new UserError('random numbers need a u32 key of seed low, seed high and step');
  if (!isWord(stream)) throw new UserError(`stream ${stream}: a stream is a whole number from 0 to 2^32 - 1`);
  if (rows && (rows.dtype !== 'u32' || rows.size !== shape[0]))
    throw new UserError(`random numbers [${shape}] of ${rows.dtype} rows [${rows.shape}]: give u32, one a row`);
  return new Tensor(
    'random',
    rows ? [key, rows] : [key],
    { distribution, stream, bound },
    shape,
    distribution === 'integer' ? 'u32' : 'f32',
  );
}

/** Uniform in (0, 1), both ends excluded. @param rows whose numbers they are, as of a longer tensor */
export const uniform = (key: Tensor, stream: number, shape: Shape, rows?: Tensor): Tensor =>
  random('uniform', key, stream, shape, { rows });
/** Standard normal. @param rows whose numbers they are, as of a longer tensor */
export const normal = (key: Tensor, stream: number, shape: Shape, rows?: Tensor): Tensor =>
  random('normal', key, stream, shape, { rows });
/**
 * Whole numbers 0 … bound - 1 as u32, the same as `wholeNumbers` of tensor/philox.ts gives on the host.
 * @param bound from 1 to 2^32
 * @param rows whose numbers they are, as of a longer tensor
 */
export function integers(key: Tensor, stream: number, shape: Shape, bound: number, rows?: Tensor): Tensor {
  checkBound(bound);
  return random('integer', key, stream, shape, { bound, rows });
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
  // A row that begins within a block of four numbers takes each from its own.
  vectorizes: (node) => rowLength(node) % 4 === 0,
  emit: (node, emitter, index, width) => {
    const {
      inputs: [key, rows],
      attributes: { distribution, stream, bound },
      dtype,
    } = node;
    emitter.include('philox');
    // Its normal numbers are made by that.
    emitter.include('sine');
    const [low, high, step] = [0, 1, 2].map((i) => emitter.value(key, `${i}u`, 1));
    const row = rowLength(node);
    const elementOf = (i: string) =>
      rows ? emitter.line(`${emitter.value(rows, emitter.line(`${i} / ${row}u`), 1)} * ${row}u + ${i} % ${row}u`) : i;
    const draw = (i: string, w: Width) => {
      const element = elementOf(i);
      const from = `${element} / 4u, ${step}, ${stream}u, ${low}, ${high}`;
      const drawn = emitter.line(
        {
          uniform: `philox_uniform4(${from})`,
          normal: `philox_normal4(${from})`,
          integer:
            bound <= smallBound
              ? `philox_below4(${from}, ${bound}u)`
              : `philox_far_below4(${from}, ${bound % 2 ** 32}u)`,
        }[distribution],
      );
      return w === 4 ? drawn : emitter.line(`${drawn}[${element} % 4u]`);
    };
    if (width === 1 || row % 4 === 0) return draw(index, width);
    const lanes = [0, 1, 2, 3].map((lane) => draw(lane ? emitter.line(`${index} + ${lane}u`) : index, 1));
    return emitter.line(`${dtype === 'f32' ? 'vec4f' : 'vec4u'}(${lanes.join(', ')})`);
  },
  gradient: null,
};

/** Numbers of a row where rows are given; without them all is one row, in whole blocks of four. */
const rowLength = ({ inputs: [, rows], shape }: Tensor<'random'>): number => (rows ? sizeOf(shape.slice(1)) : 4);
