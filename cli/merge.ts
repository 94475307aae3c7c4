import { writeSafetensors } from '../node/files.js';
import { adapterAt } from '../node/adapter.js';
import { exportNetwork } from '../src/flow/network.js';
import { originMetadata, readOrigin } from '../src/flow/origin.js';
import { readNetwork } from './networks.js';
import { checkOutput } from './output.js';

export interface MergeFlags {
  model: string;
  arch?: string;
  lora?: string[];
  out: string;
}

/** `semiflow merge`: folds low-rank adapters into a network; the result is a file like any other. */
export async function merge({ model, arch, lora = [], out }: MergeFlags): Promise<void> {
  await checkOutput(out, ['.safetensors'], model);
  const { tensors, metadata } = exportNetwork(await readNetwork(model, arch, lora));
  const adapters = await Promise.all(lora.map(adapterAt));
  // A student that was distilled as an adapter still says how.
  const origin = adapters.map(({ file }) => readOrigin(file.metadata)).findLast(Boolean);
  await writeSafetensors(out, tensors, { ...metadata, ...(origin && originMetadata(origin)) });
  console.log(`${model} with ${lora.join(', ')} folded in: ${out}`);
}
