import { z } from 'zod';
import { mlp, mlpSchema } from './mlp.js';
import type { BuildOptions, Model } from './model.js';
import { sit, sitSchema } from './sit.js';
import { unet, unetSchema } from './unet.js';
import { vit, vitSchema } from './vit.js';

/** A backbone and its sizes, as files and YAML descriptions state them. */
export const architectureSchema = z.discriminatedUnion('kind', [mlpSchema, sitSchema, vitSchema, unetSchema]);
export type Architecture = z.infer<typeof architectureSchema>;

/**
 * The backbone that an architecture describes.
 * @throws UserError naming the key whose value cannot work
 */
export function buildModel(architecture: Architecture, options: Partial<BuildOptions> = {}): Model {
  const { twoTime = false, checkpointBlocks = false, guided = false } = options;
  switch (architecture.kind) {
    case 'mlp':
      return mlp(architecture, twoTime);
    case 'sit':
      return sit(architecture, { twoTime, checkpointBlocks, guided });
    case 'vit':
      return vit(architecture, { twoTime, checkpointBlocks, guided });
    case 'unet':
      return unet(architecture, twoTime, checkpointBlocks);
  }
}
