import { attention } from '../../ops/attention.js';
import { averagePool } from '../../ops/pooling.js';
import { resize, upsampleNearest } from '../../ops/resampling.js';
import { pad, reshape, split } from '../../ops/movement.js';
import { modulate } from '../../ops/normalization.js';
import { gelu, mish, relu, silu } from '../../ops/activations.js';
import { add, mul } from '../../ops/pointwise.js';
import { fanIn } from '../../nn/initializers.js';
import {
  affineGroupNorm,
  affineLayerNorm,
  applyConvolution,
  applyLinear,
  applyMatrix,
  convolutionParameters,
  linearParameters,
  normParameters,
  requireThat,
} from '../../nn/layers.js';
import type { Parameter, Parameters } from '../../nn/parameters.js';
import type { Extents } from '../../ops/patches.js';
import type { Tensor } from '../../tensor/tensor.js';

/** Activations by the names that configurations have for them. */
export const activations = { silu, swish: silu, mish, gelu, relu } as const;
/** Such a name. */
export type Activation = keyof typeof activations;
export const activationNames = Object.keys(activations) as [Activation, ...Activation[]];

/**
 * A piece of a network: its parameters, and what it does to images [B, H, W, C] under an embedding [B, width] of time and
 * class and a context [B, tokens, width], where it takes them.
 */
export interface Layer {
  readonly parameters: readonly Parameter[];
  apply(parameters: Parameters, x: Tensor, embedding?: Tensor, context?: Tensor): Tensor;
}

/** How a block normalises: groups of channels, and what is added to variances. */
export interface GroupNorm {
  groups: number;
  epsilon: number;
}

function checkGroups(channels: number, { groups }: GroupNorm): void {
  requireThat(channels % groups === 0, 'norm_num_groups', `${groups} groups do not divide ${channels} channels`);
}

/** A 3 x 3 convolution that halves images: without padding it pads one row and column below and to the right. */
export function downsampler(name: string, channels: number, padding: number): Layer {
  return {
    parameters: convolutionParameters(`${name}.conv`, channels, channels, 3),
    apply: (p, x) => {
      const [n, h, w, c] = x.shape;
      const padded = padding ? x : pad(x, [0, 0, 0, 0], [n, h + 1, w + 1, c]);
      return applyConvolution(p, `${name}.conv`, padded, { stride: 2, padding });
    },
  };
}

/** A 3 x 3 convolution behind an enlargement by the nearest pixel to a given size. */
export function upsampler(name: string, channels: number) {
  return {
    parameters: convolutionParameters(`${name}.conv`, channels, channels, 3),
    apply: (p: Parameters, x: Tensor, size: Extents): Tensor =>
      applyConvolution(p, `${name}.conv`, resize(x, size, 'nearest'), { padding: 1 }),
  };
}

/** What a residual block is made of. */
export interface ResidualOptions {
  inputs: number;
  outputs: number;
  /** Width of the embedding; left out where there is none. */
  embedding?: number;
  norm: GroupNorm;
  activation?: Activation;
  /** The embedding modulates the second norm by scale and shift; else it is added before it. */
  scaleShift?: boolean;
  /** The sum is divided by it. */
  outputScale?: number;
  /** Images change their size within the block. */
  resized?: 'up' | 'down';
}

const resizing = { up: upsampleNearest, down: averagePool };

/** ResnetBlock2D: two normalised convolutions around the embedding, beside the block's input. */
export function residualBlock(name: string, options: ResidualOptions): Layer {
  const { inputs, outputs, embedding: width, norm, activation = 'silu', scaleShift = false, outputScale = 1 } = options;
  checkGroups(inputs, norm);
  checkGroups(outputs, norm);
  const act = activations[activation];
  const change = options.resized ? resizing[options.resized] : (x: Tensor) => x;
  const normalized = (p: Parameters, part: string, x: Tensor) =>
    affineGroupNorm(p, `${name}.${part}`, x, norm.groups, norm.epsilon);
  return {
    parameters: [
      ...normParameters(`${name}.norm1`, inputs),
      ...convolutionParameters(`${name}.conv1`, inputs, outputs, 3),
      ...(width ? linearParameters(`${name}.time_emb_proj`, width, scaleShift ? 2 * outputs : outputs) : []),
      ...normParameters(`${name}.norm2`, outputs),
      ...convolutionParameters(`${name}.conv2`, outputs, outputs, 3),
      ...(inputs === outputs ? [] : pointwiseParameters(`${name}.conv_shortcut`, inputs, outputs)),
    ],
    apply: (p, x, embedding) => {
      let h = applyConvolution(p, `${name}.conv1`, change(act(normalized(p, 'norm1', x))), { padding: 1 });
      const vector =
        width && embedding
          ? reshape(applyLinear(p, `${name}.time_emb_proj`, act(embedding)), [x.shape[0], 1, 1, -1])
          : undefined;
      if (vector && scaleShift) {
        const [scale, shift] = split(vector, 3, 2);
        h = modulate(normalized(p, 'norm2', h), scale, shift);
      } else h = normalized(p, 'norm2', vector ? add(h, vector) : h);
      h = applyConvolution(p, `${name}.conv2`, act(h), { padding: 1 });
      const beside = change(x);
      const sum = add(inputs === outputs ? beside : applyLinear(p, `${name}.conv_shortcut`, beside), h);
      return mul(sum, 1 / outputScale);
    },
  };
}

/** A 1 x 1 convolution, kept as the matrix that it is. */
function pointwiseParameters(name: string, inputs: number, outputs: number): Parameter[] {
  const [weight, bias] = linearParameters(name, inputs, outputs);
  return [{ ...weight, shape: [outputs, inputs, 1, 1] }, bias];
}

