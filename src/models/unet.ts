import * as z from 'zod';
import { attention } from '../ops/attention.js';
import { averagePool } from '../ops/pooling.js';
import { upsampleNearest } from '../ops/resampling.js';
import { concat, gather, permute, reshape, slice, split } from '../ops/movement.js';
import { modulate } from '../ops/normalization.js';
import { silu } from '../ops/activations.js';
import { add } from '../ops/pointwise.js';
import { fanIn, normal, zeros } from '../nn/initializers.js';
import {
  affineGroupNorm,
  applyConvolution,
  applyLinear,
  applyLinears,
  convolutionParameters,
  embedJump,
  jumpParameters,
  linearParameters,
  normParameters,
  requireThat,
  sinusoids,
} from '../nn/layers.js';
import { UserError } from '../errors.js';
import { runBlock, type Block } from '../nn/rematerialize.js';
import type { Parameter, Parameters } from '../nn/parameters.js';
import type { Tensor } from '../tensor/tensor.js';
import { defineBackbone, type SampleLaw } from './backbone.js';
import type { BuildOptions, ModelParts } from './model.js';
import { cropSides, extent, padSides, raised, repetition, sides, sidesOf, statedSides } from './sides.js';

const schema = z.strictObject({
  /** Where the levels do not halve it to the end, the picture is continued by zeros. */
  imageSize: sides,
  inChannels: extent,
  modelChannels: extent,
  numResBlocks: repetition,
  /** Width of each level over `modelChannels`; every level but the last halves the image. */
  channelMult: z.array(z.number().positive().max(1000)).min(1).max(16),
  /** Widths of images at which attention follows a residual block: those whose share of `imageSize` is a level. */
  attentionResolutions: z.array(extent).max(16).default([16]),
  numHeads: z.number().int().default(1),
  /** Channels of a head, in place of `numHeads`; -1 for none. */
  numHeadChannels: z.number().int().default(-1),
  /** Heads on the way up; -1 for as many as on the way down. */
  numHeadsUpsample: z.number().int().default(-1),
  /** Time and class modulate the second norm by scale and shift; else they are added before it. */
  useScaleShiftNorm: z.boolean().default(false),
  /** Residual blocks change the size of images, in place of strided and upsampled convolutions. */
  resblockUpdown: z.boolean().default(false),
  /** Queries of all heads come before all keys; else each head has its three together. */
  useNewAttentionOrder: z.boolean().default(false),
  /** 0 for an unconditional network. The table has no row for none: every sample needs a class. */
  numClasses: extent.or(z.literal(0)).default(0),
});

const normGroups = 32;
const normEpsilon = 1e-5;

/** One piece of a block: its parameters, and what it does to images [B, H, W, C]. */
interface Layer {
  parameters: Parameter[];
  /** The linear layer, if any, that gives it what it is told of the embedding of time and class, [B, …]. */
  told?: string;
  apply(p: Parameters, x: Tensor, told: Tensor): Tensor;
}

/**
 * The ADM UNet (Dhariwal and Nichol, 2021) as TorchCFM wraps it, under the public state dict's names; t is used as it is.
 * The second time input is added to the embedding.
 */
export const unet = defineBackbone({ name: 'unet', schema, defaults, build });

function defaults({ shape, classes }: SampleLaw): z.input<typeof schema> | null {
  if (shape.length !== 3) return null;
  const [inChannels, height, width] = shape;
  // Three levels where three can be; more where attention over the last would still be over many pixels.
  let levels = 1;
  const [rows, columns] = [height, width].map((side) => () => side / 2 ** (levels - 1));
  while (Math.min(rows(), columns()) >= 4 && (levels < 3 || rows() * columns() > 256)) levels++;
  return {
    imageSize: statedSides(height, width),
    inChannels,
    modelChannels: 32,
    numResBlocks: 1,
    channelMult: Array.from({ length: levels }, (_, level) => Math.min(2, level + 1)),
    attentionResolutions: [Math.max(1, Math.floor(columns()))],
    numHeads: 2,
    // Of one channel a group, a sum in front of a norm leaves nothing: time and class would not be heard.
    useScaleShiftNorm: true,
    numClasses: classes,
  };
}

