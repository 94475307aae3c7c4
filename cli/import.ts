import { writeSafetensors } from '../node/files.js';
import type { Dtype, TensorData } from '../src/checkpoint/safetensors.js';
import { fileDescription, metadataKey } from '../src/flow/description.js';
import { loadNetwork } from '../src/flow/network.js';
import { readDescription, readWeightsOf } from './networks.js';
import { checkOutput } from './output.js';

/**
 * `semiflow import`: writes a state dict again with its description in the metadata, tensors and other metadata as they
 * are, once the whole file has proved to fit.
 */
export async function importCommand(input: string, output: string, { arch }: { arch: string }): Promise<void> {
  await checkOutput(output, ['.safetensors'], input);
  const description = await readDescription(arch);
  const file = await readWeightsOf(input, description);
  const { layout } = await loadNetwork(file, description);
  const tensors = new Map<string, TensorData>();
  for (const [name, { dtype, shape }] of file.tensors) {
    // Tensors of types that are not known were refused when the network was loaded.
    const data = await file.read(name);
    tensors.set(name, { dtype: dtype as Dtype, shape, data });
  }
  await writeSafetensors(output, tensors, {
    ...file.metadata,
    [metadataKey]: JSON.stringify(fileDescription(description)),
  });
  console.log(`${output}: a ${description.role} of ${layout.count} parameters that says what it is`);
}
