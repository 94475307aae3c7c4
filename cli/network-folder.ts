import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { writeSafetensors } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import { UserError } from '../src/errors.js';
import { tensorsOf } from '../src/flow/network.js';
import type { ParameterLayout } from '../src/nn/parameters.js';
import type { Weights } from '../src/nn/weights.js';

const weightsName = 'diffusion_pytorch_model.safetensors';

/**
 * Checks, before any work is done for it, that a network can be written as a folder.
 * @throws UserError where weights are there already
 */
export function checkNetworkFolder(out: string): void {
  const file = join(out, weightsName);
  if (existsSync(file))
    throw new UserError(
      `${file} is there already, and no weights are replaced: remove it or choose another folder`,
      'out',
    );
}

/**
 * Writes a network as diffusers saves one.
 * @param config its class and options
 * @param scheduler what says its path; it is written where the folder is not one of a pipeline, which has its own
 */
export async function writeNetworkFolder(
  out: string,
  config: Readonly<Record<string, unknown>>,
  { layout, weights }: { readonly layout: ParameterLayout; readonly weights: Weights },
  scheduler?: Readonly<Record<string, unknown>>,
): Promise<void> {
  const store = folderStore(out);
  const json = (value: object) => `${JSON.stringify(value, null, 2)}\n`;
  await store.write('config.json', json(config));
  if (scheduler && !existsSync(resolve(out, '../model_index.json')))
    await store.write('scheduler_config.json', json(scheduler));
  await writeSafetensors(join(out, weightsName), tensorsOf(layout, weights));
}
