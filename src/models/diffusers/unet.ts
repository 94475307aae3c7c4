import { concat, permute } from '../../ops/movement.js';
import { runBlock } from '../../nn/rematerialize.js';
import type { Parameter, Parameters } from '../../nn/parameters.js';
import type { Extents } from '../../ops/patches.js';
import type { Tensor } from '../../tensor/tensor.js';
import type { Layer } from './blocks.js';

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
