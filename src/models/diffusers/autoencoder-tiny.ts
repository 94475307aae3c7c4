import * as z from 'zod';
import { relu } from '../../ops/activations.js';
import { conv2d } from '../../ops/convolution.js';
import { add, div, mul, sub, tanh } from '../../ops/pointwise.js';
import { resize } from '../../ops/resampling.js';
import { applyConvolution, convolutionParameters, requireThat } from '../../nn/layers.js';
import type { Parameter, Parameters } from '../../nn/parameters.js';
import type { Tensor } from '../../tensor/tensor.js';
import { defineComponent } from '../component.js';
import { extent } from '../sides.js';
import { factsOf, type Autoencoder } from './autoencoder.js';
import { activationNames, activations } from './blocks.js';
import { unused } from './options.js';
import { channelsFirst, channelsLast } from './unet.js';

const widths = z.array(extent).min(1).max(16).default([64, 64, 64, 64]);
const counts = (usual: number[]) => z.array(z.number().int().min(0).max(1000)).min(1).max(16).default(usual);

/** Options of diffusers' class, with its defaults. */
const schema = z.strictObject({
  in_channels: extent.default(3),
  out_channels: extent.default(3),
  encoder_block_out_channels: widths,
  decoder_block_out_channels: widths,
  act_fn: z.enum(activationNames).default('relu'),
  upsample_fn: z.enum(['nearest', 'bilinear']).default('nearest'),
  latent_channels: extent.default(4),
  upsampling_scaling_factor: extent.default(2),
  num_encoder_blocks: counts([1, 3, 3, 3]),
  num_decoder_blocks: counts([3, 3, 3, 1]),
  /** Only for latents as pictures. */
  latent_magnitude: unused(),
  latent_shift: unused(),
  block_out_channels: unused(),
  force_upcast: unused(),
  scaling_factor: z.number().positive().default(1),
  shift_factor: z.number().nullable().default(0),
});

/** One entry of the sequence that a file numbers: its parameters, and what it does to pictures [B, H, W, C]. */
interface Layer {
  parameters?: Parameter[];
  apply(p: Parameters, x: Tensor): Tensor;
}

/**
 * The tiny autoencoder of latent diffusion (Bohan, TAESD, 2023): diffusers' AutoencoderTiny, under its names. Its latents
 * are those of AutoencoderKL at the scale of networks.
 */
export const autoencoderTiny = defineComponent({ schema, build });

function build(options: z.infer<typeof schema>): Autoencoder {
  const { in_channels, out_channels, latent_channels, upsampling_scaling_factor: larger } = options;
  const { encoder_block_out_channels: down, decoder_block_out_channels: up } = options;
  for (const [widths, counts] of [
    ['encoder_block_out_channels', 'num_encoder_blocks'],
    ['decoder_block_out_channels', 'num_decoder_blocks'],
  ] as const) {
    const [{ length }, given] = [options[counts], options[widths]];
    requireThat(length === given.length, counts, `${length} counts for ${given.length} ${widths}`);
    // The convolutions between blocks keep the number of channels.
    requireThat(new Set(given).size === 1, widths, `[${given}]: all of them must be equal`);
  }
  const act = activations[options.act_fn];

  const convolution = (name: string, inputs: number, outputs: number, stride: 1 | 2 = 1, biased = true): Layer => ({
    parameters: convolutionParameters(name, inputs, outputs, 3).slice(0, biased ? 2 : 1),
    apply: (p, x) => conv2d(x, p(`${name}.weight`), biased ? p(`${name}.bias`) : undefined, { stride, padding: 1 }),
  });
  const residual = (name: string, channels: number): Layer => {
    const parts = [0, 2, 4].map((part) => `${name}.conv.${part}`);
    return {
      parameters: parts.flatMap((part) => convolutionParameters(part, channels, channels, 3)),
      apply: (p, x) => {
        const y = parts.reduce((h, part, i) => applyConvolution(p, part, i ? act(h) : h, { padding: 1 }), x);
        return relu(add(y, x));
      },
    };
  };
  const plain = (apply: (x: Tensor) => Tensor): Layer => ({ apply: (_, x) => apply(x) });
  const enlarging = plain((x) => resize(x, [x.shape[1] * larger, x.shape[2] * larger], options.upsample_fn));

  // Files number every entry of the sequences, those without weights too.
  const numbered = (name: string, layers: ((name: string) => Layer)[]) =>
    layers.map((layer, i) => layer(`${name}.layers.${i}`));
  const encoder = numbered('encoder', [
    ...down.flatMap((width, i) => [
      (name: string) => (i ? convolution(name, width, width, 2, false) : convolution(name, in_channels, width)),
      ...Array.from({ length: options.num_encoder_blocks[i] }, () => (name: string) => residual(name, width)),
    ]),
    (name) => convolution(name, down[down.length - 1], latent_channels),
  ]);
  const decoder = numbered('decoder', [
    (name) => convolution(name, latent_channels, up[0]),
    () => plain(act),
    ...up.flatMap((width, i) => {
      const last = i === up.length - 1;
      return [
        ...Array.from({ length: options.num_decoder_blocks[i] }, () => (name: string) => residual(name, width)),
        ...(last ? [] : [() => enlarging]),
        (name: string) => convolution(name, width, last ? out_channels : width, 1, last),
      ];
    }),
  ]);
  const run = (p: Parameters, layers: readonly Layer[], x: Tensor) =>
    channelsFirst(layers.reduce((h, layer) => layer.apply(p, h), channelsLast(x)));

  const { scaling_factor: factor } = options;
  const shift = options.shift_factor ?? 0;
  const shape = {
    imageChannels: in_channels,
    latentChannels: latent_channels,
    factor: 2 ** (down.length - 1),
  };
  return {
    parameters: [...encoder, ...decoder].flatMap((layer) => layer.parameters ?? []),
    ...shape,
    facts: factsOf(shape, factor),
    encode: (p, images) => ({ mean: run(p, encoder, mul(add(images, 1), 0.5)) }),
    // Latents beyond 3 are drawn in, smoothly.
    decode: (p, latents) => sub(mul(run(p, decoder, mul(tanh(div(latents, 3)), 3)), 2), 1),
    scaled: (latents) => mul(sub(latents, shift), factor),
    unscaled: (latents) => add(div(latents, factor), shift),
  };
}
