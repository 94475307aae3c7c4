import { compile, planProgram } from '../autodiff/compile.js';
import { UserError } from '../errors.js';
import type { LoadedComponent } from '../flow/folder.js';
import { excess, hostBytes, MemoryError, shortage, type AvailableMemory } from '../flow/memory.js';
import { bindNetwork } from '../flow/network.js';
import type { Device } from '../gpu/device.js';
import { TensorStorage } from '../gpu/storage.js';
import { deviation, type Autoencoder } from '../models/diffusers/autoencoder.js';
import { concat } from '../ops/movement.js';
import { add, sub } from '../ops/pointwise.js';
import { sizeOf } from '../tensor/shape.js';
import { fromStorage, type Tensor } from '../tensor/tensor.js';
import type { Sides } from '../data/resample.js';

/** How an autoencoder runs. */
export interface CoderOptions {
  /** Latents along a side of a tile; by default as many as memory allows, all where it can. */
  readonly tile?: number;
  readonly available?: AvailableMemory;
  /** Pictures, or tiles of them, that are done. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** What an encoder says of pictures, [n, latent channels, h, w] each, at the scale of the networks over its latents. */
export interface Encoded {
  readonly mean: Float32Array;
  /** Standard deviations; none of an encoder that knows no doubt. */
  readonly deviation?: Float32Array;
}

/** An autoencoder with its weights. */
type Coded = Pick<LoadedComponent<Autoencoder>, 'parts' | 'layout' | 'weights'>;

/** The share of a tile that lies on its neighbour as well. */
const overlap = 0.25;
/** The smallest tile, in latents along a side: less sees too little of a picture. */
const leastTile = 16;

/**
 * Pictures as their encoder sees them.
 * @param pictures [n, channels, height, width] from -1 to 1
 * @param sides of the latents
 */
export async function encodePictures(
  device: Device,
  vae: Coded,
  pictures: Float32Array,
  sides: Sides,
  options: CoderOptions = {},
): Promise<Encoded> {
  const { parts } = vae;
  const p = bindNetwork(vae, 'autoencoder', device.profile);
  const graph = (x: Tensor) => {
    const { mean, logvar } = parts.encode(p, x);
    const scaled = parts.scaled(mean);
    return logvar ? concat([scaled, sub(parts.scaled(add(mean, deviation(logvar))), scaled)], 1) : scaled;
  };
  const units = { input: parts.factor, output: 1, channels: parts.imageChannels };
  const values = await inTiles(device, graph, pictures, sides, units, options);
  const size = parts.latentChannels * sides[0] * sides[1];
  const count = pictures.length / (parts.imageChannels * parts.factor ** 2 * sides[0] * sides[1]);
  if (values.length === count * size) return { mean: values };
  const half = (which: number) => {
    const taken = new Float32Array(count * size);
    for (let i = 0; i < count; i++)
      taken.set(values.subarray((2 * i + which) * size, (2 * i + which + 1) * size), i * size);
    return taken;
  };
  return { mean: half(0), deviation: half(1) };
}

/**
 * The pictures [n, channels, height, width] of latents at the scale of networks; they may exceed -1 to 1.
 * @param sides of the latents
 */
export function decodeLatents(
  device: Device,
  vae: Coded,
  latents: Float32Array,
  sides: Sides,
  options: CoderOptions = {},
): Promise<Float32Array> {
  const { parts } = vae;
  const p = bindNetwork(vae, 'autoencoder', device.profile);
  const units = { input: 1, output: parts.factor, channels: parts.latentChannels };
  return inTiles(device, (x) => parts.decode(p, parts.unscaled(x)), latents, sides, units, options);
}

/** Elements along a side of input and output for one of a latent, and channels of the input. */
interface Units {
  readonly input: number;
  readonly output: number;
  readonly channels: number;
}

/** A graph over pictures, in tiles where they do not fit in memory: neighbours overlap, and fade into each other. */
async function inTiles(
  device: Device,
  graph: (x: Tensor) => Tensor,
  values: Float32Array,
  sides: Sides,
  units: Units,
  { tile, available = {}, onProgress = () => {} }: CoderOptions,
): Promise<Float32Array> {
  const [high, wide] = tile === undefined ? fittingTile(device, graph, sides, units, available) : limited(sides, tile);
  const { input, output, channels } = units;
  const [height, width] = sides;
  const storage = new TensorStorage('a tile', 'f32', channels * high * wide * input ** 2);
  const y = graph(fromStorage(storage, [1, channels, high * input, wide * input]));
  const program = await compile(device, { outputs: { y } });
  try {
    const made = y.shape[1];
    const count = values.length / (channels * height * width * input ** 2);
    const places = startsOf(height, high).flatMap((top) => startsOf(width, wide).map((left) => [top, left] as const));
    const [rows, columns] = [ramp(height, high, output), ramp(width, wide, output)];
    const result = new Float32Array(count * made * height * width * output ** 2);
    const weights = new Float32Array(height * width * output ** 2);
    for (const [top, left] of places)
      eachRow(sides, [high, wide], [top, left], output, (to, y) => {
        for (let x = 0; x < wide * output; x++) weights[to + x] += rows(top, y) * columns(left, x);
      });
    for (let i = 0; i < count * places.length; i++) {
      const [image, place] = [Math.floor(i / places.length), places[i % places.length]];
      const [top, left] = place;
      const part = new Float32Array(storage.length);
      for (let c = 0; c < channels; c++) {
        const from = (image * channels + c) * height * width * input ** 2;
        eachRow(sides, [high, wide], place, input, (at, y) =>
          part.set(values.subarray(from + at, from + at + wide * input), (c * high * input + y) * wide * input),
        );
      }
      device.write(storage, part);
      program.run();
      const tileValues = (await program.read('y')) as Float32Array;
      for (let c = 0; c < made; c++) {
        const plane = (image * made + c) * weights.length;
        eachRow(sides, [high, wide], place, output, (to, y) => {
          const from = (c * high * output + y) * wide * output;
          for (let x = 0; x < wide * output; x++)
            result[plane + to + x] += (tileValues[from + x] * rows(top, y) * columns(left, x)) / weights[to + x];
        });
      }
      onProgress(i + 1, count * places.length);
    }
    return result;
  } finally {
    program.dispose();
    storage.dispose();
  }
}

/** The rows of a tile: where each starts in a plane of the whole, and which of the tile it is. */
function eachRow(
  [, width]: Sides,
  [high]: Sides,
  [top, left]: Sides,
  unit: number,
  use: (at: number, y: number) => void,
): void {
  for (let y = 0; y < high * unit; y++) use((top * unit + y) * width * unit + left * unit, y);
}

/** Where tiles start along a side, so that neighbours overlap by a share at least. */
function startsOf(length: number, tile: number): number[] {
  if (tile >= length) return [0];
  const stride = Math.max(1, Math.floor(tile * (1 - overlap)));
  const count = Math.ceil((length - tile) / stride) + 1;
  return Array.from({ length: count }, (_, i) => Math.min(i * stride, length - tile));
}

/** The weight of a tile's elements along a side: rising over the overlap from its ends, but for those of the whole. */
function ramp(length: number, tile: number, unit: number): (start: number, at: number) => number {
  const reach = Math.max(1, Math.ceil(tile * overlap)) * unit;
  return (start, at) => {
    const before = start > 0 ? (at + 1) / reach : 1;
    const after = start + tile < length ? (tile * unit - at) / reach : 1;
    return Math.min(1, before, after);
  };
}

const limited = ([height, width]: Sides, tile: number): Sides => [Math.min(height, tile), Math.min(width, tile)];

/**
 * The whole, or the largest tile by halving whose program fits in memory.
 * @throws MemoryError where none does
 */
function fittingTile(
  device: Device,
  graph: (x: Tensor) => Tensor,
  sides: Sides,
  { input, channels, output }: Units,
  available: AvailableMemory,
): Sides {
  if (!Object.values(available).some((bytes) => bytes !== undefined)) return sides;
  for (let tile = Math.max(...sides); ; tile = Math.ceil(tile / 2)) {
    const [high, wide] = limited(sides, tile);
    const shape = [1, channels, high * input, wide * input];
    const y = graph(fromStorage(new TensorStorage('a tile', 'f32', sizeOf(shape)), shape));
    const { arena, storages } = planProgram(device.profile, { outputs: { y } });
    const held = [...storages].reduce((sum, { bytes }) => sum + bytes, 0);
    const results = 4 * sizeOf(sides) * (output ** 2 * y.shape[1] + input ** 2 * channels);
    const needs = { device: { autoencoder: held, activations: arena.bytes }, host: hostBytes(storages, results) };
    if (!excess(needs, available)) return [high, wide];
    if (tile <= leastTile)
      throw new MemoryError(`the autoencoder in tiles of ${tile} latents: ${shortage(needs, available)}`, []);
  }
}

/** @throws UserError where a tile is none */
export function checkTile(tile: number | undefined): void {
  if (tile !== undefined && !(Number.isInteger(tile) && tile >= 4))
    throw new UserError(`a tile has at least 4 latents along a side, not ${tile}`, 'tile');
}
