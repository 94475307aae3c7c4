import { Tensor } from '../tensor/tensor.js';
import type { Shape } from '../tensor/shape.js';
import { f32, type IndexRule, type MemoryRule } from './rule.js';

/** The second output of a kernel, such as the log-sum-exp of attention. */
export const secondary = (node: Tensor, shape: Shape): Tensor => new Tensor('secondary', [node], {}, shape);

export const storageRule: MemoryRule<'storage'> = { kind: 'memory', gradient: null };

// The gradient of the kernel's own node speaks for both outputs.
export const secondaryRule: MemoryRule<'secondary'> = { kind: 'memory', dependent: true, gradient: null };

export const constantRule: IndexRule<'constant'> = {
  kind: 'index',
  cost: 0,
  access: 'same',
  emit: ({ attributes: { value }, dtype }, _, __, width) => {
    const literal = dtype === 'f32' ? `(${f32(value)})` : `${value}u`;
    return width === 1 ? literal : `${dtype === 'f32' ? 'vec4f' : 'vec4u'}(${literal})`;
  },
  gradient: null,
};

export const customRule: IndexRule<'custom'> = {
  kind: 'index',
  cost: 0,
  access: 'same',
  emit: ({ inputs: [value] }, emitter, index, width) => emitter.value(value, index, width),
  // Gradients are taken before compilation: what is left is the value.
  decompose: (_, [value]) => ({ value }),
  gradient: ({ attributes }, g) => [null, ...attributes.gradient(g)],
};
