import * as z from 'zod';
import { clamp } from '../../ops/comparison.js';
import { split } from '../../ops/movement.js';
import { add, div, mul, sub } from '../../ops/pointwise.js';
import { silu } from '../../ops/activations.js';
import {
  affineGroupNorm,
  applyConvolution,
  convolutionParameters,
  normParameters,
  requireThat,
} from '../../nn/layers.js';
import type { Parameters } from '../../nn/parameters.js';
import { tensor, type Tensor } from '../../tensor/tensor.js';
import { defineComponent } from '../component.js';
import { extent, repetition } from '../sides.js';
import { factsOf, type Autoencoder } from './autoencoder.js';
import { activationNames, downsampler, pixelAttention, residualBlock, upsampler, type Layer } from './blocks.js';
import { unused } from './options.js';
import { channelsFirst, channelsLast } from './unet.js';

const perChannel = z.array(z.number()).nullable().default(null);

/** Options of diffusers' class, with its defaults. */
const schema = z.strictObject({
  in_channels: extent.default(3),
  out_channels: extent.default(3),
  down_block_types: z.array(z.enum(['DownEncoderBlock2D', 'AttnDownEncoderBlock2D'])).default(['DownEncoderBlock2D']),
  up_block_types: z.array(z.enum(['UpDecoderBlock2D', 'AttnUpDecoderBlock2D'])).default(['UpDecoderBlock2D']),
  block_out_channels: z.array(extent).min(1).max(16).default([64]),
  layers_per_block: repetition.default(1),
  act_fn: z.enum(activationNames).default('silu'),
  latent_channels: extent.default(4),
  norm_num_groups: extent.default(32),
  /** The size that it was trained on: it takes any. */
  sample_size: unused(),
  scaling_factor: z.number().positive().default(0.18215),
  shift_factor: z.number().nullable().default(null),
  latents_mean: perChannel,
  latents_std: perChannel,
  /** Numbers are f32 here anyway. */
  force_upcast: unused(),
  use_quant_conv: z.boolean().default(true),
  use_post_quant_conv: z.boolean().default(true),
  mid_block_add_attention: z.boolean().default(true),
});

const epsilon = 1e-6;

/** Besides what every autoencoder has, what the encoder says before it is split. */
export interface AutoencoderKl extends Autoencoder {
  /** Mean and logarithm of the variance, not yet limited: [B, 2 C, h, w]. */
  moments(p: Parameters, images: Tensor): Tensor;
}

/** The variational autoencoder of latent diffusion (Rombach et al., 2022): diffusers' AutoencoderKL, under its names. */
export const autoencoderKl = defineComponent({ schema, build });