function build(config: z.infer<typeof schema>, { twoTime, checkpointBlocks }: BuildOptions): ModelParts {
  const { inChannels, modelChannels, channelMult, numClasses, numResBlocks } = config;
  const size = sidesOf(config.imageSize);
  const padded = raised(size, 2 ** (channelMult.length - 1));
  const width = 4 * modelChannels;
  requireThat(modelChannels % 2 === 0, 'modelChannels', `${modelChannels} is odd, half of them are sines`);
  const channelsOf = (mult: number) => Math.floor(mult * modelChannels);
  for (const mult of channelMult) {
    const channels = channelsOf(mult);
    requireThat(channels % normGroups === 0, 'channelMult', `${channels} channels do not form ${normGroups} groups`);
  }
  const attended = config.attentionResolutions.map((resolution) => Math.floor(size[1] / resolution));

  const layers: Layer[] = [];
  const register = (layer: Layer): Layer => {
    layers.push(layer);
    return layer;
  };
  const residual = (name: string, inputs: number, outputs: number, resize?: Resize) =>
    register(residualBlock(name, inputs, outputs, width, config.useScaleShiftNorm, resize));
  const attentive = (name: string, channels: number, heads: number) =>
    register(
      attentionBlock(
        name,
        channels,
        config.numHeadChannels > 0 ? channels / config.numHeadChannels : heads,
        config.useNewAttentionOrder,
      ),
    );

  let channels = channelsOf(channelMult[0]);
  let scale = 1;
  const inputBlocks: Layer[][] = [[register(convolution('input_blocks.0.0', inChannels, channels))]];
  const skips = [channels];
  channelMult.forEach((mult, level) => {
    for (let i = 0; i < numResBlocks; i++) {
      const name = `input_blocks.${inputBlocks.length}`;
      const block = [residual(`${name}.0`, channels, channelsOf(mult))];
      channels = channelsOf(mult);
      if (attended.includes(scale)) block.push(attentive(`${name}.1`, channels, config.numHeads));
      inputBlocks.push(block);
      skips.push(channels);
    }
    if (level === channelMult.length - 1) return;
    const name = `input_blocks.${inputBlocks.length}.0`;
    inputBlocks.push([
      config.resblockUpdown
        ? residual(name, channels, channels, 'down')
        : register(convolution(`${name}.op`, channels, channels, { stride: 2 })),
    ]);
    skips.push(channels);
    scale *= 2;
  });
  const middle: Layer[] = [
    residual('middle_block.0', channels, channels),
    attentive('middle_block.1', channels, config.numHeads),
    residual('middle_block.2', channels, channels),
  ];
  const outputBlocks: Layer[][] = [];
  const upHeads = config.numHeadsUpsample === -1 ? config.numHeads : config.numHeadsUpsample;
  for (let level = channelMult.length - 1; level >= 0; level--) {
    for (let i = 0; i <= numResBlocks; i++) {
      const name = `output_blocks.${outputBlocks.length}`;
      const block = [residual(`${name}.0`, channels + skips.pop()!, channelsOf(channelMult[level]))];
      channels = channelsOf(channelMult[level]);
      if (attended.includes(scale)) block.push(attentive(`${name}.${block.length}`, channels, upHeads));
      if (level && i === numResBlocks) {
        const up = `${name}.${block.length}`;
        block.push(
          config.resblockUpdown
            ? residual(up, channels, channels, 'up')
            : register(convolution(`${up}.conv`, channels, channels, { upsample: true })),
        );
        scale /= 2;
      }
      outputBlocks.push(block);
    }
  }
  const parameters = [
    ...linearParameters('time_embed.0', modelChannels, width),
    ...linearParameters('time_embed.2', width, width),
    ...(numClasses ? [{ name: 'label_emb.weight', shape: [numClasses, width], initializer: normal(1) }] : []),
    ...layers.flatMap((layer) => layer.parameters),
    ...normParameters('out.0', channels),
    ...convolutionParameters('out.2', channels, inChannels, 3, zeros),
    ...(twoTime ? jumpParameters(width) : []),
  ];

  const embedTime = (p: Parameters, t: Tensor) => {
    const { sines, cosines } = sinusoids(t, modelChannels / 2, modelChannels / 2);
    return applyLinear(p, 'time_embed.2', silu(applyLinear(p, 'time_embed.0', concat([cosines, sines], 1))));
  };
  const run = (p: Parameters, block: Layer[], x: Tensor, told: ReadonlyMap<Layer, Tensor>) =>
    block.reduce((h, layer) => {
      const condition = told.get(layer);
      const apply: Block = (weights, y, vector) => layer.apply(weights, y, vector);
      return runBlock(apply, p, condition ? [h, condition] : [h], checkpointBlocks);
    }, x);

  return {
    sampleShape: [inChannels, ...size],
    classes: numClasses,
    nullClass: false,
    parameters,
    adapted: /(_layers\.[23]|skip_connection|qkv|proj_out|op|conv|input_blocks\.0\.0|^out\.2)\.weight$/,
    opens: /(out_layers\.3|qkv|proj_out)\.weight$/,
    apply: (p, { x, time, jump, labels }) => {
      let embedding = embedTime(p, time);
      if (jump) embedding = add(embedding, embedJump(p, jump));
      if (numClasses) {
        if (!labels) throw new UserError('this UNet knows no sample without a class: give every sample a label');
        embedding = add(embedding, gather(p('label_emb.weight'), labels));
      }
      const telling = layers.filter(({ told }) => told);
      const conditions = applyLinears(
        p,
        telling.map(({ told }) => told!),
        silu(embedding),
      );
      const told = new Map(telling.map((layer, i) => [layer, conditions[i]]));
      let h = permute(padSides(x, 2, padded), [0, 2, 3, 1]);
      const saved: Tensor[] = [];
      for (const block of inputBlocks) saved.push((h = run(p, block, h, told)));
      h = run(p, middle, h, told);
      for (const block of outputBlocks) h = run(p, block, concat([h, saved.pop()!], 3), told);
      h = silu(affineGroupNorm(p, 'out.0', h, normGroups, normEpsilon));
      return cropSides(permute(applyConvolution(p, 'out.2', h, { padding: 1 }), [0, 3, 1, 2]), 2, size);
    },
  };
}

