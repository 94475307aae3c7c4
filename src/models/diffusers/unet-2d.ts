import * as z from 'zod';
import { silu } from '../../ops/activations.js';
import { sub, mul } from '../../ops/pointwise.js';
import {
  affineGroupNorm,
  applyConvolution,
  convolutionParameters,
  normParameters,
  requireThat,
} from '../../nn/layers.js';
import { defineBackbone } from '../backbone.js';
import type { BuildOptions, ModelParts } from '../model.js';
import { extent, repetition } from '../sides.js';
import { downsampler, pixelAttention, type Layer } from './blocks.js';
import { classEmbeddings, timeEmbedding } from './embedding.js';
import { blockTypes, unused } from './options.js';
import { fitSides, pictureInputs } from './pictures.js';
import {
  adaptedLayers,
  applyStages,
  channelsFirst,
  channelsLast,
  commonOptions,
  enlargement,
  openedLayers,
  residualBlocks,
  stageParameters,
  type Stage,
} from './unet.js';

const schema = z.strictObject({
  ...commonOptions,
  in_channels: extent.default(3),
  out_channels: extent.default(3),
  down_block_types: blockTypes('DownBlock2D', 'AttnDownBlock2D', 'ResnetDownsampleBlock2D').default([
    'DownBlock2D',
    'AttnDownBlock2D',
    'AttnDownBlock2D',
    'AttnDownBlock2D',
  ]),
  mid_block_type: z.literal('UNetMidBlock2D').nullable().default('UNetMidBlock2D'),
  up_block_types: blockTypes('UpBlock2D', 'AttnUpBlock2D', 'ResnetUpsampleBlock2D').default([
    'AttnUpBlock2D',
    'AttnUpBlock2D',
    'AttnUpBlock2D',
    'UpBlock2D',
  ]),
  block_out_channels: z.array(extent).min(1).max(16).default([224, 448, 672, 896]),
  layers_per_block: repetition.default(2),
  /** Of blocks with attention. */
  downsample_type: z.enum(['conv', 'resnet']).default('conv'),
  upsample_type: z.enum(['conv', 'resnet']).default('conv'),
  /** Channels of a head; null for one head. */
  attention_head_dim: extent.nullable().default(8),
  /** Of the attention in the middle; null for those of all, or under scale_shift for no norm. */
  attn_norm_num_groups: extent.nullable().default(null),
  class_embed_type: z.enum(classEmbeddings).extract(['timestep', 'identity']).nullable().default(null),
  /** Of a learned embedding of time. */
  num_train_timesteps: unused(),
  add_attention: z.boolean().default(true),
});

/**
 * UNet2DModel of diffusers (`google/ddpm-cifar10-32` and its kin) under its names of options and tensors. Its time is the
 * timestep. A second time input is added to the embedding.
 */
export const unet2d = defineBackbone({ name: 'unet-2d', schema, build, defaults: () => null, fit: fitSides });

function build(config: z.infer<typeof schema>, options: BuildOptions): ModelParts {
  const { block_out_channels: widths, layers_per_block: rounds, norm_eps: epsilon } = config;
  const inputs = pictureInputs(config);
  for (const key of ['down_block_types', 'up_block_types'] as const)
    requireThat(config[key].length === widths.length, key, `${config[key].length} for ${widths.length} levels`);
  const norm = { groups: config.norm_num_groups, epsilon };
  const scaleShift = config.resnet_time_scale_shift === 'scale_shift';
  const width = config.time_embedding_dim ?? 4 * widths[0];
  const embedding = timeEmbedding({
    sinusoids: widths[0],
    width,
    layout: { flipSinToCos: config.flip_sin_to_cos, freqShift: config.freq_shift },
    classes: config.num_class_embeds,
    classKind: config.class_embed_type,
    twoTime: options.twoTime,
    guided: options.guided,
  });
  const residual = residualBlocks(config, width);
  const attentive = (name: string, channels: number) =>
    pixelAttention(name, { channels, headSize: config.attention_head_dim ?? channels, norm });

  let channels = widths[0];
  const kept = [channels];
  const down = widths.map((outputs, i): Stage => {
    const [name, type] = [`down_blocks.${i}`, config.down_block_types[i]];
    const attends = type === 'AttnDownBlock2D';
    const made = Array.from({ length: rounds }, (_, j): Layer[] => {
      const block = residual(`${name}.resnets.${j}`, channels, outputs);
      channels = outputs;
      kept.push(channels);
      return attends ? [block, attentive(`${name}.attentions.${j}`, channels)] : [block];
    });
    if (i === widths.length - 1) return { rounds: made };
    kept.push(channels);
    const within = type === 'ResnetDownsampleBlock2D' || (attends && config.downsample_type === 'resnet');
    const sampler = `${name}.downsamplers.0`;
    return {
      rounds: made,
      sampler: within
        ? residual(sampler, channels, channels, { resized: 'down' })
        : downsampler(sampler, channels, config.downsample_padding),
    };
  });

  const scale = { outputScale: config.mid_block_scale_factor };
  // Without groups of its own the attention in the middle has those of all, but under scale_shift none: as diffusers has it.
  const middleGroups = config.attn_norm_num_groups ?? (scaleShift ? null : norm.groups);
  const middle: Layer[] =
    config.mid_block_type === null
      ? []
      : [
          residual('mid_block.resnets.0', channels, channels, scale),
          ...(config.add_attention
            ? [
                pixelAttention('mid_block.attentions.0', {
                  channels,
                  headSize: config.attention_head_dim ?? channels,
                  norm: middleGroups === null ? null : { groups: middleGroups, epsilon },
                  ...scale,
                }),
              ]
            : []),
          residual('mid_block.resnets.1', channels, channels, scale),
        ];

  const up = widths.toReversed().map((outputs, i): Stage => {
    const [name, type] = [`up_blocks.${i}`, config.up_block_types[i]];
    const attends = type === 'AttnUpBlock2D';
    const made = Array.from({ length: rounds + 1 }, (_, j): Layer[] => {
      const block = residual(`${name}.resnets.${j}`, channels + kept.pop()!, outputs);
      channels = outputs;
      return attends ? [block, attentive(`${name}.attentions.${j}`, channels)] : [block];
    });
    if (i === widths.length - 1) return { rounds: made };
    const within = type === 'ResnetUpsampleBlock2D' || (attends && config.upsample_type === 'resnet');
    return { rounds: made, sampler: enlargement(`${name}.upsamplers.0`, channels, within ? residual : null) };
  });
  const stages = { down, middle, up };

  return {
    ...inputs,
    classes: embedding.classes,
    conditions: { ...inputs.conditions, ...embedding.conditions },
    parameters: [
      ...convolutionParameters('conv_in', config.in_channels, widths[0], 3),
      ...embedding.parameters,
      ...stageParameters(stages),
      ...normParameters('conv_norm_out', widths[0]),
      ...convolutionParameters('conv_out', widths[0], config.out_channels, 3),
    ],
    adapted: adaptedLayers,
    opens: openedLayers,
    apply: (p, given) => {
      const pictures = inputs.pictures(given);
      const centred = config.center_input_sample ? sub(mul(pictures, 2), 1) : pictures;
      let h = applyConvolution(p, 'conv_in', channelsLast(centred), { padding: 1 });
      h = applyStages(stages, p, h, [embedding.apply(p, given)], options.checkpointBlocks);
      h = silu(affineGroupNorm(p, 'conv_norm_out', h, norm.groups, epsilon));
      return channelsFirst(applyConvolution(p, 'conv_out', h, { padding: 1 }));
    },
  };
}
