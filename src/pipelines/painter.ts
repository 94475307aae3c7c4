import { UserError } from '../errors.js';
import type { Sides } from '../data/resample.js';
import type { AvailableMemory } from '../flow/memory.js';
import type { Network } from '../flow/network.js';
import { checkGuidance, guidanceOf } from '../flow/runner.js';
import type { Device } from '../gpu/device.js';
import { Resource } from '../gpu/resource.js';
import { guidanceSinusoids } from '../nn/timesteps.js';
import { joined } from '../tensor/joined.js';
import { normals } from '../tensor/philox.js';
import { hostStreams } from '../tensor/streams.js';
import { Asking } from './asking.js';
import { checkTile, encodePictures, type Encoded } from './coder.js';
import { networkFor, ownSides, type Pipeline } from './pipeline.js';
import { latentMask, type PreparedPicture } from './preparation.js';
import { encodeTexts } from './text.js';
import { putBack, walkOf, type Call, type WalkOptions } from './walk.js';

/** What noise is for: where latents start, the draws of the autoencoder, and the steps of samplers. */
export type NoisePurpose = 'latents' | 'picture' | 'masked picture' | number;

/** What all samples of a painter are told, and how it works. */
export interface PainterOptions {
  readonly prompt: string;
  /** What guidance leads away from; by default the empty text. */
  readonly negative?: string;
  /** Of the pictures; by default those that the pipeline was made for. */
  readonly sides?: Sides;
  /** Scale of classifier-free guidance, none at 1; by default none, or what a flow map learned. */
  readonly guidance?: number;
  readonly seed: number;
  /** Samples. */
  readonly count?: number;
  /** Pictures in which masks are painted: one for all samples, or one for each. */
  readonly scenes?: readonly PreparedPicture[];
  readonly available?: AvailableMemory;
  /** Latents along a side of a tile of the autoencoder. */
  readonly tile?: number;
  /** Calls that guidance takes, where it is not left to memory. */
  readonly calls?: 1 | 2;
  /** In place of noise by the seed. */
  readonly noise?: (purpose: NoisePurpose, size: number) => Float32Array;
  /** Hears what is done. */
  readonly onProgress?: (what: string, done?: number, total?: number) => void;
}

/**
 * The network that options mean, and the guidance that it is asked with.
 * @throws UserError naming the option that cannot be
 */
export function prepareNetwork(
  pipeline: Pipeline,
  options: PainterOptions,
): { network: Network; sides: Sides; guidance: number; embedding?: Float32Array } {
  const { sides = ownSides(pipeline), tile } = options;
  const network = networkFor(pipeline, sides);
  const { guidanceEmbedding } = network.model.conditions;
  const asked = options.guidance ?? guidanceOf(network);
  // What a distilled network is told of guidance it needs not be guided by.
  const guidance = guidanceEmbedding || (network.description.role === 'teacher' && asked <= 1) ? 1 : asked;
  checkGuidance(network, guidance);
  checkTile(tile);
  const width = guidanceEmbedding?.shape[guidanceEmbedding.shape.length - 1];
  return { network, sides, guidance, ...(width && { embedding: guidanceSinusoids(asked, width) }) };
}

/**
 * A pipeline that is ready to paint: its texts and pictures are encoded, its network is compiled. What is known of pictures
 * is told a network of inpainting, and put back after every step of any other.
 */
export class Painter extends Resource {
  private picture?: Promise<Float32Array>;

  private constructor(
    private readonly device: Device,
    private readonly pipeline: Pipeline,
    private readonly options: PainterOptions,
    readonly sides: Sides,
    readonly asking: Asking,
    /** What was left out of texts. */
    readonly notes: readonly string[],
  ) {
    super('this painter');
  }

  /** @throws UserError naming the option that cannot be, or where memory does not suffice */
  static async open(device: Device, pipeline: Pipeline, options: PainterOptions): Promise<Painter> {
    const { prompt, negative = '', count = 1, scenes, calls, available, onProgress = () => {} } = options;
    const { network, sides, guidance, embedding } = prepareNetwork(pipeline, options);
    onProgress('text');
    const { states, notes } = await encodeTexts(device, pipeline, [prompt, negative]);
    const told = network.model.conditions.channels
      ? await channelsOf(device, pipeline, scenes, sides, options)
      : undefined;
    const conditions = {
      context: states[0],
      ...(told && { channels: told }),
      ...(embedding && { guidanceEmbedding: embedding }),
    };
    const telling = { conditions, negative: { context: states[1] }, guidance };
    const asking = Asking.fitting(device, network, telling, { count, calls, available });
    onProgress(`memory: ${asking.memory}`);
    return new Painter(device, pipeline, options, sides, asking, notes);
  }

  get network(): Network {
    return this.asking.network;
  }

