import { adapterAt } from '../node/adapter.js';
import { writeFileAtomic, writeSafetensors } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import { pipelineAt } from '../node/pipeline.js';
import { parseSides } from '../node/data.js';
import { pictureAt } from '../node/pictures.js';
import { encodeNpy } from '../src/checkpoint/npy.js';
import { UserError } from '../src/errors.js';
import { samplePngs } from '../src/export/samples.js';
import { samplerEntry, samplerNames, samplerOfClass, type Sampler, type SamplerName } from '../src/flow/samplers.js';
import {
  generate,
  pipelineSampler,
  prepareGeneration,
  type Generated,
  type GenerateOptions,
} from '../src/pipelines/generate.js';
import { ownSides, type Pipeline } from '../src/pipelines/pipeline.js';
import { imageGrid } from '../src/report/png.js';
import { numberBetween, sampleCount, seedNumber, wholeNumber } from './arguments.js';
import { checkFolder, checkOutput, isFolder } from './output.js';
import { memoryOf, openSession, type DeviceFlags } from './session.js';
import { done, following } from './status.js';

/** Flags of everything that runs a pipeline. */
export interface PipelineFlags extends DeviceFlags {
  pipeline: string;
  /** Of all weights, such as fp16. */
  weights?: string;
  /** Adapters folded in. */
  lora?: string[];
  prompt: string;
  negative?: string;
  guidance?: string;
  size?: string;
  seed: string;
  vaeTile?: string;
  guidanceCalls?: string;
}

export interface GenerateFlags extends PipelineFlags {
  steps?: string;
  sampler?: string;
  gamma?: string;
  eta?: string;
  n: string;
  out: string;
}

export interface InpaintFlags extends GenerateFlags {
  image: string;
  mask: string;
  strength: string;
}

/** Steps unless told otherwise: of a flow map few, of a teacher enough for pictures. */
const usualSteps = { 'flow-map': 4, teacher: 30 };
/** The scale of guidance that Stable Diffusion is shown with. */
const usualGuidance = 7.5;

/** `semiflow generate`: pictures of a text by a latent pipeline. */
export async function generateCommand(flags: GenerateFlags): Promise<void> {
  await paint(flags, async () => ({}));
}

/** `semiflow inpaint`: what a mask hides of a picture is painted to a text. */
export async function inpaintCommand(flags: InpaintFlags): Promise<void> {
  const strength = numberBetween('--strength', flags.strength, 0, 1);
  await paint(flags, async () => {
    const [image, mask] = [await pictureAt(flags.image), await pictureAt(flags.mask)];
    if (image.width !== mask.width || image.height !== mask.height)
      throw new UserError(
        `${flags.mask} is ${mask.height}x${mask.width}, ${flags.image} is ${image.height}x${image.width}: a mask has the size of its picture`,
        'mask',
      );
    return { inpaint: { image, mask, strength } };
  });
}

/** The pipeline that flags name, with what was done to it told. */
export async function readPipeline({
  pipeline,
  weights,
  lora = [],
}: Pick<PipelineFlags, 'pipeline' | 'weights' | 'lora'>): Promise<Pipeline> {
  const path = weights === undefined ? pipeline : `${pipeline}#${weights}`;
  const opened = await pipelineAt(path, await Promise.all(lora.map(adapterAt)));
  for (const note of opened.notes) console.log(note);
  return opened;
}

/** What flags say of how any pipeline runs, all of it checked. */
export function pipelineOptions(flags: PipelineFlags, pipeline: Pipeline) {
  const { prompt, negative } = flags;
  const learned = pipeline.network.description.role === 'flow-map';
  const usual = learned ? undefined : usualGuidance;
  return {
    prompt,
    negative,
    sides: flags.size === undefined ? ownSides(pipeline) : parseSides(flags.size),
    guidance: flags.guidance === undefined ? usual : numberBetween('--guidance', flags.guidance, 0, 100),
    seed: seedNumber('--seed', flags.seed),
    tile: flags.vaeTile === undefined ? undefined : tileOf(flags.vaeTile, pipeline),
    calls: flags.guidanceCalls === undefined ? undefined : (Number(flags.guidanceCalls) as 1 | 2),
  };
}

