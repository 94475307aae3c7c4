import * as z from 'zod';
import { attention } from '../ops/attention.js';
import { concat, patchify, permute, reshape, slice, split } from '../ops/movement.js';
import { layerNorm, modulate } from '../ops/normalization.js';
import { geluTanh, silu } from '../ops/activations.js';
import { add, mul } from '../ops/pointwise.js';
import { gridPositions, normal, xavier, zeros } from '../nn/initializers.js';
import {
  applyLinear,
  applyLinears,
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
import { tensor, type Tensor } from '../tensor/tensor.js';
import { defineBackbone, type SampleLaw } from './backbone.js';
import type { BuildOptions, ModelParts } from './model.js';
import { cropSides, defaultPatch, extent, padSides, raised, repetition, sides, sidesOf, statedSides } from './sides.js';

const schema = z.strictObject({
  inputSize: sides,
  /** Where it does not divide a side, the picture is continued by zeros. */
  patchSize: extent,
  inChannels: extent,
  hiddenSize: extent,
  depth: repetition,
  numHeads: extent,
  mlpRatio: z.number().positive().default(4),
  /** 0 for an unconditional network; else the table has one more row, which stands for none (but see `nullClass`). */
  numClasses: extent.or(z.literal(0)),
  /** Whether the table has that row: public training without label dropout leaves it out. Default true. */
  nullClass: z.boolean().optional(),
  /** Whether files hold the positions, which are fixed. Default true. */
  savedPositions: z.boolean().optional(),
  /** Whether queries, keys and values have a bias. Default true. */
  qkvBias: z.boolean().optional(),
  /** The network has twice the channels; the second half is dropped, as in the public forward pass. */
  learnSigma: z.boolean().default(false),
});

const epsilon = 1e-6;
const frequencies = 256;
const tableName = 'y_embedder.embedding_table.weight';

/**
 * SiT / DiT with adaLN-zero (Peebles and Xie, 2023; Ma et al., 2024) under the public state dict's names.
 * The second time input is added to the condition.
 */
export const sit = defineBackbone({ name: 'sit', schema, defaults, build });

function defaults({ shape, classes }: SampleLaw): z.input<typeof schema> | null {
  if (shape.length !== 3) return null;
  const [inChannels, height, width] = shape;
  return {
    inputSize: statedSides(height, width),
    patchSize: defaultPatch(height, width),
    inChannels,
    hiddenSize: 96,
    depth: 4,
    numHeads: 3,
    mlpRatio: 4,
    numClasses: classes,
    learnSigma: false,
  };
}

function build(config: z.infer<typeof schema>, { twoTime, checkpointBlocks, guided }: BuildOptions): ModelParts {
  const { patchSize, inChannels, hiddenSize: width, depth, numHeads, numClasses, learnSigma } = config;
  const { nullClass = true, savedPositions = true, qkvBias = true } = config;
  const size = sidesOf(config.inputSize);
  const padded = raised(size, patchSize);
  const [rows, columns] = [padded[0] / patchSize, padded[1] / patchSize];
  requireThat(width % numHeads === 0, 'numHeads', `${numHeads} does not divide a width of ${width}`);
  requireThat(width % 4 === 0, 'hiddenSize', `${width} is not a multiple of 4, which the position embedding needs`);
  const hidden = Math.round(width * config.mlpRatio);
  const outChannels = learnSigma ? 2 * inChannels : inChannels;
  const dense = (name: string, inputs: number, outputs: number) =>
    linearParameters(name, inputs, outputs, xavier, zeros);
  const zeroed = (name: string, inputs: number, outputs: number) =>
    linearParameters(name, inputs, outputs, zeros, zeros);
  const small = (name: string, inputs: number, outputs: number) =>
    linearParameters(name, inputs, outputs, normal(0.02), zeros);
  const positionShape = [1, rows * columns, width];
  const parameters = [
    ...(savedPositions
      ? [{ name: 'pos_embed', shape: positionShape, initializer: gridPositions(columns), frozen: true }]
      : []),
    { name: 'x_embedder.proj.weight', shape: [width, inChannels, patchSize, patchSize], initializer: xavier },
    { name: 'x_embedder.proj.bias', shape: [width], initializer: zeros },
    ...small('t_embedder.mlp.0', frequencies, width),
    ...small('t_embedder.mlp.2', width, width),
    ...(numClasses
      ? [{ name: tableName, shape: [numClasses + Number(nullClass), width], initializer: normal(0.02) }]
      : []),
    ...Array.from({ length: depth }, (_, i) => [
      ...dense(`blocks.${i}.attn.qkv`, width, 3 * width).slice(0, qkvBias ? 2 : 1),
      ...dense(`blocks.${i}.attn.proj`, width, width),
      ...dense(`blocks.${i}.mlp.fc1`, width, hidden),
      ...dense(`blocks.${i}.mlp.fc2`, hidden, width),
      ...zeroed(`blocks.${i}.adaLN_modulation.1`, width, 6 * width),
    ]).flat(),
    ...zeroed('final_layer.linear', width, patchSize * patchSize * outChannels),
    ...zeroed('final_layer.adaLN_modulation.1', width, 2 * width),
    ...(twoTime ? jumpParameters(width) : []),
    ...(guided ? guidanceParameters(width) : []),
  ];

  const embedTime = (p: Parameters, t: Tensor) => {
    const { sines, cosines } = sinusoids(t, frequencies / 2, frequencies / 2);
    return applyLinear(p, 't_embedder.mlp.2', silu(applyLinear(p, 't_embedder.mlp.0', concat([cosines, sines], 1))));
  };
  /** Scale, shift and gate vectors of a block: [B, 1, width] each. */
  const vectors = (modulation: Tensor) =>
    split(modulation, 1, modulation.shape[1] / width).map((part) => reshape(part, [part.shape[0], 1, width]));
  const modulations = Array.from({ length: depth }, (_, i) => `blocks.${i}.adaLN_modulation.1`);

  const qkv = (p: Parameters, name: string, x: Tensor) =>
    applyMatrix(p, `${name}.weight`, x, qkvBias ? `${name}.bias` : undefined);
  const positions = (p: Parameters) =>
    savedPositions ? p('pos_embed') : tensor(gridPositions(columns)(positionShape, 0, 0), positionShape);

  const blockAt =
    (i: number): Block =>
    (p, h, modulation) => {
      const block = `blocks.${i}`;
      const [shift1, scale1, gate1, shift2, scale2, gate2] = vectors(modulation);
      const [q, k, v] = split(qkv(p, `${block}.attn.qkv`, modulate(layerNorm(h, epsilon), scale1, shift1)), 2, 3);
      const attended = add(h, mul(gate1, applyLinear(p, `${block}.attn.proj`, attention(q, k, v, numHeads))));
      const modulated = modulate(layerNorm(attended, epsilon), scale2, shift2);
      const mixed = geluTanh(applyLinear(p, `${block}.mlp.fc1`, modulated));
      return add(attended, mul(gate2, applyLinear(p, `${block}.mlp.fc2`, mixed)));
    };

  return {
    sampleShape: [inChannels, ...size],
    classes: numClasses,
    nullClass: numClasses > 0 && nullClass,
    parameters,
    adapted: /^blocks\.\d+\.(attn|mlp)\./,
    opens: /^blocks\.\d+\.(attn|mlp)\./,
    apply: (p, { x, time, jump, labels, guidance: w }) => {
      const batch = x.shape[0];
      let c = embedTime(p, time);
      if (jump) c = add(c, embedJump(p, jump));
      if (w) c = add(c, embedGuidance(p, w));
      if (numClasses) c = add(c, embedLabels(p(tableName), labels, batch, nullClass));
      let h = add(applyLinear(p, 'x_embedder.proj', patchify(padSides(x, 2, padded), patchSize)), positions(p));
      const condition = silu(c);
      applyLinears(p, modulations, condition).forEach((modulation, i) => {
        h = runBlock(blockAt(i), p, [h, modulation], checkpointBlocks);
      });
      const [shift, scale] = vectors(applyLinear(p, 'final_layer.adaLN_modulation.1', condition));
      const patches = applyLinear(p, 'final_layer.linear', modulate(layerNorm(h, epsilon), scale, shift));
      // Patches come as (row, column, channel): 'nhwpqc -> nchpwq'.
      const grid = reshape(patches, [batch, rows, columns, patchSize, patchSize, outChannels]);
      const image = reshape(permute(grid, [0, 5, 1, 3, 2, 4]), [batch, outChannels, ...padded]);
      return cropSides(slice(image, 1, 0, inChannels), 2, size);
    },
  };
}
