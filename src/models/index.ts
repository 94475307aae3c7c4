import { z } from 'zod';
import { mlp, mlpSchema } from './mlp.js';
import type { Model } from './model.js';
import { sit, sitSchema } from './sit.js';
import { unet, unetSchema } from './unet.js';
import { vit, vitSchema } from './vit.js';

/** A backbone and its sizes, as files and YAML descriptions state them. */
export const architectureSchema = z.discriminatedUnion('kind', [mlpSchema, sitSchema, vitSchema, unetSchema]);
export type Architecture = z.infer<typeof architectureSchema>;

export interface BuildOptions {
  /** Whether it has the second time input of a flow map. */
  twoTime: boolean;
  /** Whether the backward pass computes each block anew: less memory, a third more time. Blocks of an MLP are too small. */
  checkpointBlocks: boolean;
}

/**
 * The backbone that an architecture describes.
 * @throws UserError naming the key whose value cannot work
 */
export function buildModel(architecture: Architecture, options: Partial<BuildOptions> = {}): Model {
  const { twoTime = false, checkpointBlocks = false } = options;
  switch (architecture.kind) {
    case 'mlp':
      return mlp(architecture, twoTime);
    case 'sit':
      return sit(architecture, twoTime, checkpointBlocks);
    case 'vit':
      return vit(architecture, twoTime, checkpointBlocks);
    case 'unet':
      return unet(architecture, twoTime, checkpointBlocks);
  }
}
