import { openLora, withLoras } from '../checkpoint/lora.js';
import { UserError } from '../errors.js';
import type { Files } from '../files/store.js';
import { adapterOptions, withAdapters, type ChosenAdapter } from '../flow/adapter.js';
import {
  below,
  folderDescription,
  loadComponent,
  loadFolder,
  openFolder,
  type LoadedComponent,
} from '../flow/folder.js';
import { createNetwork, fitNetwork, type Network } from '../flow/network.js';
import type { Component, ComponentParts } from '../models/component.js';
import type { Autoencoder } from '../models/diffusers/autoencoder.js';
import type { TextEncoder } from '../models/diffusers/clip-text.js';
import type { Sides } from '../data/resample.js';
import { openTokenizer, type Tokenizer } from './tokenizer.js';

/** A text-conditional latent pipeline: what a folder of diffusers with all of its networks holds. Weights are read when a device wants them. */
export interface Pipeline {
  /** How messages call it. */
  readonly name: string;
  /** A velocity field over latents, or with an adapter of a distillation its flow map; told a text, and perhaps a picture. */
  readonly network: Network;
  readonly text: LoadedComponent<TextEncoder>;
  readonly tokenizer: Tokenizer;
  readonly vae: LoadedComponent<Autoencoder>;
  /** The scheduler's configuration as the folder has it. */
  readonly scheduler: Readonly<Record<string, unknown>>;
  /** What was chosen, passed over or folded in, a line each. */
  readonly notes: readonly string[];
}

/** How a pipeline is opened. */
export interface PipelineOptions {
  /** Of all weights, such as fp16. */
  readonly variant?: string;
  /** Adapters that are folded into network and text encoder. */
  readonly adapters?: readonly ChosenAdapter[];
  /** Whether its network is yet to be trained: weights are drawn, and none are looked for. */
  readonly untrained?: boolean;
}

/**
 * Opens the pipeline of a folder (`model_index.json`), with adapters folded in.
 * @throws UserError naming the component that is missing, or that cannot be part of such a pipeline
 */
export async function openPipeline(
  files: Files,
  { variant, adapters = [], untrained = false }: PipelineOptions = {},
): Promise<Pipeline> {
  const folder = await openFolder(files);
  if (!folder || !Object.keys(folder.components).length)
    throw new UserError(
      `${files.name} is no folder of a whole pipeline, which has a model_index.json beside unet, vae, text_encoder, tokenizer and scheduler`,
      'pipeline',
    );
  const { network: whole, file } = untrained
    ? { network: createNetwork(folderDescription(folder), 0), file: null }
    : await loadFolder(folder, variant);
  const told = whole.model.conditions;
  if (!told.context)
    throw new UserError(
      `${files.name}: its ${folder.className} is told no text: a text-conditional one is wanted`,
      'pipeline',
    );
  const text = await component<TextEncoder>(files, 'text_encoder', 'CLIPText', variant);
  const vae = await component<Autoencoder>(files, 'vae', 'Autoencoder', variant);
  const { latentChannels } = vae.parts;
  const [channels] = whole.model.sampleShape;
  const { parts } = text;
  if (latentChannels !== channels || parts.width !== told.context.shape[1])
    throw new UserError(
      `${files.name}: its parts do not fit: the network takes latents of ${channels} channels and texts ${told.context.shape[1]} wide, the others make ${latentChannels} and ${parts.width}`,
    );
  const further = told.channels?.shape[0] ?? 0;
  if (further && further !== channels + 1)
    throw new UserError(
      `${files.name}: its network takes ${further} channels beside the ${channels} of latents: those of inpainting are ${channels + 1}`,
    );
  const tokenizer = await openTokenizer(below(files, 'tokenizer'), parts.length);
  if (tokenizer.vocabulary > parts.vocabulary)
    throw new UserError(
      `${files.name}: its tokenizer has ${tokenizer.vocabulary} tokens, its text encoder ${parts.vocabulary}: they belong to different models`,
    );
  const { network, notes } = await withAdapters(whole, adapters);
  const folded = await withTextAdapters(text, adapters);
  const opened = [...(file ? [file] : []), text.file, vae.file].flatMap(({ name, notes = [] }) =>
    notes.map((note) => `${name}: ${note}`),
  );
  return {
    name: files.name,
    network: { ...network, scheduler: folder.scheduler!.config },
    text: folded.text,
    tokenizer,
    vae,
    scheduler: folder.scheduler!.config,
    notes: [...opened, ...notes, ...folded.notes],
  };
}

async function component<P extends ComponentParts>(
  files: Files,
  name: string,
  kind: string,
  variant?: string,
): Promise<LoadedComponent<P>> {
  const folder = (await openFolder(files, name))!;
  const { known, className } = folder;
  if (!known || !('component' in known) || !className.startsWith(kind))
    throw new UserError(`${files.name}: its ${name} is of the class ${className}, which is not supported here`);
  return loadComponent(folder, known.component as Component<P>, variant);
}

/** The text encoder with what adapters hold for it; those of a distillation here hold nothing. */
async function withTextAdapters(
  text: Pipeline['text'],
  adapters: readonly ChosenAdapter[],
): Promise<{ text: Pipeline['text']; notes: string[] }> {
  const applied = [];
  for (const { file, scale, options } of adapters) {
    if (adapterOptions(file)) continue;
    const lora = await openLora(file, options);
    const { modules } = lora;
    // What names no network is the network's.
    if (modules.some(({ part }) => part === 'text encoder')) applied.push({ lora, scale });
  }
  if (!applied.length) return { text, notes: [] };
  const { weights, notes } = withLoras(text.weights, text.layout.parameters, applied, 'text encoder');
  return { text: { ...text, weights }, notes: [...notes] };
}

/** Sides of pictures that a pipeline was made for. */
export function ownSides({ network, vae }: Pipeline): Sides {
  const [, height, width] = network.model.sampleShape;
  return [height * vae.parts.factor, width * vae.parts.factor];
}

/**
 * A pipeline's network for pictures of those sides and its own number of tokens.
 * @throws UserError where the autoencoder does not divide the sides
 */
export function networkFor({ network, tokenizer, vae }: Pipeline, [height, width]: Sides): Network {
  const { factor } = vae.parts;
  if (height % factor || width % factor || height <= 0 || width <= 0)
    throw new UserError(
      `${height}x${width}: sides are multiples of ${factor}, which its autoencoder divides them by`,
      'size',
    );
  const [channels] = network.model.sampleShape;
  const sides = [height / factor, width / factor];
  const { context, channels: further } = network.model.conditions;
  return fitNetwork(network, {
    sample: [channels, ...sides],
    conditions: {
      context: [tokenizer.length, context.shape[1]],
      ...(further && { channels: [further.shape[0], ...sides] }),
    },
  });
}
