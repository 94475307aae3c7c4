import { dirname } from 'node:path';
import { readTextFile } from '../node/files.js';
import { isModule, loadBackbone } from '../node/module.js';
import type { Dataset } from '../src/data/dataset.js';
import { UserError } from '../src/errors.js';
import { parseDescription, type Description } from '../src/flow/description.js';
import { defaultArchitecture } from '../src/models/index.js';
import { parseYaml } from './config.js';
import { loadModuleOf } from './networks.js';

/** What a user says of a network that is yet to be trained. */
export interface NewNetworkFlags {
  /** The architecture in full or what the network is to be, as YAML, or the module of a backbone of one's own. */
  arch?: string;
  /** A kind of network, of the default size for the data. */
  model?: string;
  /** What it is to predict, and on which path. */
  prediction?: string;
  path?: string;
}

const paths: Record<string, object> = {
  straight: { kind: 'straight' },
  'vp-linear': { kind: 'vp', schedule: 'linear' },
  'vp-cosine': { kind: 'vp', schedule: 'cosine' },
  'vp-scaled-linear': { kind: 'vp', schedule: 'scaled-linear' },
  ve: { kind: 've' },
};

/** Time inputs of levels up to 1000 are made small for networks whose embedding is of t itself. */
const levelScale = 1e-3;

/**
 * The description of a network to be trained on a data set.
 * @throws UserError naming the flag that does not fit
 */
export async function describeNetwork(flags: NewNetworkFlags, data: Dataset): Promise<Description> {
  const { arch, model, prediction = 'velocity', path = 'straight' } = flags;
  if (!Object.hasOwn(paths, path))
    throw new UserError(`--path ${path}: choose one of ${Object.keys(paths).join(', ')}`);
  const described = arch && !isModule(arch) ? await readTree(arch) : null;
  for (const [name, given] of Object.entries({ prediction: flags.prediction, path: flags.path }))
    if (given !== undefined && described && Object.hasOwn(described, name))
      throw new UserError(`--${name} ${given} stands beside ${arch}, which says its own: leave one out`);
  const description = {
    architecture: described?.architecture ?? defaultArchitecture(data, arch ? (await loadBackbone(arch)).name : model),
    prediction,
    path: paths[path],
    ...(path.startsWith('vp') && !described && { timeScale: levelScale }),
    data: data.name,
    ...(data.kind === 'images' && { dataRange: data.range }),
    ...described,
  };
  const parsed = parseDescription(description, arch ?? '--prediction and --path');
  if (parsed.role !== 'teacher')
    throw new UserError(`${arch} describes a flow map; what is trained here is described as a teacher: leave role out`);
  return parsed;
}

/** A YAML file that holds a description or an architecture alone; its module is loaded. */
async function readTree(path: string): Promise<{ architecture: unknown }> {
  const { tree } = parseYaml(await readTextFile(path), path);
  const whole = 'architecture' in tree ? (tree as { architecture: unknown }) : { architecture: tree };
  await loadModuleOf(whole, dirname(path));
  return whole;
}
