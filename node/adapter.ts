import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { PeftOptions } from '../src/checkpoint/lora.js';
import { UserError } from '../src/errors.js';
import type { ChosenAdapter } from '../src/flow/adapter.js';
import { readTextFile, readWeights } from './files.js';

/** Names that PEFT and diffusers give an adapter's file in a folder. */
const names = ['adapter_model', 'pytorch_lora_weights'].flatMap((name) => [`${name}.safetensors`, `${name}.bin`]);

const kindAt = async (path: string) => {
  const found = await stat(path).catch(() => null);
  return found?.isDirectory() ? 'folder' : found ? 'file' : null;
};

/**
 * A low-rank adapter from `FILE` or `FILE:scale`; of a folder as PEFT and diffusers save one, the file in it.
 * @throws UserError where there is none, or adapter_config.json beside it is no JSON
 */
export async function adapterAt(text: string): Promise<ChosenAdapter> {
  const [, before, number] = /^(.+):([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)$/i.exec(text) ?? [];
  // A file may have such a name.
  const scaled = number !== undefined && (await kindAt(text)) === null;
  const path = scaled ? before : text;
  const file = (await kindAt(path)) === 'folder' ? await fileIn(path) : path;
  const config = join(dirname(file), 'adapter_config.json');
  return {
    file: await readWeights(file),
    scale: scaled ? Number(number) : 1,
    ...((await kindAt(config)) === 'file' && { options: await readOptions(config) }),
  };
}

async function fileIn(folder: string): Promise<string> {
  for (const name of names) if ((await kindAt(join(folder, name))) === 'file') return join(folder, name);
  throw new UserError(`${folder} holds no adapter: ${names[0]} is looked for, or ${names[2]}`, 'lora');
}

async function readOptions(path: string): Promise<PeftOptions> {
  try {
    const tree: unknown = JSON.parse(await readTextFile(path));
    if (tree && typeof tree === 'object') return tree;
  } catch (error) {
    if (error instanceof UserError) throw error;
  }
  throw new UserError(`${path} is no JSON object: fetch it again`, 'lora');
}
