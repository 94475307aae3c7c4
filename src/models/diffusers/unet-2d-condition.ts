import * as z from 'zod';
import { mul, sub } from '../../ops/pointwise.js';
import {
  affineGroupNorm,
  applyConvolution,
  convolutionParameters,
  normParameters,
  requireThat,
} from '../../nn/layers.js';
import { defineBackbone, type InputShapes } from '../backbone.js';
import type { BuildOptions, ModelParts } from '../model.js';
import { extent, repetition } from '../sides.js';
import { activations, downsampler, pixelAttention, pixelTransformer, type Activation, type Layer } from './blocks.js';
import { classEmbeddings, timeEmbedding } from './embedding.js';
import { blockTypes, only, unused } from './options.js';
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

const levels = <T extends z.ZodType>(each: T) => z.array(each).min(1).max(16);
/** One value for all levels, or one a level. */
const perLevel = <T extends z.ZodType>(each: T) => z.union([each, levels(each)]);
const activation = z
  .enum(Object.keys(activations) as [Activation, ...Activation[]])
  .nullable()
  .default(null);
const kernel = z.number().int().positive().max(31).default(3);

const schema = z.strictObject({
  ...commonOptions,
  in_channels: extent.default(4),
  out_channels: extent.default(4),
  down_block_types: blockTypes(
    'DownBlock2D',
    'CrossAttnDownBlock2D',
    'AttnDownBlock2D',
    'ResnetDownsampleBlock2D',
  ).default(['CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'DownBlock2D']),
  mid_block_type: z.enum(['UNetMidBlock2DCrossAttn', 'UNetMidBlock2D']).nullable().default('UNetMidBlock2DCrossAttn'),
  up_block_types: blockTypes('UpBlock2D', 'CrossAttnUpBlock2D', 'AttnUpBlock2D', 'ResnetUpsampleBlock2D').default([
    'UpBlock2D',
    'CrossAttnUpBlock2D',
    'CrossAttnUpBlock2D',
    'CrossAttnUpBlock2D',
  ]),
  only_cross_attention: perLevel(z.boolean()).default(false),
  block_out_channels: levels(extent).default([320, 640, 1280, 1280]),
  layers_per_block: perLevel(repetition).default(2),
  /** Width of the context; null for none. */
  cross_attention_dim: perLevel(extent).nullable().default(1280),
  /** Tokens of the context: an option of our own, as the weights take any number. */
  context_tokens: extent.default(77),
  transformer_layers_per_block: perLevel(z.union([repetition, levels(repetition)])).default(1),
  reverse_transformer_layers_per_block: levels(z.union([repetition, levels(repetition)]))
    .nullable()
    .default(null),
  /** The NUMBER of heads of transformers, by a mistake that files keep; of plain attention the channels of a head. */
  attention_head_dim: perLevel(extent).nullable().default(8),
  /** The number of heads of transformers, if it is stated. */
  num_attention_heads: perLevel(extent).nullable().default(null),
  use_linear_projection: z.boolean().default(false),
  class_embed_type: z.enum(classEmbeddings).nullable().default(null),
  projection_class_embeddings_input_dim: extent.nullable().default(null),
  time_embedding_act_fn: activation,
  timestep_post_act: activation,
  /** Width of the embedding of a scale of guidance. */
  time_cond_proj_dim: extent.nullable().default(null),
  conv_in_kernel: kernel,
  conv_out_kernel: kernel,
  dual_cross_attention: only(false),
  encoder_hid_dim: only(null),
  encoder_hid_dim_type: only(null),
  addition_embed_type: only(null),
  class_embeddings_concat: only(false),
  cross_attention_norm: only(null),
  attention_type: only('default'),
  resnet_skip_time_act: only(false),
  resnet_out_scale_factor: only(1),
  addition_time_embed_dim: unused(),
  addition_embed_type_num_heads: unused(),
  /** Precision of attention: everything is f32 here. */
  upcast_attention: unused(),
  /** Of a middle block that is not supported. */
  mid_block_only_cross_attention: unused(),
});
type Config = z.infer<typeof schema>;

/**
 * UNet2DConditionModel of diffusers (Stable Diffusion 1.x and 2.x) under its names of options and tensors. Its time is the
 * timestep, its context the states of a text. A second time input is added to the embedding.
 */
export const unet2dCondition = defineBackbone({
  name: 'unet-2d-condition',
  schema,
  build,
  defaults: () => null,
  fit: (config, shapes) => {
    const fitted = fitSides(config, shapes);
    return fitted && { ...fitted, ...tokensOf(shapes) };
  },
});

/** Another number of tokens; the width of the context stays. */
function tokensOf({ conditions = {} }: InputShapes): Partial<Config> {
  const context = conditions.context;
  return context?.length === 2 ? { context_tokens: context[0] } : {};
}

function build(config: Config, options: BuildOptions): ModelParts {
  const { block_out_channels: widths, norm_eps: epsilon } = config;
  const inputs = pictureInputs(config);
  const each = <T>(key: keyof Config, value: T | readonly T[]): readonly T[] => {
    const list = Array.isArray(value) ? (value as readonly T[]) : widths.map(() => value as T);
    requireThat(list.length === widths.length, key, `${list.length} for ${widths.length} levels`);
    return list;
  };
  const downTypes = each('down_block_types', config.down_block_types);
  const upTypes = each('up_block_types', config.up_block_types);
  const rounds = each('layers_per_block', config.layers_per_block);
  const onlyCross = each('only_cross_attention', config.only_cross_attention);
  const headSizes = each<number | null>('attention_head_dim', config.attention_head_dim);
  const heads = each<number | null>('num_attention_heads', config.num_attention_heads ?? config.attention_head_dim);
  const contexts = each<number | null>('cross_attention_dim', config.cross_attention_dim);
  const depths = each('transformer_layers_per_block', config.transformer_layers_per_block);
  const nested = depths.some((depth) => Array.isArray(depth));
  requireThat(
    !nested || config.reverse_transformer_layers_per_block !== null,
    'transformer_layers_per_block',
    'with a list for each level, reverse_transformer_layers_per_block must say those of the way up',
  );
  const upDepths = each(
    'reverse_transformer_layers_per_block',
    config.reverse_transformer_layers_per_block ?? depths.toReversed(),
  );
  const norm = { groups: config.norm_num_groups, epsilon };
  const width = config.time_embedding_dim ?? 4 * widths[0];
  const embedding = timeEmbedding({
    sinusoids: widths[0],
    width,
    layout: { flipSinToCos: config.flip_sin_to_cos, freqShift: config.freq_shift },
    activation: config.act_fn,
    postActivation: config.timestep_post_act,
    guidance: config.time_cond_proj_dim,
    classes: config.num_class_embeds,
    classKind: config.class_embed_type,
    projected: config.projection_class_embeddings_input_dim,
    twoTime: options.twoTime,
    guided: options.guided,
  });
  const residual = residualBlocks(config, width);
  const seen = new Set<number>();
  const transformer = (name: string, channels: number, level: number, depth: number, onlyCross: boolean) => {
    const context = contexts[level];
    if (context !== null) seen.add(context);
    const count = heads[level] ?? 0;
    requireThat(count > 0, 'num_attention_heads', 'this or attention_head_dim is needed');
    const { norm_num_groups: groups, use_linear_projection: linearProjection } = config;
    return pixelTransformer(name, {
      channels,
      heads: count,
      depth,
      context,
      onlyCross,
      groups,
      linearProjection,
    });
  };
  /** Blocks of the transformer of one round. */
  const depthOf = (depth: number | number[], key: keyof Config, round: number): number => {
    if (typeof depth === 'number') return depth;
    requireThat(round < depth.length, key, `${depth.length} numbers are too few for a level`);
    return depth[round];
  };

  let channels = widths[0];
  const kept = [channels];
  const down = widths.map((outputs, level): Stage => {
    const [name, type] = [`down_blocks.${level}`, downTypes[level]];
    const made = Array.from({ length: rounds[level] }, (_, round): Layer[] => {
      const layers = [residual(`${name}.resnets.${round}`, channels, outputs)];
      channels = outputs;
      kept.push(channels);
      const attentions = `${name}.attentions.${round}`;
      const depth = depthOf(depths[level], 'transformer_layers_per_block', round);
      if (type === 'CrossAttnDownBlock2D')
        layers.push(transformer(attentions, channels, level, depth, onlyCross[level]));
      if (type === 'AttnDownBlock2D')
        layers.push(pixelAttention(attentions, { channels, headSize: headSizes[level] ?? channels, norm }));
      return layers;
    });
    if (level === widths.length - 1) return { rounds: made };
    kept.push(channels);
    const sampler = `${name}.downsamplers.0`;
    return {
      rounds: made,
      sampler:
        type === 'ResnetDownsampleBlock2D'
          ? residual(sampler, channels, channels, { resized: 'down' })
          : downsampler(sampler, channels, config.downsample_padding),
    };
  });

  const scale = { outputScale: config.mid_block_scale_factor };
  const last = widths.length - 1;
  const middle: Layer[] = config.mid_block_type ? [residual('mid_block.resnets.0', channels, channels, scale)] : [];
  if (config.mid_block_type === 'UNetMidBlock2DCrossAttn') {
    const depth = depthOf(depths[last], 'transformer_layers_per_block', 0);
    middle.push(transformer('mid_block.attentions.0', channels, last, depth, false));
    middle.push(residual('mid_block.resnets.1', channels, channels, scale));
  }

  const up = widths.toReversed().map((outputs, i): Stage => {
    const level = last - i;
    const [name, type] = [`up_blocks.${i}`, upTypes[i]];
    const made = Array.from({ length: rounds[level] + 1 }, (_, round): Layer[] => {
      const layers = [residual(`${name}.resnets.${round}`, channels + kept.pop()!, outputs)];
      channels = outputs;
      const attentions = `${name}.attentions.${round}`;
      const depth = depthOf(upDepths[i], 'reverse_transformer_layers_per_block', round);
      if (type === 'CrossAttnUpBlock2D') layers.push(transformer(attentions, channels, level, depth, onlyCross[level]));
      // Head sizes are not turned round for the way up: as diffusers has it.
      if (type === 'AttnUpBlock2D')
        layers.push(pixelAttention(attentions, { channels, headSize: headSizes[i] ?? channels, norm }));
      return layers;
    });
    if (i === last) return { rounds: made };
    const within = type === 'ResnetUpsampleBlock2D' ? residual : null;
    return { rounds: made, sampler: enlargement(`${name}.upsamplers.0`, channels, within) };
  });
  const stages = { down, middle, up };
  requireThat(seen.size <= 1, 'cross_attention_dim', `one context cannot have the widths ${[...seen].join(' and ')}`);
  const context = [...seen].map((dim) => [config.context_tokens, dim]);
  const afterwards = config.time_embedding_act_fn ? activations[config.time_embedding_act_fn] : null;

  return {
    ...inputs,
    classes: embedding.classes,
    conditions: {
      ...(context.length && { context: { shape: context[0] } }),
      ...inputs.conditions,
      ...embedding.conditions,
    },
    parameters: [
      ...convolutionParameters('conv_in', config.in_channels, widths[0], config.conv_in_kernel),
      ...embedding.parameters,
      ...stageParameters(stages),
      ...normParameters('conv_norm_out', widths[0]),
      ...convolutionParameters('conv_out', widths[0], config.out_channels, config.conv_out_kernel),
    ],
    adapted: adaptedLayers,
    opens: openedLayers,
    apply: (p, given) => {
      const pictures = inputs.pictures(given);
      const centred = config.center_input_sample ? sub(mul(pictures, 2), 1) : pictures;
      const [around, behind] = [config.conv_in_kernel, config.conv_out_kernel].map((size) =>
        Math.floor((size - 1) / 2),
      );
      let h = applyConvolution(p, 'conv_in', channelsLast(centred), { padding: around });
      const time = embedding.apply(p, given);
      const told = [afterwards ? afterwards(time) : time, given.conditions?.context] as const;
      h = applyStages(stages, p, h, told, options.checkpointBlocks);
      h = activations[config.act_fn](affineGroupNorm(p, 'conv_norm_out', h, norm.groups, epsilon));
      return channelsFirst(applyConvolution(p, 'conv_out', h, { padding: behind }));
    },
  };
}
