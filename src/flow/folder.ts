import { asWanted, openFolderWeights } from '../checkpoint/folder.js';
import type { SafetensorsFile } from '../checkpoint/safetensors.js';
import { UserError } from '../errors.js';
import { issueText } from '../issue.js';
import { readText, type Files } from '../files/store.js';
import type { Backbone } from '../models/backbone.js';
import type { Component, ComponentParts } from '../models/component.js';
import { folderClasses, presentName, type FolderClass } from '../models/diffusers/index.js';
import { buildModel } from '../models/index.js';
import { ParameterLayout } from '../nn/parameters.js';
import type { Weights } from '../nn/weights.js';
import { parseDescription, type Description } from './description.js';
import { fileWeights, loadNetwork, type Network } from './network.js';
import { lawOf } from './scheduler-config.js';

/** A class's options by their names in its config.json. */
export type Options = Readonly<Record<string, unknown>>;

/** A network in a folder, as diffusers and transformers save one: its class, its options, and files of weights. */
export interface ModelFolder {
  /** Where its config.json and its weights are. */
  readonly files: Files;
  readonly className: string;
  /** What it is here; null for a class that is not known. */
  readonly known: FolderClass | null;
  /** Without keys that speak of the file and not of the network. */
  readonly options: Options;
  /** The scheduler's configuration beside it, and where that lies. */
  readonly scheduler: { readonly config: Options; readonly origin: string } | null;
  /** The components of the whole, by name with their class; empty for one that stands alone. */
  readonly components: Readonly<Record<string, string>>;
}

/**
 * Opens a folder that holds a whole pipeline (`model_index.json`) or one network of it (`config.json`).
 * @param wanted the component of a pipeline; by default the one that predicts on a path
 * @returns null where it is no such folder
 * @throws UserError where it is one, and its files contradict themselves or lack something
 */
export async function openFolder(files: Files, wanted?: string): Promise<ModelFolder | null> {
  const index = await readJson(files, 'model_index.json');
  if (!index) {
    const folder = await openComponentFolder(files, {});
    if (!folder || folder.scheduler) return folder;
    const whole = await readJson(files, '../model_index.json');
    const scheduler = await schedulerIn(files, whole ? '../scheduler/' : '');
    return { ...folder, scheduler };
  }
  const components = componentsOf(index);
  const name = wanted ?? Object.keys(components).find((key) => isBackbone(components[key]));
  const held = Object.entries(components).map(([key, className]) => `${key} (${className})`);
  if (name === undefined || !Object.hasOwn(components, name))
    throw new UserError(
      `${files.name}: ${name === undefined ? 'no component predicts on a path that is known here' : `there is no component ${name}`}: it holds ${held.join(', ') || 'none'}`,
    );
  // Pipelines of one network may keep all files in one folder.
  const inside = (await files.open(`${name}/config.json`)) ? below(files, name) : files;
  const folder = await openComponentFolder(inside, components);
  if (!folder)
    throw new UserError(`${files.name}: model_index.json names ${name}, but there is no ${name}/config.json`);
  return { ...folder, scheduler: (await schedulerIn(files, 'scheduler/')) ?? (await schedulerIn(files, '')) };
}

async function openComponentFolder(files: Files, components: ModelFolder['components']): Promise<ModelFolder | null> {
  const config = await readJson(files, 'config.json');
  if (!config) return null;
  const { _class_name: diffusers, architectures } = config;
  const className = typeof diffusers === 'string' ? diffusers : Array.isArray(architectures) && architectures[0];
  if (typeof className !== 'string') return null;
  const options = Object.fromEntries(Object.entries(config).filter(([key]) => !key.startsWith('_')));
  const known = Object.hasOwn(folderClasses, className) ? folderClasses[className] : null;
  return { files, className, known, options, scheduler: null, components };
}

const isBackbone = (className: string): boolean =>
  Object.hasOwn(folderClasses, className) && 'backbone' in folderClasses[className];

/** Names and classes in a pipeline's index; those that are left out of it are [null, null]. */
const componentsOf = (index: Options): Record<string, string> =>
  Object.fromEntries(
    Object.entries(index).flatMap(([name, entry]) =>
      Array.isArray(entry) && typeof entry[1] === 'string' ? [[name, entry[1]] as const] : [],
    ),
  );

async function schedulerIn(files: Files, folder: string): Promise<ModelFolder['scheduler']> {
  const path = `${folder}scheduler_config.json`;
  const config = await readJson(files, path);
  return config && { config, origin: `${files.name}/${path}` };
}

/** The files below a folder, by paths from there. */
export const below = (files: Files, folder: string): Files => ({
  name: `${files.name}/${folder}`,
  open: (path) => files.open(`${folder}/${path}`),
  list: async () => {
    const prefix = `${folder}/`;
    return (await files.list()).flatMap((path) => (path.startsWith(prefix) ? [path.slice(prefix.length)] : []));
  },
});

/** Options that training scripts leave among those of a network: they are of its average, and change nothing. */
const ofTraining = new Set(
  'decay inv_gamma min_decay min_value optimization_step power update_after_step use_ema_warmup'.split(' '),
);

/** Numbers that Python writes and JSON does not have. */
const notInJson = /(?<=[:[,]\s*)(-?Infinity|NaN)(?=\s*[,\]}])/g;

