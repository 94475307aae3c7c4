import { sizeOf } from '../tensor/shape.js';
import { gather } from './movement.js';
import type { KernelRule } from './rule.js';

/** Each output element looks through all indices in order, so that the sum is deterministic without atomics. */
export const scatterAddRule: KernelRule<'scatterAdd'> = {
  kind: 'kernel',
  kernel: ({ inputs: [values, indices], attributes: { rows }, shape }) => {
    const row = sizeOf(shape.slice(1));
    return {
      source: 'scatter-add',
      numbers: { ROWS: rows, ROW: row, COUNT: indices.size },
      operands: [
        { name: 'values', tensor: values, fusion: 'any', run: row },
        { name: 'indices', tensor: indices, fusion: 'none', run: 1 },
      ],
      workgroups: Math.ceil((rows * Math.ceil(row / 4)) / 64),
      run: row,
    };
  },
  gradient: ({ inputs: [, indices] }, g) => [gather(g, indices), null],
};