  /** Values of one sample. */
  get size(): number {
    return this.network.model.sampleShape.reduce((product, extent) => product * extent, 1);
  }

  /** Latents of the pictures, one for all samples or one for each. @throws UserError where there are none */
  known(): Promise<Float32Array> {
    const { scenes } = this.options;
    if (!scenes) throw new UserError('there is no picture to paint in');
    const images = joined(scenes.map(({ image }) => image));
    return (this.picture ??= encoded(this.device, this.pipeline, images, 'picture', this.sides, this.options));
  }

  /** What is hidden of latents, per position of a plane, one mask for all samples or one for each; null without a picture. */
  hidden(): Float32Array | null {
    const { scenes } = this.options;
    const { factor } = this.pipeline.vae.parts;
    return scenes ? joined(scenes.map(({ mask }) => latentMask(mask, this.sides, factor))) : null;
  }

  /**
   * Latents [count, channels, h, w] by a sampler from noise, or from the pictures where fewer steps are taken than there are.
   * @param onCall sees every call of the network, and the latents after it
   */
  async paint(
    { sampler, steps, strength = 1 }: Pick<WalkOptions, 'sampler' | 'steps'> & Partial<Pick<WalkOptions, 'strength'>>,
    onCall?: (call: Call, latents: Float64Array) => void,
  ): Promise<Float32Array> {
    this.assertUsable();
    const { options, network, asking, size } = this;
    const { seed, count = 1, onProgress = () => {}, scenes, noise = noiseBySeed(seed) } = options;
    const walk = walkOf(network, this.pipeline.scheduler, { sampler, steps, strength, seed })(asking);
    const replaced = scenes && !network.model.conditions.channels;
    const known = scenes && (replaced || strength < 1) ? await this.known() : null;
    const start = noise('latents', count * size);
    if (known && strength < 1) walk.state = walk.mixed(0, known, start);
    else walk.begin(start);
    const plane = size / network.model.sampleShape[0];
    const kept = replaced ? { latents: known!, noise: start, hidden: this.hidden()!, size, plane } : null;
    onProgress('steps');
    for (let step = 0; step < walk.steps; step++) {
      const call = await walk.go(step, (at) => noise(at, count * size));
      if (kept) putBack(walk, step, kept);
      onCall?.(call, walk.state);
      onProgress('steps', step + 1, walk.steps);
    }
    if (!walk.state.every(Number.isFinite))
      throw new UserError(
        `${this.pipeline.name}: the latents are not finite: the weights are damaged, or do not belong together`,
      );
    return Float32Array.from(walk.state);
  }

  protected free(): void {
    this.asking.dispose();
  }
}

/** Draws of latents from what the encoder says of pictures [n, 3, height, width]. */
export async function encoded(
  device: Device,
  { vae, network }: Pipeline,
  pictures: Float32Array,
  purpose: NoisePurpose,
  [height, width]: Sides,
  { seed, tile, available, onProgress = () => {}, noise = noiseBySeed(seed) }: PainterOptions,
): Promise<Float32Array> {
  const what = `encoding the ${String(purpose)}`;
  onProgress(what);
  const { factor } = vae.parts;
  const sides: Sides = [height / factor, width / factor];
  const law = await encodePictures(device, vae, pictures, sides, {
    tile,
    available,
    onProgress: (done, total) => onProgress(what, done, total),
  });
  const [channels] = network.model.sampleShape;
  const count = pictures.length / (3 * height * width);
  return drawn(law, noise(purpose, count * channels * sides[0] * sides[1]));
}

const drawn = ({ mean, deviation }: Encoded, noise: Float32Array): Float32Array =>
  deviation ? noise.map((value, i) => mean[i] + deviation[i] * value) : mean;

/**
 * The further channels of an inpainting network: masks, and the latents of pictures without what they hide; all of it hidden
 * where there is no picture.
 */
export async function channelsOf(
  device: Device,
  pipeline: Pipeline,
  scenes: readonly PreparedPicture[] | undefined,
  sides: Sides,
  options: PainterOptions,
): Promise<Float32Array> {
  const area = sides[0] * sides[1];
  const { factor } = pipeline.vae.parts;
  const shown = scenes ?? [{ mask: new Float32Array(area).fill(1), masked: new Float32Array(3 * area) }];
  const pictures = joined(shown.map(({ masked }) => masked));
  const latents = await encoded(device, pipeline, pictures, 'masked picture', sides, options);
  const size = latents.length / shown.length;
  return joined(
    shown.flatMap(({ mask }, i) => [latentMask(mask, sides, factor), latents.subarray(i * size, (i + 1) * size)]),
  );
}

/** Noise of all purposes by the seed; samples of one seed are the same however many there are. */
export function noiseBySeed(seed: number): NonNullable<PainterOptions['noise']> {
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
