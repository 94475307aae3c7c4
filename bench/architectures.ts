import type { Architecture } from '../src/models/index.js';

/** The ADM UNet that steps are measured on. */
export const unet: Architecture = {
  kind: 'unet',
  imageSize: 32,
  inChannels: 3,
  modelChannels: 64,
  numResBlocks: 1,
  channelMult: [1, 2, 2],
  attentionResolutions: [8],
  numHeads: 4,
  numHeadChannels: -1,
  numHeadsUpsample: -1,
  useScaleShiftNorm: false,
  resblockUpdown: false,
  useNewAttentionOrder: false,
  numClasses: 0,
};
