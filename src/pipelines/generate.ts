import type { Picture } from '../data/picture.js';
import type { Sides } from '../data/resample.js';
import { UserError } from '../errors.js';
import type { AvailableMemory } from '../flow/memory.js';
import { checkGuidance, guidanceOf } from '../flow/runner.js';
import { samplerOfClass, type Sampler } from '../flow/samplers.js';
import type { Device } from '../gpu/device.js';
import { guidanceSinusoids } from '../nn/timesteps.js';
import { normals } from '../tensor/philox.js';
import { hostStreams } from '../tensor/streams.js';
import { Asking } from './asking.js';
import { checkTile, decodeLatents, encodePictures, type Encoded } from './coder.js';
import { networkFor, ownSides, type Pipeline } from './pipeline.js';
import { latentMask, prepared } from './preparation.js';
import { encodeTexts } from './text.js';
import { walkOf, type Call } from './walk.js';

/** What noise is for: where latents start, the draws of the autoencoder, and the steps of samplers. */
export type NoisePurpose = 'latents' | 'picture' | 'masked picture' | number;

/** What is painted, and how. */
export interface GenerateOptions {
  readonly prompt: string;
  /** What guidance leads away from; by default the empty text. */
  readonly negative?: string;
  /** Of the pictures; by default those that the pipeline was made for. */
  readonly sides?: Sides;
  readonly steps: number;
  /** Scale of classifier-free guidance, none at 1. */
  readonly guidance?: number;
  /** By default the folder's own scheduler. */
  readonly sampler?: Sampler;
  readonly seed: number;
  /** Pictures of the same text. */
  readonly count?: number;
  /** A picture to be painted in where the mask is white. */
  readonly inpaint?: {
    readonly image: Picture;
    readonly mask: Picture;
    /** The share of the steps that is taken, the last ones: below 1 what is painted starts from the picture. */
    readonly strength?: number;
  };
  readonly available?: AvailableMemory;
  /** Latents along a side of a tile of the autoencoder. */
  readonly tile?: number;
  /** Calls that guidance takes, where it is not left to memory. */
  readonly calls?: 1 | 2;
  /** In place of noise by the seed: [count · size]. */
  readonly noise?: (purpose: NoisePurpose, size: number) => Float32Array;
  /** Hears what is done. */
  readonly onProgress?: (what: string, done?: number, total?: number) => void;
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
  readonly notes: readonly string[];
}

/** How a pipeline is sampled unless told otherwise: by its folder's scheduler, a flow map as it says. */
export function pipelineSampler({ network, scheduler }: Pipeline): Sampler {
  const { role, sampler } = network.description;
  if (role === 'flow-map') return { name: sampler ?? 'jump' };
  return { name: samplerOfClass(String(scheduler._class_name)) ?? 'euler' };
}

/**
 * Checks everything that can be without a device.
 * @throws UserError naming the option that cannot be
 */
export function prepareGeneration(pipeline: Pipeline, options: GenerateOptions) {
  const { sides = ownSides(pipeline), sampler = pipelineSampler(pipeline), steps, seed, inpaint, tile } = options;
  const network = networkFor(pipeline, sides);
  const { guidanceEmbedding } = network.model.conditions;
  const asked = options.guidance ?? guidanceOf(network);
  // What a distilled network is told of guidance it needs not be guided by.
  const guidance = guidanceEmbedding || (network.description.role === 'teacher' && asked <= 1) ? 1 : asked;
  checkGuidance(network, guidance);
  checkTile(tile);
  const { strength = 1 } = inpaint ?? {};
  const embedding =
    guidanceEmbedding && guidanceSinusoids(asked, guidanceEmbedding.shape[guidanceEmbedding.shape.length - 1]);
  return {
    network,
    sides,
    guidance,
    strength,
    scene: inpaint && prepared(inpaint.image, inpaint.mask, sides),
    embedding,
    walkWith: walkOf(network, pipeline.scheduler, { sampler, steps, strength, seed }),
  };
}

/**
 * Pictures of a text: from noise to latents, told the states of the text, and from latents to pictures. With a picture and
 * a mask, what is known of it is told a network of inpainting, and put back after every step of any other.
 * @throws UserError naming the option that cannot be
 */
