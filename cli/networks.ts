import { readSafetensors, readTextFile } from '../node/files.js';
import { UserError } from '../src/errors.js';
import { descriptionSchema, type Description } from '../src/flow/description.js';
import { loadNetwork, type Network } from '../src/flow/network.js';
import { check, parseYaml } from './config.js';

/** A description of a foreign file, from YAML. @throws UserError with the line and column of a mistake */
export async function readDescription(path: string): Promise<Description> {
  const { tree, locate } = parseYaml(await readTextFile(path), path);
  return check(descriptionSchema, tree, (key) => `${path}${locate(key)}`);
}

/** A network from a safetensors file; `arch` is the YAML that describes it where it does not do so itself. */
export async function readNetwork(path: string, arch?: string): Promise<Network> {
  return loadNetwork(await readSafetensors(path), arch ? await readDescription(arch) : undefined);
}

/** A teacher; a student is refused, because its velocity is only an approximation. */
export async function readTeacher(path: string, arch?: string): Promise<Network> {
  const network = await readNetwork(path, arch);
  if (network.description.role !== 'teacher')
    throw new UserError(`${path} is a flow map, not a teacher: give the file that it was distilled from`);
  return network;
}
