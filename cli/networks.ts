import { dirname, resolve } from 'node:path';
import { readTextFile, readWeights } from '../node/files.js';
import { isModule, loadBackbone } from '../node/module.js';
import type { SafetensorsFile } from '../src/checkpoint/safetensors.js';
import { UserError } from '../src/errors.js';
import { descriptionSchema, metadataKey, type Description } from '../src/flow/description.js';
import { loadNetwork, prefixFor, type Network } from '../src/flow/network.js';
import { check, parseYaml } from './config.js';

/**
 * A description of a foreign file, from YAML; its architecture's `module`, a path beside the YAML, is loaded.
 * @throws UserError with the line and column of a mistake
 */
export async function readDescription(path: string): Promise<Description> {
  if (isModule(path))
    throw new UserError(
      `${path} is a module, which defines a backbone and no more: say in a YAML file what the weights mean (architecture: {kind: NAME, module: ${path}})`,
      'arch',
    );
  const { tree, locate } = parseYaml(await readTextFile(path), path);
  await loadModuleOf(tree, dirname(path));
  return check(descriptionSchema, tree, (key) => `${path}${locate(key)}`);
}

/**
 * Loads the module that a description names: a path in YAML, or where it lay when a run was started.
 * @param folder that relative paths start from
 */
export async function loadModuleOf(description: unknown, folder: string): Promise<void> {
  const { module } = ((description ?? {}) as { architecture?: { module?: unknown } }).architecture ?? {};
  const path = typeof module === 'string' ? module : (module as { path?: unknown } | undefined)?.path;
  if (typeof path === 'string') await loadBackbone(resolve(folder, path));
}

/**
 * A network from a file of weights.
 * @param arch where the file does not say all itself: the YAML that describes it, or the module of its backbone
 */
export async function readNetwork(path: string, arch?: string): Promise<Network> {
  if (!arch || !isModule(arch)) {
    const description = arch ? await readDescription(arch) : undefined;
    return loadNetwork(await readWeightsOf(path, description), description);
  }
  const file = await readWeights(path);
  await loadBackbone(arch);
  const network = await loadNetwork(file);
  const { module } = network.description.architecture;
  const own = file.metadata[metadataKey];
  if (module && own !== undefined && !own.includes(module.sha256))
    console.log(
      `${path} was written with another version of ${module.name} than ${arch}: its weights fit all the same`,
    );
  return network;
}

/** A file of weights, which are those of a description where it is given; says what was chosen or left in it. */
export async function readWeightsOf(path: string, description?: Description): Promise<SafetensorsFile> {
  const file = await readWeights(path, description && prefixFor(description));
  for (const note of file.notes ?? []) console.log(`${path}: ${note}`);
  return file;
}

/** A teacher; a student is refused, because its velocity is only an approximation. */
export async function readTeacher(path: string, arch?: string): Promise<Network> {
  const network = await readNetwork(path, arch);
  if (network.description.role !== 'teacher')
    throw new UserError(`${path} is a flow map, not a teacher: give the file that it was distilled from`);
  return network;
}
