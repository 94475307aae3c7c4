import * as z from 'zod';
import { attention } from '../ops/attention.js';
import { matmul } from '../ops/matmul.js';
import { concat, patchify, reshape, slice, split, unpatchify } from '../ops/movement.js';
import { modulate } from '../ops/normalization.js';
import { add } from '../ops/pointwise.js';
import { fanIn, normal, ones, xavier, zeros } from '../nn/initializers.js';
import {
  activations,
  affineLayerNorm,
  applyLinear,
  applyMatrix,
  embedGuidance,
  embedJump,
  embedLabels,
  guidanceParameters,
  jumpParameters,
  linearParameters,
  requireThat,
  sinusoids,
} from '../nn/layers.js';
import { runBlock, type Block } from '../nn/rematerialize.js';
import type { Parameters } from '../nn/parameters.js';
import type { Tensor } from '../tensor/tensor.js';
import { defineBackbone, type SampleLaw } from './backbone.js';
import type { BuildOptions, ModelParts } from './model.js';
import { cropSides, defaultPatch, extent, padSides, raised, repetition, sides, sidesOf, statedSides } from './sides.js';

const schema = z.strictObject({
  imageSize: sides,
  /** Where it does not divide a side, the picture is continued by zeros. */
  patchSize: extent,
  channels: extent,
  width: extent,
  depth: repetition,
  heads: extent,
  mlpWidth: extent,
  /** Where layer norms stand: after each residual sum, or before each branch. */
  norm: z.enum(['post', 'pre']),
  activation: z.enum(['gelu', 'gelu-tanh', 'silu']).default('gelu'),
  normEpsilon: z.number().positive().default(1e-5),
  /** 0 for an unconditional network; else the table has one more row, which stands for none. */
  classes: extent.or(z.literal(0)),
  /** Whether the table of classes has that row. Default true. */
  nullClass: z.boolean().optional(),
});

/**
 * A plain transformer encoder over patches (Dosovitskiy et al., 2021) with time and class as two extra tokens each,
 * under the names of PyTorch's TransformerEncoderLayer. Patches go in by a convolution as wide as its stride and out by
 * its transpose. The second time input shifts and scales what every norm returns, since there is no modulation to join.
 */
export const vit = defineBackbone({ name: 'vit', schema, defaults, build });

function defaults({ shape, classes }: SampleLaw): z.input<typeof schema> | null {
  if (shape.length !== 3) return null;
  const [channels, height, width] = shape;
  return {
    imageSize: statedSides(height, width),
    patchSize: defaultPatch(height, width),
    channels,
    width: 96,
    depth: 4,
    heads: 3,
    mlpWidth: 384,
    norm: 'pre',
    activation: 'gelu',
    classes,
  };
}

