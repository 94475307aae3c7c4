import { sizeOf } from '../tensor/shape.js';
import { gather } from './movement.js';
import { u32, type KernelRule } from './rule.js';

/** Each output element looks through all indices in order, so that the sum is deterministic without atomics. */
export const scatterAddRule: KernelRule<'scatterAdd'> = {
  kind: 'kernel',
  kernel: ({ inputs: [values, indices], attributes: { rows }, shape }) => {
    const row = sizeOf(shape.slice(1));
    return {
      source: 'scatter-add',
      constants: { ROWS: u32(rows), ROW: u32(row), COUNT: u32(indices.size) },
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
