import { stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { adapterAt } from '../node/adapter.js';
import { readTextFile, readWeights } from '../node/files.js';
import { modelFolderAt } from '../node/folder.js';
import { isModule, loadBackbone } from '../node/module.js';
import type { SafetensorsFile } from '../src/checkpoint/safetensors.js';
import { UserError } from '../src/errors.js';
import { withAdapters } from '../src/flow/adapter.js';
import { descriptionSchema, metadataKey, type Description } from '../src/flow/description.js';
import { loadFolder } from '../src/flow/folder.js';
import { loadNetwork, fitFor, type Network } from '../src/flow/network.js';
import { agree, type Group } from '../src/gpu/group.js';
import { networkFingerprint } from '../trainers/runs.js';
import { check, parseYaml, type Locate } from './config.js';

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
  return check(descriptionSchema, tree, (key, ofName) => `${path}${locate(key, ofName)}`);
}

/**
 * What a network is, as a run's configuration has it.
 * @param locate where its keys stand in that file
 * @throws UserError with the line and column of a mistake
 */
export async function readMadeDescription(description: unknown, file: string, locate: Locate): Promise<Description> {
  await loadModuleOf(description, dirname(file));
  return check(descriptionSchema, description, (key, ofName) => `${file}${locate(['description', ...key], ofName)}`);
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
 * A network from a file of weights, or from a folder as diffusers saves one.
 * @param arch where the file does not say all itself: the YAML that describes it, or the module of its backbone
 * @param lora adapters to be folded in, `FILE` or `FILE:scale` each
 */
export async function readNetwork(path: string, arch?: string, lora: readonly string[] = []): Promise<Network> {
  return adapted(await readWhole(path, arch), lora);
}

/** A network with adapters folded in; says what was done. */
export async function adapted(whole: Network, lora: readonly string[] = []): Promise<Network> {
  const { network, notes } = await withAdapters(whole, await Promise.all(lora.map(adapterAt)));
  for (const note of notes) console.log(note);
  return network;
}

async function readWhole(path: string, arch?: string): Promise<Network> {
  const opened = await readFolder(path, arch);
  if (opened) return opened.network;
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

/**
 * The teacher in a folder as diffusers saves one, with the opened file of its weights; null for anything but a folder.
 * @throws UserError where the folder holds no network, or is described twice
 */
export async function readFolder(
  path: string,
  arch?: string,
): Promise<{ network: Network; file: SafetensorsFile } | null> {
  const found = await modelFolderAt(path);
  if (!found) {
    if (!(await stat(path).catch(() => null))?.isDirectory()) return null;
    throw new UserError(
      `${path} is a folder without config.json or model_index.json: give a file of weights, or a folder as diffusers saves one`,
    );
  }
  if (arch) throw new UserError(`${path} says itself what it is, by its config.json: leave ${arch} out`, 'arch');
  const opened = await loadFolder(found.folder, found.variant);
  for (const note of opened.file.notes ?? []) console.log(`${path}: ${note}`);
  return opened;
}

/** A file of weights, which are those of a description where it is given; says what was chosen or left in it. */
export async function readWeightsOf(path: string, description?: Description): Promise<SafetensorsFile> {
  const file = await readWeights(path, description && fitFor(description));
  for (const note of file.notes ?? []) console.log(`${path}: ${note}`);
  return file;
}

/** A teacher; a student is refused, because its velocity is only an approximation. */
export async function readTeacher(path: string, arch?: string, lora?: readonly string[]): Promise<Network> {
  const network = await readNetwork(path, arch, lora);
  if (network.description.role !== 'teacher')
    throw new UserError(`${path} is a flow map, not a teacher: give the file that it was distilled from`);
  return network;
}

/**
 * Refuses ranks that would not ask the same networks for the same.
 * @param settings what else decides the result, as JSON holds it
 */
export async function agreeOnNetworks(
  group: Group,
  networks: Readonly<Record<string, Network>>,
  settings: object,
): Promise<void> {
  if (group.size === 1) return;
  const marks: Record<string, string> = {};
  for (const [name, network] of Object.entries(networks)) marks[name] = await networkFingerprint(network);
  const given = Object.entries(settings).map(([name, value]) => [name, JSON.stringify(value) ?? 'none']);
  await agree(group, { ...marks, ...Object.fromEntries(given) });
}
