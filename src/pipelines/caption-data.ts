import type { TensorData } from '../checkpoint/safetensors.js';
import type { Picture } from '../data/picture.js';
import type { Sides } from '../data/resample.js';
import type { AvailableMemory } from '../flow/memory.js';
import type { Device } from '../gpu/device.js';
import { joined } from '../tensor/joined.js';
import { sizeOf } from '../tensor/shape.js';
import { Asking } from './asking.js';
import { channelsOf, encoded, noiseBySeed, type NoisePurpose } from './painter.js';
import { networkFor, type Pipeline } from './pipeline.js';
import { preparedImage, type PreparedPicture } from './preparation.js';
import { encodeTexts } from './text.js';
import { walkOf } from './walk.js';

/** What a flow map in latents is to learn from. */
export interface CaptionData {
  readonly texts: readonly string[];
  /** The picture of each text, read when it is its turn; without them the teacher paints some. */
  readonly picture?: (i: number) => Promise<Picture>;
  /** Where a network of inpainting paints in each picture, [height · width] with 1 where it does. */
  readonly masks?: (i: number) => Float32Array;
  readonly sides: Sides;
  /** What guidance leads away from, and its scale where the teacher paints. */
  readonly negative: string;
  readonly guidance: number;
  readonly seed: number;
  readonly available?: AvailableMemory;
  readonly onProgress?: (what: string, done?: number, total?: number) => void;
}

/** DDIM steps by which the teacher paints where there are no pictures. */
const teacherSteps = 50;

/**
 * Latents and what the network is told of each, as data of a training: `x`, `context`, `negative.context` and, of a network
 * of inpainting, `channels`. Latents are drawn once from what the encoder says of each picture.
 */
export async function captionTensors(
  device: Device,
  pipeline: Pipeline,
  data: CaptionData,
): Promise<Record<string, TensorData>> {
  const { texts, picture, sides, seed, negative, guidance, available, onProgress = () => {} } = data;
  const network = networkFor(pipeline, sides);
  const { context, channels } = network.model.conditions;
  const count = texts.length;
  const { states } = await encodeTexts(device, pipeline, [...texts, negative], (done, total) =>
    onProgress('encoding texts', done, total),
  );
  const contexts = joined(states.slice(0, count));
  const pictures = picture && (await encodedPictures(device, pipeline, data, picture));
  const options = { prompt: '', seed, available, onProgress };
  const told = channels && (pictures?.told ?? (await channelsOf(device, pipeline, undefined, sides, options)));
  const conditions = { context: contexts, ...(told && { channels: told }) };
  const shape = network.model.sampleShape;
  const painted = async (): Promise<Float32Array> => {
    const telling = { conditions, negative: { context: states[count] }, guidance };
    const asking = Asking.fitting(device, network, telling, { count, available });
    try {
      const { path } = network.description;
      const sampler = { name: path.kind === 'straight' ? 'euler' : 'ddim' } as const;
      const walk = walkOf(network, pipeline.scheduler, { sampler, steps: teacherSteps, strength: 1, seed })(asking);
      const size = shape.reduce((product, extent) => product * extent, count);
      walk.begin(noiseBySeed(seed)('latents', size));
      for (let step = 0; step < walk.steps; step++) {
        await walk.go(step, (at) => noiseBySeed(seed)(at, size));
        onProgress('the teacher paints', step + 1, walk.steps);
      }
      return Float32Array.from(walk.state);
    } finally {
      asking.dispose();
    }
  };
  const tensor = (values: Float32Array, of: readonly number[]): TensorData => ({
    dtype: 'F32',
    shape: of,
    data: values,
  });
  return {
    x: tensor(pictures?.x ?? (await painted()), [count, ...shape]),
    context: tensor(contexts, [count, ...context.shape]),
    'negative.context': tensor(states[count], context.shape),
    ...(told && { channels: tensor(repeated(told, count, channels.shape), [count, ...channels.shape]) }),
  };
}

/** Values of pictures that are in memory at a time. */
const together = 2 ** 24;

/** Latents of pictures, drawn from what the encoder says, and what a network of inpainting is told of each. */
async function encodedPictures(
  device: Device,
  pipeline: Pipeline,
  { texts, sides, seed, masks, available, onProgress = () => {} }: CaptionData,
  picture: (i: number) => Promise<Picture>,
): Promise<{ x: Float32Array; told?: Float32Array }> {
  const { sampleShape, conditions } = networkFor(pipeline, sides).model;
  const [count, size, area] = [texts.length, sizeOf(sampleShape), sides[0] * sides[1]];
  const draws = new Map<NoisePurpose, Float32Array>();
  const drawn = (purpose: NoisePurpose): Float32Array => {
    const values = draws.get(purpose) ?? noiseBySeed(seed)(purpose, count * size);
    draws.set(purpose, values);
    return values;
  };
  const [x, told]: Float32Array[][] = [[], []];
  const step = Math.max(1, Math.floor(together / (3 * area)));
  for (let from = 0; from < count; from += step) {
    const scenes: PreparedPicture[] = [];
    for (let i = from; i < Math.min(count, from + step); i++) {
      const image = preparedImage(await picture(i), sides);
      const mask = masks?.(i) ?? new Float32Array(area).fill(1);
      scenes.push({ image, mask, masked: image.map((value, k) => (mask[k % area] ? 0 : value)) });
    }
    const options = {
      prompt: '',
      seed,
      available,
      noise: (purpose: NoisePurpose, values: number) => drawn(purpose).subarray(from * size, from * size + values),
      onProgress: (what: string, done?: number) =>
        done === undefined ? onProgress(what) : onProgress(what, from + done, count),
    };
    const images = joined(scenes.map(({ image }) => image));
    x.push(await encoded(device, pipeline, images, 'picture', sides, options));
    if (conditions.channels) told.push(await channelsOf(device, pipeline, scenes, sides, options));
  }
  return { x: joined(x), ...(told.length && { told: joined(told) }) };
}

/** One for all samples, or one for each, as one for each. */
function repeated(values: Float32Array, count: number, shape: readonly number[]): Float32Array {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return values.length === count * size ? values : joined(Array.from({ length: count }, () => values));
}
