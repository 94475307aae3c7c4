import * as z from 'zod';
import { concat, permute } from '../../ops/movement.js';
import { runBlock } from '../../nn/rematerialize.js';
import type { Parameter, Parameters } from '../../nn/parameters.js';
import type { Extents } from '../../ops/patches.js';
import type { Tensor } from '../../tensor/tensor.js';
import { extent } from '../sides.js';
import { activationNames, residualBlock, upsampler, type Layer, type ResidualOptions } from './blocks.js';
import { only, unused } from './options.js';
import { sampleSize } from './pictures.js';

/** Options that both UNets have, with the values that diffusers gives those that a configuration leaves out. */
export const commonOptions = {
  sample_size: sampleSize,
  center_input_sample: z.boolean().default(false),
  time_embedding_type: only('positional'),
  time_embedding_dim: extent.nullable().default(null),
  freq_shift: z.number().min(0).max(1).default(0),
  flip_sin_to_cos: z.boolean().default(true),
  mid_block_scale_factor: z.number().positive().default(1),
  downsample_padding: z.number().int().min(0).max(8).default(1),
  dropout: unused(),
  act_fn: z.enum(activationNames).default('silu'),
  norm_num_groups: extent.default(32),
  norm_eps: z.number().positive().default(1e-5),
  resnet_time_scale_shift: z.enum(['default', 'scale_shift']).default('default'),
  num_class_embeds: extent.nullable().default(null),
};

/** One resolution of a UNet: rounds of a residual block and what follows it, and at the end a change of size. */
export interface Stage {
  readonly rounds: readonly (readonly Layer[])[];
  /** On the way down a layer; on the way up one that is told the size of the image that comes next. */
  readonly sampler?: Layer | { readonly parameters: readonly Parameter[]; enlarge(...of: Enlarging): Tensor };
}
type Enlarging = [parameters: Parameters, x: Tensor, size: Extents, embedding: Tensor];

/** The stages of a UNet. */
export interface Stages {
  readonly down: readonly Stage[];
  readonly middle: readonly Layer[];
  readonly up: readonly Stage[];
}

/** The parameters of all stages. */
export const stageParameters = ({ down, middle, up }: Stages): Parameter[] => [
  ...middle.flatMap(({ parameters }) => parameters),
  ...[...down, ...up].flatMap(({ rounds, sampler }) => [
    ...rounds.flat().flatMap(({ parameters }) => parameters),
    ...(sampler?.parameters ?? []),
  ]),
];

/**
 * Images [B, H, W, C] through all stages. What every round and every halving on the way down leaves is kept, and joined to
 * the rounds on the way up, last first.
 * @param told the embedding, and the context where there is one
 * @param again whether the backward pass computes each layer anew
 */
export function applyStages(
  { down, middle, up }: Stages,
  p: Parameters,
  images: Tensor,
  told: readonly [embedding: Tensor, context?: Tensor],
  again: boolean,
): Tensor {
  const inputs = told.filter((tensor) => tensor !== undefined);
  const run = (layers: readonly Layer[], x: Tensor) =>
    layers.reduce((h, layer) => runBlock(layer.apply, p, [h, ...inputs], again), x);
  let h = images;
  const kept = [h];
  for (const { rounds, sampler } of down) {
    for (const round of rounds) kept.push((h = run(round, h)));
    if (sampler && 'apply' in sampler) kept.push((h = run([sampler], h)));
  }
  h = run(middle, h);
  for (const { rounds, sampler } of up) {
    for (const round of rounds) h = run(round, concat([h, kept.pop()!], 3));
    if (sampler && 'enlarge' in sampler) {
      const [, height, width] = kept[kept.length - 1].shape;
      h = sampler.enlarge(p, h, [height, width], told[0]);
    }
  }
  return h;
}

/** Pictures with their channels last, and back. */
export const channelsLast = (x: Tensor): Tensor => permute(x, [0, 2, 3, 1]);
export const channelsFirst = (x: Tensor): Tensor => permute(x, [0, 3, 1, 2]);

/**
 * The residual blocks of a UNet, by what its options say of all of them.
 * @param embedding width of the embedding of time and class
 */
export const residualBlocks =
  (
    options: Pick<
      z.infer<z.ZodObject<typeof commonOptions>>,
      'norm_num_groups' | 'norm_eps' | 'act_fn' | 'resnet_time_scale_shift'
    >,
    embedding: number,
  ) =>
  (name: string, inputs: number, outputs: number, more: Pick<ResidualOptions, 'outputScale' | 'resized'> = {}): Layer =>
    residualBlock(name, {
      inputs,
      outputs,
      embedding,
      norm: { groups: options.norm_num_groups, epsilon: options.norm_eps },
      activation: options.act_fn,
      scaleShift: options.resnet_time_scale_shift === 'scale_shift',
      ...more,
    });

/** Layers that a low-rank adapter goes with: those that published adapters of whole UNets have. */
export const adaptedLayers =
  /(to_[qkv]|to_out\.0|proj_in|proj_out|ff\.net\.(0\.proj|2)|conv1|conv2|conv_shortcut|time_emb_proj|samplers\.0\.conv)\.weight$/;

/** Layers beside which a student's jumps open products of low rank: half of the convolutions of each block, and attention. */
export const openedLayers = /(to_[qkv]|to_out\.0|ff\.net\.(0\.proj|2)|conv2)\.weight$/;

/** The change of size at the end of a stage on the way up: a convolution, or a residual block that doubles. */
export function enlargement(
  name: string,
  channels: number,
  residual: ((name: string, from: number, to: number, more: { resized: 'up' }) => Layer) | null,
): Stage['sampler'] {
  if (!residual) {
    const { parameters, apply } = upsampler(name, channels);
    return { parameters, enlarge: apply };
  }
  const { parameters, apply } = residual(name, channels, channels, { resized: 'up' });
  return { parameters, enlarge: (p, x, _, embedding) => apply(p, x, embedding) };
}
