import { z } from 'zod';
import { mlp, mlpSchema } from './mlp.js';
import type { Model } from './model.js';
import { sit, sitSchema } from './sit.js';
import { unet, unetSchema } from './unet.js';
import { vit, vitSchema } from './vit.js';

/** A backbone and its sizes, as files and YAML descriptions state them. */
export const architectureSchema = z.discriminatedUnion('kind', [mlpSchema, sitSchema, vitSchema, unetSchema]);
export type Architecture = z.infer<typeof architectureSchema>;

/**
 * The backbone that an architecture describes.
 * @param twoTime whether it has the second time input of a flow map
 * @throws UserError naming the key whose value cannot work
 */
export function buildModel(architecture: Architecture, { twoTime = false } = {}): Model {
  switch (architecture.kind) {
    case 'mlp':
      return mlp(architecture, twoTime);
    case 'sit':
      return sit(architecture, twoTime);
    case 'vit':
      return vit(architecture, twoTime);
    case 'unet':
      return unet(architecture, twoTime);
  }
}
