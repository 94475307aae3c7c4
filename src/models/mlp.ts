import { z } from 'zod';
import { linear } from '../ops/matmul.js';
import { concat, reshape } from '../ops/movement.js';
import { add, mul, silu } from '../ops/pointwise.js';
import { zeros } from '../nn/initializers.js';
import { activations, applyLinear, harmonics, harmonicsWidth, linearParameters } from '../nn/layers.js';
import type { Model } from './model.js';

export const mlpSchema = z.strictObject({
  kind: z.literal('mlp'),
  dim: z.number().int().positive(),
  width: z.number().int().positive(),
  /** Hidden layers. */
  depth: z.number().int().positive(),
  activation: z.enum(['silu', 'selu', 'gelu']),
  /** How time enters: `concat` appends t to x, as TorchCFM does; `features` appends its harmonics. */
  time: z.enum(['concat', 'features']),
});
export type MlpConfig = z.infer<typeof mlpSchema>;

/** Points are divided by about their spread before the first layer. */
const inputScale = 0.7;

/**
 * A multilayer perceptron over points, with TorchCFM's parameter names (`net.0`, `net.2`, …).
 * The second time input: harmonics of t and t - s, through a hidden layer, added to the first layer's sum.
 */
export function mlp({ dim, width, depth, activation, time }: MlpConfig, twoTime: boolean): Model {
  const act = activations[activation];
  const inputs = time === 'concat' ? dim + 1 : dim + harmonicsWidth;
  const names = Array.from({ length: depth + 1 }, (_, layer) => `net.${2 * layer}`);
  const parameters = names.flatMap((name, layer) =>
    linearParameters(name, layer ? width : inputs, layer === depth ? dim : width),
  );
  const gap = twoTime
    ? [
        ...linearParameters('gap_embedder.0', 2 * harmonicsWidth, width),
        ...linearParameters('gap_embedder.2', width, width, zeros, zeros),
      ]
    : [];
  return {
    sampleShape: [dim],
    classes: 0,
    nullClass: false,
    parameters: [...parameters, ...gap],
    studentParameters: new Set(gap.map(({ name }) => name)),
    adapted: /^net\./,
    apply: (p, { x, time: t, gap: d }) => {
      const when = time === 'concat' ? reshape(t, [t.size, 1]) : harmonics(t);
      const scaled = time === 'concat' ? x : mul(x, inputScale);
      let h = linear(concat([scaled, when], 1), p('net.0.weight'), p('net.0.bias'));
      if (twoTime && d) {
        const hidden = silu(applyLinear(p, 'gap_embedder.0', concat([harmonics(t), harmonics(d)], 1)));
        h = add(h, applyLinear(p, 'gap_embedder.2', hidden));
      }
      for (const name of names.slice(1)) h = applyLinear(p, name, act(h));
      return h;
    },
  };
}