/** A JSON object of a folder; null where there is no such file. @throws UserError where it is something else */
export async function readJson(files: Files, path: string): Promise<Options | null> {
  const text = await readText(files, path);
  if (text === null) return null;
  try {
    const tree: unknown = JSON.parse(text.replace(notInJson, 'null'));
    if (tree && typeof tree === 'object' && !Array.isArray(tree)) return tree as Options;
  } catch {
    // Said below.
  }
  throw new UserError(`${files.name}/${path} is no JSON object: fetch it again`);
}

/**
 * A class's options, completed by its defaults. Options that the class here does not know are refused by name, unless they
 * say nothing (null or false).
 */
function completed({ files, className, options }: ModelFolder, { schema }: Backbone | Component): Options {
  const known = (schema as { shape?: Options }).shape ?? {};
  const stated = Object.entries(options).filter(
    ([key, value]) => Object.hasOwn(known, key) || !(ofTraining.has(key) || value === null || value === false),
  );
  const result = schema.safeParse(Object.fromEntries(stated));
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const origin = `${files.name}/config.json`;
  if (issue.code === 'unrecognized_keys')
    throw new UserError(`${origin}: ${issue.keys[0]} is an option of ${className} that is not supported`);
  throw new UserError(`${origin}: ${issue.path.join('.') || className}: ${issueText(issue)}`);
}

/**
 * The teacher that a folder holds: its options are the architecture, its scheduler's configuration is the path.
 * @throws UserError naming the class or the option that is not supported, or the scheduler that is missing
 */
export function folderDescription(folder: ModelFolder): Description {
  const { files, className, known, scheduler, components } = folder;
  if (!known) throw unknownClass(folder);
  if (!('backbone' in known))
    throw new UserError(
      `${files.name} holds the class ${className}, which predicts on no path: give the folder of a UNet or DiT`,
    );
  if (!scheduler)
    throw new UserError(
      `${files.name} does not say on which path its ${className} was trained: put its scheduler_config.json there, or give the folder with model_index.json`,
    );
  const { name: kind } = known.backbone;
  const architecture = { kind, ...completed(folder, known.backbone) };
  const channels = buildModel(architecture).sampleShape[0];
  // What an autoencoder has made smaller are no pixels.
  const pixels = !('vae' in components || 'vqvae' in components) && (channels === 1 || channels === 3);
  return parseDescription(
    { architecture, ...lawOf(scheduler.config, scheduler.origin), ...(pixels && { dataRange: [-1, 1] }) },
    files.name,
  );
}

/**
 * What the config.json of a network says as diffusers writes it: its class, and its options under diffusers' names.
 * @throws UserError where the network is of no class of diffusers
 */
export function folderConfig({ architecture }: Pick<Description, 'architecture'>): Options {
  // How many tokens a text has is the tokenizer's to say.
  const { kind, context_tokens: _, ...options } = architecture;
  const found = Object.entries(folderClasses).find(([, known]) => 'backbone' in known && known.backbone.name === kind);
  if (!found)
    throw new UserError(
      `a network of kind ${kind} is no class of diffusers: only those can be folders, so give a file, such as teacher.safetensors`,
      'out',
    );
  return { _class_name: found[0], ...options };
}

const unknownClass = ({ files, className }: ModelFolder): UserError =>
  new UserError(
    `${files.name} holds the class ${className}, which is none of those that are known: ${Object.keys(folderClasses).join(', ')}`,
  );

/**
 * The files of a folder's weights, under the names that its network has for them.
 * @param variant such as fp16
 */
export async function folderWeights(
  { files }: ModelFolder,
  parameters: ComponentParts['parameters'],
  variant?: string,
): Promise<SafetensorsFile> {
  return asWanted(await openFolderWeights(files, variant), parameters, presentName);
}

/**
 * The teacher of a folder, and the opened file of its weights, whose notes say what was chosen or passed over.
 * @param variant of the weights, such as fp16
 */
export async function loadFolder(
  folder: ModelFolder,
  variant?: string,
): Promise<{ network: Network; file: SafetensorsFile }> {
  const description = folderDescription(folder);
  const file = await folderWeights(folder, buildModel(description.architecture).parameters, variant);
  return { network: { ...(await loadNetwork(file, description)), scheduler: folder.scheduler!.config }, file };
}

/** A component with its weights, which `bindNetwork` gives a device as it does those of a network. */
export interface LoadedComponent<P extends ComponentParts> {
  parts: P;
  layout: ParameterLayout;
  weights: Weights;
  /** The opened file of them; its notes say what was chosen or passed over. */
  file: SafetensorsFile;
}

/**
 * A component of a folder with its weights.
 * @param component what the folder is to hold
 * @throws UserError where it holds something else, or an option or a tensor does not fit
 */
export async function loadComponent<P extends ComponentParts>(
  folder: ModelFolder,
  component: Component<P>,
  variant?: string,
): Promise<LoadedComponent<P>> {
  const { files, className, known } = folder;
  if (!known || !('component' in known) || known.component !== component)
    throw new UserError(`${files.name} holds the class ${className}, which is not what is asked for`);
  const parts = component.build(completed(folder, component));
  const layout = new ParameterLayout(parts.parameters);
  const file = await folderWeights(folder, parts.parameters, variant);
  return { parts, layout, weights: await fileWeights(file, layout), file };
}
