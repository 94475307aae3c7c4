import * as z from 'zod';
import { gelu, geluTanh, quickGelu, silu } from '../../ops/activations.js';
import { attention } from '../../ops/attention.js';
import { patchify, permute, reshape, split } from '../../ops/movement.js';
import { layerNorm, modulate } from '../../ops/normalization.js';
import { add, mul } from '../../ops/pointwise.js';
import { gridPositions, normal, xavier, zeros } from '../../nn/initializers.js';
import {
  affineLayerNorm,
  applyLinear,
  applyMatrix,
  embedGuidance,
  embedJump,
  embedLabels,
  guidanceParameters,
  jumpParameters,
  linearParameters,
  normParameters,
  requireThat,
} from '../../nn/layers.js';
import { runBlock, type Block } from '../../nn/rematerialize.js';
import type { Parameters } from '../../nn/parameters.js';
import { timestepSinusoids } from '../../nn/timesteps.js';
import { tensor, type Tensor } from '../../tensor/tensor.js';
import { defineBackbone, type InputShapes } from '../backbone.js';
import type { BuildOptions, ModelParts } from '../model.js';
import { extent, repetition, sides, sidesOf, statedSides } from '../sides.js';
import { only, unused } from './options.js';

/** The layer before a feed-forward's last: how many times as wide it is made, and what becomes of it. */
const feedForwards = {
  gelu: { parts: 1, apply: gelu },
  'gelu-approximate': { parts: 1, apply: geluTanh },
  geglu: { parts: 2, apply: (x: Tensor) => gated(x) },
  'geglu-approximate': { parts: 1, apply: quickGelu },
} as const;

/** The first half of the channels is the value, the second the gate. */
function gated(x: Tensor): Tensor {
  const [value, gate] = split(x, 2, 2);
  return mul(value, gelu(gate));
}

/** Options of diffusers' class, with its defaults, and those of the class that it was once a part of. */
const schema = z.strictObject({
  num_attention_heads: extent.default(16),
  attention_head_dim: extent.default(72),
  in_channels: extent.default(4),
  /** Beyond those of the sample a network says more, such as a variance. */
  out_channels: extent.nullable().default(null),
  num_layers: repetition.default(28),
  attention_bias: z.boolean().default(true),
  sample_size: sides.default(32),
  /** The side of the samples that it was trained on, where that is another: positions are spread over it. */
  trained_size: extent.optional(),
  patch_size: extent.default(2),
  activation_fn: z.enum(['gelu-approximate', 'gelu', 'geglu', 'geglu-approximate']).default('gelu-approximate'),
  num_embeds_ada_norm: extent.default(1000),
  norm_type: only('ada_norm_zero'),
  norm_elementwise_affine: z.boolean().default(false),
  norm_eps: z.number().positive().default(1e-5),
  dropout: unused(),
  norm_num_groups: unused(),
  upcast_attention: unused(),
  use_linear_projection: unused(),
  interpolation_scale: unused(),
  cross_attention_dim: only(null),
  num_vector_embeds: only(null),
  only_cross_attention: only(false),
  double_self_attention: only(false),
  attention_type: only('default'),
  caption_channels: only(null),
  use_additional_conditions: only(null, false),
});

const headEpsilon = 1e-6;
const frequencies = 256;

/**
 * DiT (Peebles and Xie, 2023) as diffusers has it, under its names: DiTTransformer2DModel, once Transformer2DModel. Every
 * block embeds time and class for itself; what a student and guidance add goes to each of these embeddings.
 */
export const dit = defineBackbone({ name: 'dit', schema, defaults: () => null, fit, build });

/** Any sides that patches tile; positions keep their spread. */
function fit(options: z.infer<typeof schema>, { sample }: InputShapes): z.input<typeof schema> | null {
  const [channels, height, width] = sample;
  const { patch_size: patch, in_channels, sample_size, trained_size = sidesOf(sample_size)[0] } = options;
  const fits = sample.length === 3 && channels === in_channels && height % patch === 0 && width % patch === 0;
  return fits ? { ...options, sample_size: statedSides(height, width), trained_size } : null;
}

