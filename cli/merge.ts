import { writeSafetensors } from '../node/files.js';
import { adapterAt } from '../node/adapter.js';
import { UserError } from '../src/errors.js';
import { autoguidedNetwork, exportNetwork } from '../src/flow/network.js';
import { originMetadata, readOrigin } from '../src/flow/origin.js';
import { numberBetween } from './arguments.js';
import { readNetwork } from './networks.js';
import { checkOutput } from './output.js';

export interface MergeFlags {
  model: string;
  arch?: string;
  lora?: string[];
  weak?: string;
  autoguidance?: string;
  out: string;
}

/** `semiflow merge`: folds what changes a network into its file, adapters or a weaker network; the result is one like any other. */
export async function merge({ model, arch, lora = [], weak, autoguidance, out }: MergeFlags): Promise<void> {
  await checkOutput(out, ['.safetensors'], model);
  if ((weak === undefined) !== (autoguidance === undefined))
    throw new UserError('goes with a scale: give --weak FILE and --autoguidance W', weak ? 'weak' : 'autoguidance');
  if (!lora.length && weak === undefined)
    throw new UserError('merge folds something into --model: give --lora FILE, or --weak FILE with --autoguidance');
  const folded = await readNetwork(model, arch, lora);
  const away = weak === undefined ? null : await readNetwork(weak, arch);
  const network = away
    ? autoguidedNetwork(folded, away, numberBetween('--autoguidance', autoguidance!, 0, 100))
    : folded;
  const { tensors, metadata } = exportNetwork(network);
  const adapters = await Promise.all(lora.map(adapterAt));
  // A student that was distilled as an adapter still says how.
  const origin = adapters.map(({ file }) => readOrigin(file.metadata)).findLast(Boolean);
  await writeSafetensors(out, tensors, { ...metadata, ...(origin && originMetadata(origin)) });
  const names = [...lora, ...(weak === undefined ? [] : [`${weak}, which it is led away from,`])];
  console.log(`${model} with ${names.join(' and ')} folded in: ${out}`);
}