export async function generate(device: Device, pipeline: Pipeline, options: GenerateOptions): Promise<Generated> {
  const { prompt, negative = '', seed, count = 1, available, tile, calls } = options;
  const { onProgress = () => {}, onCall } = options;
  const { network, sides, guidance, strength, scene, embedding, walkWith } = prepareGeneration(pipeline, options);
  const { vae } = pipeline;
  const { factor } = vae.parts;
  const { channels: further } = network.model.conditions;
  const latentShape = network.model.sampleShape as [number, number, number];
  const latentSides: Sides = [latentShape[1], latentShape[2]];
  const size = latentShape[0] * latentSides[0] * latentSides[1];
  const noise = options.noise ?? noiseBySeed(seed);

  onProgress('text');
  const { states, notes } = await encodeTexts(device, pipeline, [prompt, negative]);
  const encode = async (picture: Float32Array, purpose: NoisePurpose): Promise<Float32Array> => {
    onProgress(`encoding the ${String(purpose)}`);
    const law = await encodePictures(device, vae, picture, latentSides, { tile, available });
    return drawn(law, noise(purpose, size));
  };
  const known = scene && (strength < 1 || !further) ? await encode(scene.image, 'picture') : null;
  const start = noise('latents', count * size);
  const told = further
    ? await tellingOfPicture(scene, sides, factor, (masked) => encode(masked, 'masked picture'))
    : null;

  const asking = Asking.fitting(
    device,
    network,
    {
      conditions: {
        context: states[0],
        ...(told && { channels: told }),
        ...(embedding && { guidanceEmbedding: embedding }),
      },
      negative: { context: states[1] },
      guidance,
    },
    { count, calls, available },
  );
  let latents: Float32Array;
  try {
    onProgress(`memory: ${asking.memory}`);
    const walk = walkWith(asking);
    if (known && strength < 1) walk.state = walk.mixed(0, known, start);
    else walk.begin(start);
    const hidden = scene && !further ? latentMask(scene.mask, sides, factor) : null;
    for (let step = 0; step < walk.steps; step++) {
      const call = await walk.go(step, (at) => noise(at, count * size));
      if (hidden && known) {
        const reference = walk.mixed(step + 1, known, start);
        walk.state = walk.state.map((value, i) => (hidden[i % hidden.length] ? value : reference[i]));
      }
      onCall?.(call, walk.state);
      onProgress('steps', step + 1, walk.steps);
    }
    latents = Float32Array.from(walk.state);
  } finally {
    asking.dispose();
  }
  if (!latents.every(Number.isFinite))
    throw new UserError(
      `${pipeline.name}: the latents are not finite: the weights are damaged, or do not belong together`,
    );
  const images = await decodeLatents(device, vae, latents, latentSides, {
    tile,
    available,
    onProgress: (done, total) => onProgress('decoding', done, total),
  });
  return { images, latents, sides, latentShape, notes };
}

/**
 * The further channels of an inpainting network: the mask, and the latents of the picture without what it hides; all of it
 * hidden where there is no picture.
 */
async function tellingOfPicture(
  scene: ReturnType<typeof prepared> | undefined,
  sides: Sides,
  factor: number,
  encode: (masked: Float32Array) => Promise<Float32Array>,
): Promise<Float32Array> {
  const area = sides[0] * sides[1];
  const mask = scene ? latentMask(scene.mask, sides, factor) : new Float32Array(area / factor ** 2).fill(1);
  const latents = await encode(scene?.masked ?? new Float32Array(3 * area));
  return Float32Array.from([...mask, ...latents]);
}

/** Latents drawn from what the encoder says of one picture, a draw for each noise. */
const drawn = ({ mean, deviation }: Encoded, noise: Float32Array): Float32Array =>
  noise.map((value, i) => mean[i % mean.length] + (deviation ? deviation[i % mean.length] * value : 0));

/** Noise of all purposes by the seed; samples of one seed are the same however many there are. */
function noiseBySeed(seed: number): NonNullable<GenerateOptions['noise']> {
  const streams = {
    latents: hostStreams.latentNoise,
    picture: hostStreams.pictureLatents,
    'masked picture': hostStreams.maskedLatents,
  };
  return (purpose, size) =>
    typeof purpose === 'number'
      ? normals(size, seed, purpose, hostStreams.samplerNoise)
      : normals(size, seed, 0, streams[purpose]);
}
