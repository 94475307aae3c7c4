import { z } from 'zod';
import { linear } from '../ops/matmul.js';
import { concat, reshape } from '../ops/movement.js';
import { add, mul } from '../ops/pointwise.js';
import {
  activations,
  applyLinear,
  embedJump,
  harmonics,
  harmonicsWidth,
  jumpParameters,
  linearParameters,
  quickHarmonics,
} from '../nn/layers.js';
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
 * The second time input is added to the first layer's sum.
 */
export function mlp({ dim, width, depth, activation, time }: MlpConfig, twoTime: boolean): Model {
  const act = activations[activation];
  const inputs = time === 'concat' ? dim + 1 : dim + harmonicsWidth;
  const names = Array.from({ length: depth + 1 }, (_, layer) => `net.${2 * layer}`);
  const parameters = names.flatMap((name, layer) =>
    linearParameters(name, layer ? width : inputs, layer === depth ? dim : width),
  );
  const second = twoTime ? jumpParameters(width) : [];
  return {
    sampleShape: [dim],
    classes: 0,
    nullClass: false,
    parameters: [...parameters, ...second],
    studentParameters: new Set(second.map(({ name }) => name)),
    adapted: /^net\./,
    apply: (p, { x, time: t, jump }) => {
      const when = time === 'concat' ? reshape(t, [t.size, 1]) : harmonics(t);
      const scaled = time === 'concat' ? x : mul(x, inputScale);
      let h = linear(concat([scaled, when], 1), p('net.0.weight'), p('net.0.bias'));
      if (twoTime && jump) h = add(h, embedJump(p, jump, quickHarmonics));
      for (const name of names.slice(1)) h = applyLinear(p, name, act(h));
      return h;
    },
  };
}