/** Pixels along a side of a tile as latents. */
function tileOf(text: string, { vae }: Pipeline): number {
  const { factor } = vae.parts;
  const pixels = wholeNumber('--vae-tile', text, { least: 4 * factor });
  if (pixels % factor) throw new UserError(`--vae-tile takes a multiple of ${factor}, not ${text}`);
  return pixels / factor;
}

/** The sampler that flags name, by semiflow's name or by diffusers' class, with its option. */
function samplerFor(flags: Pick<GenerateFlags, 'sampler' | 'gamma' | 'eta'>, pipeline: Pipeline): Sampler {
  const given = flags.sampler;
  const name = given === undefined ? pipelineSampler(pipeline).name : (samplerOfClass(given) ?? (given as SamplerName));
  if (!samplerNames.includes(name))
    throw new UserError(`--sampler ${given}: choose one of ${samplerNames.join(', ')}, or a class of diffusers`);
  const { option } = samplerEntry(name);
  const stray = (['gamma', 'eta'] as const).find((key) => flags[key] !== undefined && key !== option?.name);
  if (stray) throw new UserError(`--${stray} does not belong to --sampler ${name}: leave it out`);
  const value = option && flags[option.name as 'gamma' | 'eta'];
  if (!option || value === undefined) return { name };
  return { name, [option.name]: numberBetween(`--${option.name}`, value, option.low, option.high) };
}

async function paint(flags: GenerateFlags, scene: () => Promise<Pick<GenerateOptions, 'inpaint'>>): Promise<void> {
  const { out } = flags;
  const extension = isFolder(out) ? await checkFolder(out) : await checkOutput(out, ['.png', '.npy', '.safetensors']);
  const pipeline = await readPipeline(flags);
  const { role } = pipeline.network.description;
  const options = pipelineOptions(flags, pipeline);
  const count = sampleCount('--n', flags.n, 3 * options.sides[0] * options.sides[1]);
  const steps =
    flags.steps === undefined
      ? usualSteps[role]
      : wholeNumber('--steps', flags.steps, { least: 1, most: 1000, because: 'as many as networks have timesteps' });
  const sampler = samplerFor(flags, pipeline);
  const own = String(pipeline.scheduler._class_name);
  if (flags.sampler === undefined && role === 'teacher' && !samplerOfClass(own))
    console.log(`the folder's ${own} is none of the samplers here: ${sampler.name} takes its place`);
  const wanted = { ...options, ...(await scene()), steps, sampler, count };
  prepareGeneration(pipeline, wanted);
  const device = await openSession(flags);
  const started = performance.now();
  const made = await generate(device, pipeline, {
    ...wanted,
    available: memoryOf(device),
    onProgress: following(),
  });
  done();
  for (const note of made.notes) console.log(note);
  await write(out, extension, made, count);
  console.log(
    `${count} picture${count === 1 ? '' : 's'} of ${made.sides.join('x')} by ${sampler.name} in ${steps} step${steps === 1 ? '' : 's'} on ${device.profile.description}, ${seconds(started)}: ${out}`,
  );
  device.dispose();
}

const seconds = (since: number): string => `${((performance.now() - since) / 1000).toFixed(1)} s`;

async function write(out: string, extension: string, made: Generated, count: number): Promise<void> {
  const { images, latents, sides, latentShape } = made;
  const shape = [3, ...sides];
  if (extension === '.png') {
    const grid = imageGrid(images, { shape: [count, 3, ...sides], zoom: 1 });
    await writeFileAtomic(out, grid.toPng());
  } else if (extension === '/') {
    const store = folderStore(out);
    for (const [name, bytes] of samplePngs({ x: images, shape })) await store.write(name, bytes);
  } else if (extension === '.npy') {
    await writeFileAtomic(out, encodeNpy(images, [count, ...shape]));
  } else {
    await writeSafetensors(out, {
      images: { dtype: 'F32', shape: [count, ...shape], data: images },
      latents: { dtype: 'F32', shape: [count, ...latentShape], data: latents },
    });
  }
}
