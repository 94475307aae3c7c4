import * as z from 'zod';
import { concat, reshape, split } from '../ops/movement.js';
import { add, mul } from '../ops/pointwise.js';
import {
  activations,
  applyLinear,
  harmonics,
  harmonicsWidth,
  linearParameters,
  modulateByJump,
  modulationParameters,
  quickHarmonics,
} from '../nn/layers.js';
import { sizeOf } from '../tensor/shape.js';
import { defineBackbone, type SampleLaw } from './backbone.js';
import { extent, repetition } from './sides.js';

const schema = z.strictObject({
  /** Values of a sample, or the shape of one. */
  dim: z.union([extent, z.array(extent).min(1).max(8)]),
  width: extent,
  /** Hidden layers. */
  depth: repetition,
  activation: z.enum(['silu', 'selu', 'gelu']),
  /** How time enters: `concat` appends t to x, as TorchCFM does; `features` appends its harmonics. */
  time: z.enum(['concat', 'features']),
});

/** Points are divided by about their spread before the first layer. */
const inputScale = 0.7;

function defaults({ shape }: SampleLaw): z.input<typeof schema> | null {
  if (shape.length === 3) return null;
  return {
    dim: shape.length === 1 ? shape[0] : [...shape],
    width: 128,
    depth: 4,
    activation: 'silu',
    time: 'features',
  };
}

/**
 * A multilayer perceptron over points, with TorchCFM's parameter names (`net.0`, `net.2`, …).
 * The second time input is added to the first layer's sum and scales every hidden unit: shifts alone, of any layer, leave a
 * long jump twice as far from the teacher's flow and bend the velocity (docs/recipes.md).
 */
export const mlp = defineBackbone({
  name: 'mlp',
  schema,
  defaults,
  build: ({ dim, width, depth, activation, time }, { twoTime }) => {
    const sampleShape = typeof dim === 'number' ? [dim] : dim;
    const size = sizeOf(sampleShape);
    const act = activations[activation];
    const inputs = time === 'concat' ? size + 1 : size + harmonicsWidth;
    const names = Array.from({ length: depth + 1 }, (_, layer) => `net.${2 * layer}`);
    const parameters = names.flatMap((name, layer) =>
      linearParameters(name, layer ? width : inputs, layer === depth ? size : width),
    );
    return {
      sampleShape,
      parameters: [...parameters, ...(twoTime ? modulationParameters(width, depth * width) : [])],
      adapted: /^net\./,
      opens: /^net\./,
      apply: (p, { x, time: t, jump }) => {
        const when = time === 'concat' ? reshape(t, [t.size, 1]) : harmonics(t);
        const flat = reshape(x, [x.shape[0], size]);
        const scaled = time === 'concat' ? flat : mul(flat, inputScale);
        let h = applyLinear(p, 'net.0', concat([scaled, when], 1));
        const [shift, gain] = jump ? modulateByJump(p, jump, quickHarmonics) : [];
        if (shift) h = add(h, shift);
        const gains = gain && split(gain, 1, depth);
        names.slice(1).forEach((name, layer) => {
          if (gains) h = add(h, mul(h, gains[layer]));
          h = applyLinear(p, name, act(h));
        });
        return reshape(h, x.shape);
      },
    };
  },
});
