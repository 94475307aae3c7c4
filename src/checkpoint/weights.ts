import type { Source } from '../files/source.js';
import { isPytorch, openPytorch } from './pytorch/file.js';
import { openSafetensors, type SafetensorsFile } from './safetensors.js';

/**
 * Opens a file of weights; its content says of which kind it is, safetensors or PyTorch's.
 * @param chosen the path of the state dict where a PyTorch file holds several, such as `ema.model`
 * @throws UserError in one line where it is neither, or damaged
 */
export async function openWeights(source: Source, chosen?: string): Promise<SafetensorsFile> {
  const head = await source.read(0, Math.min(4, source.size));
  return isPytorch(head) ? openPytorch(source, chosen) : openSafetensors(source);
}