function build(options: z.infer<typeof schema>, { twoTime, checkpointBlocks, guided }: BuildOptions): ModelParts {
  const { num_attention_heads: heads, in_channels, patch_size: patch, norm_eps } = options;
  const { num_embeds_ada_norm: classes, attention_bias: biased, norm_elementwise_affine: affine } = options;
  const width = heads * options.attention_head_dim;
  const outputs = options.out_channels ?? in_channels;
  const size = sidesOf(options.sample_size);
  for (const side of size)
    requireThat(side % patch === 0, 'patch_size', `${patch} does not divide a side of ${side}, the sample_size`);
  requireThat(width % 4 === 0, 'attention_head_dim', `the width, ${width}, must be a multiple of 4 for its positions`);
  requireThat(outputs >= in_channels, 'out_channels', `${outputs} are fewer than the in_channels, ${in_channels}`);
  const [rows, columns] = [size[0] / patch, size[1] / patch];
  const trained = options.trained_size && Math.floor(options.trained_size / patch);
  const spread = trained ? ([trained / rows, trained / columns] as const) : undefined;
  const { parts, apply: activate } = feedForwards[options.activation_fn];
  const names = Array.from({ length: options.num_layers }, (_, i) => `transformer_blocks.${i}`);

  const dense = (name: string, from: number, to: number) => linearParameters(name, from, to, xavier, zeros);
  const zeroed = (name: string, from: number, to: number) => linearParameters(name, from, to, zeros, zeros);
  const small = (name: string, from: number, to: number) => linearParameters(name, from, to, normal(0.02), zeros);
  const projections = ['to_q', 'to_k', 'to_v'];
  const parameters = [
    { name: 'pos_embed.proj.weight', shape: [width, in_channels, patch, patch], initializer: xavier },
    { name: 'pos_embed.proj.bias', shape: [width], initializer: zeros },
    ...names.flatMap((name) => [
      ...small(`${name}.norm1.emb.timestep_embedder.linear_1`, frequencies, width),
      ...small(`${name}.norm1.emb.timestep_embedder.linear_2`, width, width),
      {
        name: `${name}.norm1.emb.class_embedder.embedding_table.weight`,
        shape: [classes + 1, width],
        initializer: normal(0.02),
      },
      ...zeroed(`${name}.norm1.linear`, width, 6 * width),
      ...projections.flatMap((part) => dense(`${name}.attn1.${part}`, width, width).slice(0, biased ? 2 : 1)),
      ...dense(`${name}.attn1.to_out.0`, width, width),
      ...(affine ? normParameters(`${name}.norm3`, width) : []),
      ...dense(`${name}.ff.net.0.proj`, width, 4 * width * parts),
      ...dense(`${name}.ff.net.2`, 4 * width, width),
    ]),
    ...zeroed('proj_out_1', width, 2 * width),
    ...zeroed('proj_out_2', width, patch * patch * outputs),
    ...(twoTime ? jumpParameters(width) : []),
    ...(guided ? guidanceParameters(width) : []),
  ];

  /** The condition of a block [B, width], from the sinusoids of time. */
  const condition = (p: Parameters, name: string, waves: Tensor, labels: Tensor | undefined, extra?: Tensor) => {
    const embedder = `${name}.norm1.emb`;
    const hidden = silu(applyLinear(p, `${embedder}.timestep_embedder.linear_1`, waves));
    const time = applyLinear(p, `${embedder}.timestep_embedder.linear_2`, hidden);
    const table = p(`${embedder}.class_embedder.embedding_table.weight`);
    const c = add(time, embedLabels(table, labels, waves.shape[0]));
    return extra ? add(c, extra) : c;
  };
  /** Vectors [B, 1, width] each. */
  const modulation = (p: Parameters, name: string, c: Tensor, count: number) =>
    split(reshape(applyLinear(p, name, silu(c)), [c.shape[0], 1, count * width]), 2, count);
  const blockAt =
    (name: string, labels: Tensor | undefined): Block =>
    (p, h, waves, extra) => {
      const c = condition(p, name, waves, labels, extra);
      const [shift1, scale1, gate1, shift2, scale2, gate2] = modulation(p, `${name}.norm1.linear`, c, 6);
      const seen = modulate(layerNorm(h, headEpsilon), scale1, shift1);
      const [q, k, v] = projections.map((part) =>
        applyMatrix(p, `${name}.attn1.${part}.weight`, seen, biased ? `${name}.attn1.${part}.bias` : undefined),
      );
      const attended = add(h, mul(gate1, applyLinear(p, `${name}.attn1.to_out.0`, attention(q, k, v, heads))));
      const norm3 = affine ? affineLayerNorm(p, `${name}.norm3`, attended, norm_eps) : layerNorm(attended, norm_eps);
      const inner = activate(applyLinear(p, `${name}.ff.net.0.proj`, modulate(norm3, scale2, shift2)));
      return add(attended, mul(gate2, applyLinear(p, `${name}.ff.net.2`, inner)));
    };

  const positions = (): Tensor => {
    const shape = [1, rows * columns, width];
    return tensor(gridPositions(columns, spread)(shape, 0, 0), shape);
  };

  return {
    sampleShape: [in_channels, ...size],
    classes,
    nullClass: true,
    parameters,
    adapted: /^transformer_blocks\.\d+\.(attn1|ff)\./,
    opens: /^transformer_blocks\.\d+\.(attn1|ff)\./,
    apply: (p, { x, time, jump, labels, guidance: w }) => {
      const waves = timestepSinusoids(time, frequencies, { flipSinToCos: true, freqShift: 1 });
      const extras = [...(jump ? [embedJump(p, jump)] : []), ...(w ? [embedGuidance(p, w)] : [])];
      const extra = extras.length ? [extras.reduce(add)] : [];
      let h = add(applyLinear(p, 'pos_embed.proj', patchify(x, patch)), positions());
      for (const name of names) h = runBlock(blockAt(name, labels), p, [h, waves, ...extra], checkpointBlocks);
      // The head is told what the first block is told.
      const [shift, scale] = modulation(p, 'proj_out_1', condition(p, names[0], waves, labels, ...extra), 2);
      const patches = applyLinear(p, 'proj_out_2', modulate(layerNorm(h, headEpsilon), scale, shift));
      // Patches come as (row, column, channel): 'nhwpqc -> nchpwq'.
      const grid = reshape(patches, [x.shape[0], rows, columns, patch, patch, outputs]);
      return reshape(permute(grid, [0, 5, 1, 3, 2, 4]), [x.shape[0], outputs, ...size]);
    },
  };
}
