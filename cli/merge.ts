import { readSafetensors, writeSafetensors } from '../node/files.js';
import { mergeAdapter } from '../src/flow/adapter.js';
import { exportNetwork } from '../src/flow/network.js';
import { readTeacher } from './networks.js';
import { checkOutput } from './output.js';

export interface MergeFlags {
  model: string;
  arch?: string;
  lora: string;
  out: string;
}

/** `semiflow merge`: folds a low-rank adapter into its teacher; the result is a flow map like any other. */
export async function merge({ model, arch, lora, out }: MergeFlags): Promise<void> {
  await checkOutput(out, ['.safetensors'], model);
  const { tensors, metadata } = exportNetwork(
    await mergeAdapter(await readTeacher(model, arch), await readSafetensors(lora)),
  );
  await writeSafetensors(out, tensors, metadata);
  console.log(`${model} with ${lora} folded in: ${out}`);
}