function build(options: z.infer<typeof schema>): AutoencoderKl {
  const { in_channels, out_channels, latent_channels, block_out_channels: widths } = options;
  const levels = widths.length;
  const last = widths[levels - 1];
  for (const key of ['down_block_types', 'up_block_types'] as const)
    requireThat(options[key].length === levels, key, `${options[key].length} blocks for ${levels} block_out_channels`);
  for (const key of ['latents_mean', 'latents_std'] as const)
    requireThat(
      (options[key]?.length ?? latent_channels) === latent_channels,
      key,
      `${options[key]?.length} numbers for ${latent_channels} latent_channels`,
    );
  const norm = { groups: options.norm_num_groups, epsilon };

  const convolution = (name: string, inputs: number, outputs: number, size: 1 | 3 = 3): Layer => ({
    parameters: convolutionParameters(name, inputs, outputs, size),
    apply: (p, x) => applyConvolution(p, name, x, { padding: size >> 1 }),
  });
  const residual = (name: string, inputs: number, outputs: number) =>
    residualBlock(name, { inputs, outputs, norm, activation: options.act_fn });
  const attentive = (name: string, channels: number) => pixelAttention(name, { channels, headSize: channels, norm });
  const doubling = (name: string, channels: number): Layer => {
    const { parameters, apply } = upsampler(name, channels);
    return { parameters, apply: (p, x) => apply(p, x, [2 * x.shape[1], 2 * x.shape[2]]) };
  };
  const middle = (name: string): Layer[] => [
    residual(`${name}.resnets.0`, last, last),
    ...(options.mid_block_add_attention ? [attentive(`${name}.attentions.0`, last)] : []),
    residual(`${name}.resnets.1`, last, last),
  ];
  const head = (name: string, inputs: number, outputs: number): Layer => ({
    parameters: [
      ...normParameters(`${name}.conv_norm_out`, inputs),
      ...convolutionParameters(`${name}.conv_out`, inputs, outputs, 3),
    ],
    apply: (p, x) => {
      const normalized = affineGroupNorm(p, `${name}.conv_norm_out`, x, norm.groups, epsilon);
      return applyConvolution(p, `${name}.conv_out`, silu(normalized), { padding: 1 });
    },
  });
  /** Residual blocks of one width, each with attention or not. */
  const level = (name: string, count: number, inputs: number, outputs: number, attended: boolean): Layer[] =>
    Array.from({ length: count }, (_, i) => [
      residual(`${name}.resnets.${i}`, i ? outputs : inputs, outputs),
      ...(attended ? [attentive(`${name}.attentions.${i}`, outputs)] : []),
    ]).flat();

  const { layers_per_block: count } = options;
  const encoder = [
    convolution('encoder.conv_in', in_channels, widths[0]),
    ...widths.flatMap((width, i) => {
      const name = `encoder.down_blocks.${i}`;
      const attended = options.down_block_types[i] === 'AttnDownEncoderBlock2D';
      return [
        ...level(name, count, widths[Math.max(0, i - 1)], width, attended),
        ...(i < levels - 1 ? [downsampler(`${name}.downsamplers.0`, width, 0)] : []),
      ];
    }),
    ...middle('encoder.mid_block'),
    head('encoder', last, 2 * latent_channels),
    ...(options.use_quant_conv ? [convolution('quant_conv', 2 * latent_channels, 2 * latent_channels, 1)] : []),
  ];
  const upwards = widths.toReversed();
  const decoder = [
    ...(options.use_post_quant_conv ? [convolution('post_quant_conv', latent_channels, latent_channels, 1)] : []),
    convolution('decoder.conv_in', latent_channels, last),
    ...middle('decoder.mid_block'),
    ...upwards.flatMap((width, i) => {
      const name = `decoder.up_blocks.${i}`;
      const attended = options.up_block_types[i] === 'AttnUpDecoderBlock2D';
      return [
        ...level(name, count + 1, upwards[Math.max(0, i - 1)], width, attended),
        ...(i < levels - 1 ? [doubling(`${name}.upsamplers.0`, width)] : []),
      ];
    }),
    head('decoder', widths[0], out_channels),
  ];
  const run = (p: Parameters, layers: readonly Layer[], x: Tensor) =>
    channelsFirst(layers.reduce((h, layer) => layer.apply(p, h), channelsLast(x)));
  const moments = (p: Parameters, images: Tensor) => run(p, encoder, images);

  const channel = (values: readonly number[]) => tensor(Float32Array.from(values), [1, latent_channels, 1, 1]);
  const { scaling_factor: factor, latents_mean: mean, latents_std: std } = options;
  const shift = options.shift_factor ?? 0;
  const shape = {
    imageChannels: in_channels,
    latentChannels: latent_channels,
    factor: 2 ** (levels - 1),
  };
  return {
    parameters: [...encoder, ...decoder].flatMap((layer) => layer.parameters),
    ...shape,
    facts: factsOf(shape, factor),
    moments,
    encode: (p, images) => {
      const [mean, logvar] = split(moments(p, images), 1, 2);
      return { mean, logvar: clamp(logvar, -30, 20) };
    },
    decode: (p, latents) => run(p, decoder, latents),
    ...(mean && std
      ? {
          scaled: (latents) => mul(div(sub(latents, channel(mean)), channel(std)), factor),
          unscaled: (latents) => add(mul(div(latents, factor), channel(std)), channel(mean)),
        }
      : {
          scaled: (latents) => mul(sub(latents, shift), factor),
          unscaled: (latents) => add(div(latents, factor), shift),
        }),
  };
}
