import { writeSafetensors } from '../node/files.js';
import type { Dtype, SafetensorsFile, StreamedTensor } from '../src/checkpoint/safetensors.js';
import { UserError } from '../src/errors.js';
import { fileDescription, metadataKey } from '../src/flow/description.js';
import { loadNetwork, type Network } from '../src/flow/network.js';
import { readDescription, readFolder, readWeightsOf } from './networks.js';
import { checkOutput } from './output.js';

/**
 * `semiflow import`: writes a state dict again with its description in the metadata, tensors and other metadata as they
 * are, once the whole file has proved to fit. A folder as diffusers saves one describes itself.
 */
export async function importCommand(input: string, output: string, { arch }: { arch?: string }): Promise<void> {
  await checkOutput(output, ['.safetensors'], input);
  const { network, file } = (await readFolder(input, arch)) ?? (await described(input, arch));
  const { description, layout } = network;
  const tensors = new Map<string, StreamedTensor>();
  for (const [name, { dtype, shape }] of file.tensors) {
    const parts = async function* () {
      yield await file.read(name);
    };
    // Tensors of types that are not known were refused when the network was loaded.
    tensors.set(name, { dtype: dtype as Dtype, shape, parts });
  }
  await writeSafetensors(output, tensors, {
    ...file.metadata,
    [metadataKey]: JSON.stringify(fileDescription(description)),
  });
  console.log(`${output}: a ${description.role} of ${layout.count} parameters that says what it is`);
}

async function described(input: string, arch?: string): Promise<{ network: Network; file: SafetensorsFile }> {
  if (arch === undefined) throw new UserError(`${input} is described by a YAML file (docs/teachers.md)`, 'arch');
  const description = await readDescription(arch);
  const file = await readWeightsOf(input, description);
  return { network: await loadNetwork(file, description), file };
}