function build(config: z.infer<typeof schema>, { twoTime, checkpointBlocks, guided }: BuildOptions): ModelParts {
  const { patchSize, channels, width, depth, heads, mlpWidth, norm, normEpsilon, classes } = config;
  const { nullClass = true } = config;
  const size = sidesOf(config.imageSize);
  const padded = raised(size, patchSize);
  requireThat(width % heads === 0, 'heads', `${heads} does not divide a width of ${width}`);
  const act = activations[config.activation];
  const tokens = (padded[0] / patchSize) * (padded[1] / patchSize);
  const patchValues = channels * patchSize ** 2;
  const affine = (name: string) => [
    { name: `${name}.weight`, shape: [width], initializer: ones },
    { name: `${name}.bias`, shape: [width], initializer: zeros },
  ];
  const parameters = [
    { name: 'pos_embed', shape: [1, tokens, width], initializer: normal(0.02) },
    { name: 'patch_embed.weight', shape: [width, channels, patchSize, patchSize], initializer: fanIn(patchValues) },
    { name: 'patch_embed.bias', shape: [width], initializer: fanIn(patchValues) },
    ...Array.from({ length: depth }, (_, i) => [
      { name: `transformer.${i}.self_attn.in_proj_weight`, shape: [3 * width, width], initializer: xavier },
      { name: `transformer.${i}.self_attn.in_proj_bias`, shape: [3 * width], initializer: zeros },
      ...linearParameters(`transformer.${i}.self_attn.out_proj`, width, width, fanIn(width), zeros),
      ...linearParameters(`transformer.${i}.linear1`, width, mlpWidth),
      ...linearParameters(`transformer.${i}.linear2`, mlpWidth, width),
      ...affine(`transformer.${i}.norm1`),
      ...affine(`transformer.${i}.norm2`),
    ]).flat(),
    { name: 'unpatch.weight', shape: [width, channels, patchSize, patchSize], initializer: fanIn(width) },
    { name: 'unpatch.bias', shape: [channels], initializer: zeros },
    ...(classes
      ? [{ name: 'y_encoder.weight', shape: [classes + Number(nullClass), 2 * width], initializer: normal(1) }]
      : []),
    // A shift and a scale after each of the two norms of each layer.
    ...(twoTime ? jumpParameters(width, depth * 4 * width) : []),
    ...(guided ? guidanceParameters(width) : []),
  ];

  const timeTokens = (t: Tensor): Tensor => {
    const { sines, cosines } = sinusoids(t, width, width - 1);
    return concat([sines, cosines], 1);
  };
  const modulated = (h: Tensor, shift?: Tensor, scale?: Tensor) => (shift && scale ? modulate(h, scale, shift) : h);
  const branches = (p: Parameters, layer: string, [shift1, scale1, shift2, scale2]: Tensor[]) => ({
    attend: (x: Tensor) => {
      const qkv = applyMatrix(p, `${layer}.self_attn.in_proj_weight`, x, `${layer}.self_attn.in_proj_bias`);
      const [q, k, v] = split(qkv, 2, 3);
      return applyLinear(p, `${layer}.self_attn.out_proj`, attention(q, k, v, heads));
    },
    feed: (x: Tensor) => applyLinear(p, `${layer}.linear2`, act(applyLinear(p, `${layer}.linear1`, x))),
    norm1: (x: Tensor) => modulated(affineLayerNorm(p, `${layer}.norm1`, x, normEpsilon), shift1, scale1),
    norm2: (x: Tensor) => modulated(affineLayerNorm(p, `${layer}.norm2`, x, normEpsilon), shift2, scale2),
  });

  return {
    sampleShape: [channels, ...size],
    classes,
    nullClass: classes > 0 && nullClass,
    parameters,
    adapted: /^transformer\.\d+\./,
    opens: /^transformer\.\d+\./,
    apply: (p, { x, time, jump, labels, guidance: w }) => {
      const batch = x.shape[0];
      const patches = add(applyLinear(p, 'patch_embed', patchify(padSides(x, 2, padded), patchSize)), p('pos_embed'));
      const parts = [patches, reshape(timeTokens(time), [batch, 2, width])];
      if (classes) parts.push(reshape(embedLabels(p('y_encoder.weight'), labels, batch, nullClass), [batch, 2, width]));
      let h = concat(parts, 1);
      if (w) h = add(h, reshape(embedGuidance(p, w), [batch, 1, width]));
      const modulations = jump ? split(reshape(embedJump(p, jump), [batch, 1, depth * 4 * width]), 2, depth * 4) : [];
      const blockAt =
        (i: number): Block =>
        (q, x, ...modulation) => {
          const { attend, feed, norm1, norm2 } = branches(q, `transformer.${i}`, modulation);
          if (norm === 'post') {
            const attended = norm1(add(x, attend(x)));
            return norm2(add(attended, feed(attended)));
          }
          const attended = add(x, attend(norm1(x)));
          return add(attended, feed(norm2(attended)));
        };
      for (let i = 0; i < depth; i++)
        h = runBlock(blockAt(i), p, [h, ...modulations.slice(4 * i, 4 * i + 4)], checkpointBlocks);
      const weight = reshape(p('unpatch.weight'), [width, patchValues]);
      const image = unpatchify(matmul(slice(h, 1, 0, tokens), weight), patchSize, [channels, ...padded]);
      return add(cropSides(image, 2, size), reshape(p('unpatch.bias'), [channels, 1, 1]));
    },
  };
}
