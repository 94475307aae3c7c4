import * as z from 'zod';
import { averagePool } from '../ops/pooling.js';
import { linear } from '../ops/matmul.js';
import { permute, reshape } from '../ops/movement.js';
import { div, maximum, sub } from '../ops/pointwise.js';
import {
  applyBatchNorm,
  applyConvolution,
  batchNormParameters,
  convolutionParameters,
  linearParameters,
  requireThat,
} from '../nn/layers.js';
import type { Parameter, Parameters } from '../nn/parameters.js';
import type { SampleLaw } from './backbone.js';
import { extent } from './sides.js';
import type { Shape } from '../tensor/shape.js';
import type { Tensor } from '../tensor/tensor.js';

export const classifierSchema = z.strictObject({
  kind: z.literal('cnn'),
  /** [channels, height, width] */
  imageShape: z.tuple([extent, extent, extent]),
  /** Outputs of each 3 x 3 convolution, a ReLU after each. */
  channels: z.array(extent).min(1).max(100),
  /** Zeros around the image before each convolution. */
  padding: z.union([z.literal(0), z.literal(1)]).default(1),
  /** How many of the first convolutions are followed by 2 x 2 average pooling. */
  pooled: z.number().int().min(0).default(0),
  /** Batch norm after the last convolution (`norm1`) and on the logits (`norm2`), by its running statistics. */
  norms: z.boolean().default(false),
  /** Width of the layer before the logits, whose ReLU outputs are the features. */
  features: extent,
  classes: extent.min(2),
  /** Pixels from 0 to 1 are taken as (pixel - mean) / std. */
  mean: z.number().default(0),
  std: z.number().positive().default(1),
});
/** The architecture of a classifier, as its file describes it. */
export type ClassifierConfig = z.infer<typeof classifierSchema>;

/** The classifier that images get unless another is described: three convolutions over what can be halved. */
export function defaultClassifier({ shape, classes }: SampleLaw): ClassifierConfig {
  const [channels, height, width] = shape;
  const halvings = [2, 1, 0].find((times) => [height, width].every((side) => side % 2 ** times === 0))!;
  return classifierSchema.parse({
    kind: 'cnn',
    imageShape: [channels, height, width],
    channels: [32, 64, 64],
    pooled: halvings,
    features: 64,
    classes,
    mean: 0.5,
    std: 0.5,
  });
}

/** A small convolutional classifier: its parameters and its graph. */
export interface Classifier {
  readonly imageShape: Shape;
  readonly classes: number;
  readonly parameters: readonly Parameter[];
  /** Features [B, features] and logits [B, classes] of images [B, C, H, W] with pixels from 0 to 1. */
  apply(parameters: Parameters, images: Tensor): { features: Tensor; logits: Tensor };
}

const kernel = 3;

/**
 * Convolutions `conv1` …, then `fc1` (the features) and `fc2` (the logits), under the names of PyTorch's MNIST examples.
 * @throws UserError naming the key whose value cannot work
 */
export function classifier(config: ClassifierConfig): Classifier {
  const { imageShape, channels, padding, pooled, norms, features, classes, mean, std } = config;
  let [height, width] = imageShape.slice(1);
  const parameters: Parameter[] = [];
  channels.forEach((outputs, i) => {
    parameters.push(...convolutionParameters(`conv${i + 1}`, i ? channels[i - 1] : imageShape[0], outputs, kernel));
    [height, width] = [height, width].map((size) => size + 2 * padding - kernel + 1);
    if (i < pooled) {
      requireThat(height % 2 === 0 && width % 2 === 0, 'pooled', `an image of ${height}x${width} cannot be halved`);
      [height, width] = [height / 2, width / 2];
    }
  });
  requireThat(Math.min(height, width) > 0, 'channels', `the convolutions leave nothing of ${imageShape.join('x')}`);
  const last = channels[channels.length - 1];
  parameters.push(...linearParameters('fc1', last * height * width, features));
  parameters.push(...linearParameters('fc2', features, classes));
  if (norms) parameters.push(...batchNormParameters('norm1', last), ...batchNormParameters('norm2', classes));
  return {
    imageShape,
    classes,
    parameters,
    apply: (p, images) => {
      let h = permute(div(sub(images, mean), std), [0, 2, 3, 1]);
      channels.forEach((_, i) => {
        h = maximum(applyConvolution(p, `conv${i + 1}`, h, { padding }), 0);
        if (i < pooled) h = averagePool(h);
      });
      if (norms) h = applyBatchNorm(p, 'norm1', h);
      // Flattened channels first, as PyTorch does.
      const flat = reshape(permute(h, [0, 3, 1, 2]), [images.shape[0], -1]);
      const hidden = maximum(linear(flat, p('fc1.weight'), p('fc1.bias')), 0);
      const logits = linear(hidden, p('fc2.weight'), p('fc2.bias'));
      return { features: hidden, logits: norms ? applyBatchNorm(p, 'norm2', logits) : logits };
    },
  };
}