/** A 3 x 3 convolution that may halve or double the image. */
function convolution(name: string, inputs: number, outputs: number, { stride = 1, upsample = false } = {}): Layer {
  return {
    parameters: convolutionParameters(name, inputs, outputs, 3),
    apply: (p, x) => applyConvolution(p, name, upsample ? upsampleNearest(x) : x, { stride, padding: 1 }),
  };
}

type Resize = 'up' | 'down';
const resized = { up: upsampleNearest, down: averagePool };

/** Two normalised convolutions around the embedding, beside the block's input. */
function residualBlock(
  name: string,
  inputs: number,
  outputs: number,
  embeddingWidth: number,
  scaleShift: boolean,
  resize?: Resize,
): Layer {
  return {
    parameters: [
      ...normParameters(`${name}.in_layers.0`, inputs),
      ...convolutionParameters(`${name}.in_layers.2`, inputs, outputs, 3),
      ...linearParameters(`${name}.emb_layers.1`, embeddingWidth, scaleShift ? 2 * outputs : outputs),
      ...normParameters(`${name}.out_layers.0`, outputs),
      ...convolutionParameters(`${name}.out_layers.3`, outputs, outputs, 3, zeros),
      ...(inputs === outputs ? [] : convolutionParameters(`${name}.skip_connection`, inputs, outputs, 1)),
    ],
    told: `${name}.emb_layers.1`,
    apply: (p, x, condition) => {
      const resizing = resize ? resized[resize] : (y: Tensor) => y;
      const norm = (part: string, y: Tensor) => affineGroupNorm(p, `${name}.${part}`, y, normGroups, normEpsilon);
      let h = resizing(silu(norm('in_layers.0', x)));
      h = applyConvolution(p, `${name}.in_layers.2`, h, { padding: 1 });
      const vector = reshape(condition, [condition.shape[0], 1, 1, condition.shape[1]]);
      if (scaleShift) {
        const [scale, shift] = split(vector, 3, 2);
        h = modulate(norm('out_layers.0', h), scale, shift);
      } else h = norm('out_layers.0', add(h, vector));
      h = applyConvolution(p, `${name}.out_layers.3`, silu(h), { padding: 1 });
      const skipped = resizing(x);
      return add(inputs === outputs ? skipped : applyConvolution(p, `${name}.skip_connection`, skipped), h);
    },
  };
}

/** Self-attention over all pixels, beside the block's input. */
function attentionBlock(name: string, channels: number, heads: number, newOrder: boolean): Layer {
  requireThat(Number.isInteger(channels / heads), 'numHeads', `${heads} heads do not divide ${channels} channels`);
  const projection = (part: string, outputs: number, initializer = fanIn(channels)): Parameter[] => [
    { name: `${name}.${part}.weight`, shape: [outputs, channels, 1], initializer },
    { name: `${name}.${part}.bias`, shape: [outputs], initializer },
  ];
  return {
    parameters: [
      ...normParameters(`${name}.norm`, channels),
      ...projection('qkv', 3 * channels),
      ...projection('proj_out', channels, zeros),
    ],
    apply: (p, x) => {
      const tokens = reshape(affineGroupNorm(p, `${name}.norm`, x, normGroups, normEpsilon), [
        x.shape[0],
        -1,
        channels,
      ]);
      const [batch, count] = tokens.shape;
      const qkv = applyLinear(p, `${name}.qkv`, tokens);
      const parts = newOrder ? [3, channels] : [heads, 3, channels / heads];
      const axis = newOrder ? 2 : 3;
      const [q, k, v] = [0, 1, 2].map((part) =>
        reshape(slice(reshape(qkv, [batch, count, ...parts]), axis, part, part + 1), tokens.shape),
      );
      const mixed = applyLinear(p, `${name}.proj_out`, attention(q, k, v, heads));
      return add(x, reshape(mixed, x.shape));
    },
  };
}
