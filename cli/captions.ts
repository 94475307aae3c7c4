import { existsSync } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { adapterAt } from '../node/adapter.js';
import { cacheFolder } from '../node/cache.js';
import { parseSides } from '../node/data.js';
import { chosenAt, writeSafetensors } from '../node/files.js';
import { filesAt } from '../node/folder.js';
import { pipelineAt } from '../node/pipeline.js';
import { decodePicture } from '../node/pictures.js';
import { readPicture } from '../src/data/pictures.js';
import { UserError } from '../src/errors.js';
import { namedMask } from '../src/experiments/masks.js';
import { fingerprint, type Part } from '../src/files/fingerprint.js';
import { readAll } from '../src/files/source.js';
import type { Files } from '../src/files/store.js';
import type { Device } from '../src/gpu/device.js';
import { captionTensors } from '../src/pipelines/caption-data.js';
import { readCaptions, type Caption } from '../src/pipelines/captions.js';
import { networkFor, ownSides } from '../src/pipelines/pipeline.js';
import { hostStreams, seedFor } from '../src/tensor/streams.js';
import { version } from '../src/version.js';
import { memoryOf } from './session.js';
import { done, following } from './status.js';

/** What a run says of its teacher, its data and its guidance. */
export interface CaptionedRun {
  readonly teacher: string;
  /** Whether the teacher is yet to be trained. */
  readonly untrained?: boolean;
  readonly lora?: readonly string[];
  readonly data: string;
  /** The scale by which a teacher paints where there are no pictures. */
  readonly guidance: number;
}

/** Whether data are captions for a pipeline: a folder of pictures or a text file, beside a teacher with a text encoder. */
export async function areCaptions(teacher: string | undefined, data: string | undefined): Promise<boolean> {
  if (teacher === undefined || data === undefined) return false;
  const [{ path: folder }, { path }] = [await chosenAt(teacher), await chosenAt(data)];
  if (!existsSync(join(folder, 'model_index.json')) || !existsSync(join(folder, 'text_encoder'))) return false;
  const found = await stat(path).catch(() => null);
  return found?.isDirectory() || (found !== null && /\.txt$/i.test(path));
}

/**
 * Latents and text states of captions as a file of data, computed once: its name is a key of everything that it depends on,
 * so that it is only computed anew where something of that changed.
 * @returns its path
 * @throws UserError where there are no captions, or the pipeline is none that can be told them
 */
export async function captionFile(
  device: Device,
  { teacher, untrained = false, lora = [], data, guidance }: CaptionedRun,
): Promise<string> {
  const { path, chosen } = await chosenAt(data);
  const files = (await filesAt(path))!;
  const captions = await readCaptions(files);
  if (!captions)
    throw new UserError(
      `${path} holds no captions: pictures with a metadata.jsonl or with a .txt beside each are wanted, or a .txt with a prompt a line`,
      'data',
    );
  const pictured = captions.every(({ picture }) => picture !== undefined);
  if (untrained && !pictured)
    throw new UserError(
      `${path} holds prompts alone, and a network that is yet to be trained paints none: give pictures`,
      'data',
    );
  const adapters = await Promise.all(lora.map((file) => adapterAt(file)));
  const pipeline = await pipelineAt(teacher, adapters, untrained);
  const size = new URLSearchParams(chosen).get('size');
  const sides = size === null ? ownSides(pipeline) : parseSides(size);
  const { sampleShape, conditions } = networkFor(pipeline, sides).model;
  const settings = { version, sides, sampleShape, conditions, captions, seed, ...(!pictured && { guidance }) };
  const key = await fingerprint(parts(settings, files, captions, teacher, lora, pictured));
  const folder = join(cacheFolder(), 'latents');
  const file = join(folder, `${key.slice(0, 32)}.safetensors`);
  if (existsSync(file)) {
    console.log(`latents and text states of ${captions.length} captions: ${file}`);
    return file;
  }
  await mkdir(folder, { recursive: true });
  const pictureOf = async (i: number) => {
    const { picture } = captions[i];
    return readPicture(await readAll((await files.open(picture!))!), `${path}/${picture}`, decodePicture);
  };
  const masks = (i: number) => {
    const name = (['strokes', 'centre', 'half'] as const)[i % 3];
    return Float32Array.from(namedMask(name, ...sides, seedFor(seed, hostStreams.maskStrokes, i)).hidden);
  };
  const tensors = await captionTensors(device, pipeline, {
    texts: captions.map(({ text }) => text),
    ...(pictured && { picture: pictureOf }),
    masks,
    sides,
    negative: '',
    guidance,
    seed,
    available: memoryOf(device),
    onProgress: following(),
  });
  done();
  await writeSafetensors(file, tensors);
  console.log(`latents and text states of ${captions.length} captions kept: ${file}`);
  return file;
}

/** Of what is drawn once for a set of captions. */
const seed = 0;

/** Everything that latents and text states depend on. */
async function* parts(
  settings: object,
  files: Files,
  captions: readonly Caption[],
  teacher: string,
  lora: readonly string[],
  pictured: boolean,
): AsyncGenerator<Part> {
  yield JSON.stringify(settings);
  for (const { picture } of captions) if (picture) yield await readAll((await files.open(picture))!);
  const { path, chosen = '' } = await chosenAt(teacher);
  yield chosen;
  const own = (await filesAt(path))!;
  const used = pictured ? /^(vae|text_encoder|tokenizer)\// : /^(vae|text_encoder|tokenizer|unet|scheduler)\//;
  for (const name of (await own.list()).sort()) {
    if (!used.test(name)) continue;
    yield name;
    yield* pieces((await own.open(name))!);
  }
  for (const file of lora) {
    yield file;
    const { path: adapter } = await chosenAt(file.replace(/:[-+.\de]+$/i, ''));
    const found = await filesAt(adapter);
    for (const name of found ? await found.list() : []) yield* pieces((await found!.open(name))!);
  }
}

/** A file's bytes in parts that memory holds. */
async function* pieces(source: NonNullable<Awaited<ReturnType<Files['open']>>>): AsyncGenerator<Part> {
  const piece = 2 ** 26;
  for (let at = 0; at < source.size; at += piece) yield source.read(at, Math.min(piece, source.size - at));
}
