import type { Picture } from '../data/picture.js';
import type { Sides } from '../data/resample.js';
import { samplerOfClass, type Sampler } from '../flow/samplers.js';
import type { Device } from '../gpu/device.js';
import { decodeLatents } from './coder.js';
import { Painter, prepareNetwork, type PainterOptions } from './painter.js';
import type { Pipeline } from './pipeline.js';
import { prepared } from './preparation.js';
import { walkOf, type Call } from './walk.js';

/** What is painted, and how. */
export interface GenerateOptions extends Omit<PainterOptions, 'scenes'> {
  readonly steps: number;
  /** By default the folder's own scheduler. */
  readonly sampler?: Sampler;
  /** A picture to be painted in where the mask is white. */
  readonly inpaint?: {
    readonly image: Picture;
    readonly mask: Picture;
    /** The share of the steps that is taken, the last ones: below 1 what is painted starts from the picture. */
    readonly strength?: number;
  };
  /** Sees every call of the network, and the latents after it. */
  readonly onCall?: (call: Call, latents: Float64Array) => void;
}

/** Pictures that were painted. */
export interface Generated {
  /** [count, 3, height, width]; values may exceed -1 to 1. */
  readonly images: Float32Array;
  /** [count, channels, h, w] at the scale of the network. */
  readonly latents: Float32Array;
  readonly sides: Sides;
  readonly latentShape: readonly [number, number, number];
  /** What was left out, a line each. */
  readonly notes: readonly string[];
}

/** How a pipeline is sampled unless told otherwise: by its folder's scheduler, a flow map as it says. */
export function pipelineSampler({ network, scheduler }: Pick<Pipeline, 'network' | 'scheduler'>): Sampler {
  const { role, sampler } = network.description;
  if (role === 'flow-map') return { name: sampler ?? 'jump' };
  return { name: samplerOfClass(String(scheduler._class_name)) ?? 'euler' };
}

/**
 * Checks everything that can be without a device.
 * @throws UserError naming the option that cannot be
 */
export function prepareGeneration(pipeline: Pipeline, options: GenerateOptions) {
  const { sampler = pipelineSampler(pipeline), steps, seed, inpaint } = options;
  const { strength = 1 } = inpaint ?? {};
  const { network, sides } = prepareNetwork(pipeline, options);
  walkOf(network, pipeline.scheduler, { sampler, steps, strength, seed });
  return { sampler, strength, scenes: inpaint && [prepared(inpaint.image, inpaint.mask, sides)] };
}

/**
 * Pictures of a text: from noise to latents, told the states of the text, and from latents to pictures.
 * @throws UserError naming the option that cannot be
 */
export async function generate(device: Device, pipeline: Pipeline, options: GenerateOptions): Promise<Generated> {
  const { steps, available, tile, onProgress, onCall } = options;
  const { scenes, ...way } = prepareGeneration(pipeline, options);
  const painter = await Painter.open(device, pipeline, { ...options, scenes });
  const { sides, notes, network } = painter;
  let latents: Float32Array;
  try {
    latents = await painter.paint({ ...way, steps }, onCall);
  } finally {
    painter.dispose();
  }
  const latentShape = network.model.sampleShape as [number, number, number];
  onProgress?.('decoding');
  const images = await decodeLatents(device, pipeline.vae, latents, [latentShape[1], latentShape[2]], {
    tile,
    available,
    onProgress: (done, total) => onProgress?.('decoding', done, total),
  });
  return { images, latents, sides, latentShape, notes };
}
