import type { Backbone } from '../backbone.js';
import type { Component } from '../component.js';
import { autoencoderKl } from './autoencoder-kl.js';
import { autoencoderTiny } from './autoencoder-tiny.js';
import { clipText, clipTextWithProjection } from './clip-text.js';
import { dit } from './dit.js';
import { unet2dCondition } from './unet-2d-condition.js';
import { unet2d } from './unet-2d.js';

/**
 * What a class of other people's folders is here: a backbone, which a scheduler's configuration makes a teacher, or a
 * component with graphs of its own.
 */
export type FolderClass = { readonly backbone: Backbone } | { readonly component: Component };

/** Classes by the names that a folder's config.json calls them, present and former. A new one is a line here. */
export const folderClasses: Readonly<Record<string, FolderClass>> = {
  UNet2DModel: { backbone: unet2d },
  UNet2DConditionModel: { backbone: unet2dCondition },
  DiTTransformer2DModel: { backbone: dit },
  Transformer2DModel: { backbone: dit },
  AutoencoderKL: { component: autoencoderKl },
  AutoencoderTiny: { component: autoencoderTiny },
  CLIPTextModel: { component: clipText },
  CLIPTextModelWithProjection: { component: clipTextWithProjection },
};

/**
 * Names that tensors had in files before, with those of today; a name is only changed where the network does not know it.
 * Diffusers renames them in the same way when it loads.
 */
const formerNames: readonly (readonly [RegExp, string])[] = [
  [/\.query\.(weight|bias)$/, '.to_q.$1'],
  [/\.key\.(weight|bias)$/, '.to_k.$1'],
  [/\.value\.(weight|bias)$/, '.to_v.$1'],
  [/\.proj_attn\.(weight|bias)$/, '.to_out.0.$1'],
];

/** The present name of a tensor. */
export const presentName = (name: string): string =>
  formerNames.reduce((current, [former, present]) => current.replace(former, present), name);
