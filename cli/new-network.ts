import { dirname } from 'node:path';
import { readTextFile } from '../node/files.js';
import { modelFolderAt } from '../node/folder.js';
import { isModule, loadBackbone } from '../node/module.js';
import type { Dataset } from '../src/data/dataset.js';
import { UserError } from '../src/errors.js';
import type { Description } from '../src/flow/description.js';
import { folderDescription } from '../src/flow/folder.js';
import { newDescription } from '../src/flow/new-description.js';
import { parseYaml } from './config.js';
import { loadModuleOf } from './networks.js';

/** What a user says of a network that is yet to be trained. */
export interface NewNetworkFlags {
  /** The architecture in full or what the network is to be, as YAML, as a folder of diffusers says it, or the module of a backbone of one's own. */
  arch?: string;
  /** A kind of network, of the default size for the data. */
  model?: string;
  /** What it is to predict, and on which path. */
  prediction?: string;
  path?: string;
}

/**
 * The description of a network to be trained on a data set.
 * @throws UserError naming the flag that does not fit
 */
export async function describeNetwork(flags: NewNetworkFlags, data: Dataset): Promise<Description> {
  const { arch, model, prediction, path } = flags;
  const described = arch && !isModule(arch) ? await readTree(arch) : null;
  for (const [name, given] of Object.entries({ prediction, path }))
    if (given !== undefined && described && Object.hasOwn(described, name))
      throw new UserError(`--${name} ${given} stands beside ${arch}, which says its own: leave one out`);
  const parsed = newDescription(data, {
    model: arch && isModule(arch) ? (await loadBackbone(arch)).name : model,
    prediction,
    path,
    ...(described && { stated: described }),
    origin: arch ?? '--prediction and --path',
  });
  if (parsed.role !== 'teacher')
    throw new UserError(`${arch} describes a flow map; what is trained here is described as a teacher: leave role out`);
  return parsed;
}

/**
 * What a folder of diffusers says of its network, whose weights may be missing; null where a path leads to no folder.
 * @throws UserError where flags say it too, or the folder holds no network
 */
export async function folderNetwork({
  arch,
  model,
  prediction,
  path,
}: NewNetworkFlags): Promise<{ description: Description; scheduler: Readonly<Record<string, unknown>> } | null> {
  const found = arch === undefined ? null : await modelFolderAt(arch);
  if (!found) return null;
  for (const [name, given] of Object.entries({ model, prediction, path }))
    if (given !== undefined)
      throw new UserError(`--${name} ${given} stands beside ${arch}, which says its own: leave one out`);
  return { description: folderDescription(found.folder), scheduler: found.folder.scheduler!.config };
}

/** A YAML file that holds a description or an architecture alone; its module is loaded. */
async function readTree(path: string): Promise<{ architecture: unknown }> {
  const { tree } = parseYaml(await readTextFile(path), path);
  const whole = 'architecture' in tree ? (tree as { architecture: unknown }) : { architecture: tree };
  await loadModuleOf(whole, dirname(path));
  return whole;
}