/** A matrix without bias. */
const matrixParameters = (name: string, inputs: number, outputs: number): Parameter[] => [
  { name: `${name}.weight`, shape: [outputs, inputs], initializer: fanIn(inputs) },
];

/** What self-attention over pixels is made of. */
export interface PixelAttentionOptions {
  channels: number;
  /** Channels of a head. */
  headSize: number;
  /** Null for none. */
  norm: GroupNorm | null;
  /** The sum with the input is divided by it. */
  outputScale?: number;
}

/** Self-attention over all pixels, beside the block's input. */
export function pixelAttention(name: string, options: PixelAttentionOptions): Layer {
  const { channels, headSize, norm, outputScale = 1 } = options;
  const heads = Math.floor(channels / headSize);
  requireThat(heads > 0, 'attention_head_dim', `a head of ${headSize} is wider than the ${channels} channels`);
  if (norm) checkGroups(channels, norm);
  const inner = heads * headSize;
  return {
    parameters: [
      ...(norm ? normParameters(`${name}.group_norm`, channels) : []),
      ...['to_q', 'to_k', 'to_v'].flatMap((part) => linearParameters(`${name}.${part}`, channels, inner)),
      ...linearParameters(`${name}.to_out.0`, inner, channels),
    ],
    apply: (p, x) => {
      const normalized = norm ? affineGroupNorm(p, `${name}.group_norm`, x, norm.groups, norm.epsilon) : x;
      const tokens = reshape(normalized, [x.shape[0], -1, channels]);
      const [q, k, v] = ['to_q', 'to_k', 'to_v'].map((part) => applyLinear(p, `${name}.${part}`, tokens));
      const mixed = applyLinear(p, `${name}.to_out.0`, attention(q, k, v, heads));
      return mul(add(x, reshape(mixed, x.shape)), 1 / outputScale);
    },
  };
}

/** What a transformer over pixels is made of. */
export interface PixelTransformerOptions {
  channels: number;
  heads: number;
  /** Blocks one after another. */
  depth: number;
  /** Width of the context; null for none. */
  context: number | null;
  /** The first attention of a block is over the context as well. */
  onlyCross: boolean;
  groups: number;
  /** Projections are linear layers in files, else 1 x 1 convolutions. */
  linearProjection: boolean;
}

// Of the transformer's own norms, whatever the rest of the network has.
const [groupEpsilon, layerEpsilon] = [1e-6, 1e-5];

/** Transformer2DModel within a UNet: pixels attend to each other and to the context, beside the block's input. */
export function pixelTransformer(name: string, options: PixelTransformerOptions): Layer {
  const { channels, heads, depth, context: contextWidth, onlyCross, groups, linearProjection } = options;
  const norm = { groups, epsilon: groupEpsilon };
  checkGroups(channels, norm);
  const headSize = Math.floor(channels / heads);
  requireThat(headSize > 0, 'attention_head_dim', `${heads} heads are more than ${channels} channels`);
  const width = heads * headSize;
  const projection = linearProjection ? linearParameters : pointwiseParameters;
  const attentionParameters = (part: string, keys: number) => [
    ...matrixParameters(`${part}.to_q`, width, width),
    ...matrixParameters(`${part}.to_k`, keys, width),
    ...matrixParameters(`${part}.to_v`, keys, width),
    ...linearParameters(`${part}.to_out.0`, width, width),
  ];
  const attend = (p: Parameters, part: string, x: Tensor, keys: Tensor) => {
    const [q, k, v] = [
      applyMatrix(p, `${part}.to_q.weight`, x),
      applyMatrix(p, `${part}.to_k.weight`, keys),
      applyMatrix(p, `${part}.to_v.weight`, keys),
    ];
    return applyLinear(p, `${part}.to_out.0`, attention(q, k, v, heads));
  };
  const blocks = Array.from({ length: depth }, (_, i) => `${name}.transformer_blocks.${i}`);
  return {
    parameters: [
      ...normParameters(`${name}.norm`, channels),
      ...projection(`${name}.proj_in`, channels, width),
      ...blocks.flatMap((block) => [
        ...normParameters(`${block}.norm1`, width),
        ...attentionParameters(`${block}.attn1`, onlyCross ? (contextWidth ?? width) : width),
        ...(contextWidth === null
          ? []
          : [...normParameters(`${block}.norm2`, width), ...attentionParameters(`${block}.attn2`, contextWidth)]),
        ...normParameters(`${block}.norm3`, width),
        ...linearParameters(`${block}.ff.net.0.proj`, width, 8 * width),
        ...linearParameters(`${block}.ff.net.2`, 4 * width, width),
      ]),
      ...projection(`${name}.proj_out`, width, channels),
    ],
    apply: (p, x, _, context) => {
      const tokens = reshape(affineGroupNorm(p, `${name}.norm`, x, groups, groupEpsilon), [x.shape[0], -1, channels]);
      let h = applyLinear(p, `${name}.proj_in`, tokens);
      for (const block of blocks) {
        const normalized = (part: string) => affineLayerNorm(p, `${block}.${part}`, h, layerEpsilon);
        const first = normalized('norm1');
        h = add(h, attend(p, `${block}.attn1`, first, onlyCross && context ? context : first));
        if (contextWidth !== null) h = add(h, attend(p, `${block}.attn2`, normalized('norm2'), context!));
        const [value, gate] = split(applyLinear(p, `${block}.ff.net.0.proj`, normalized('norm3')), 2, 2);
        h = add(h, applyLinear(p, `${block}.ff.net.2`, mul(value, gelu(gate))));
      }
      return add(x, reshape(applyLinear(p, `${name}.proj_out`, h), x.shape));
    },
  };
}
