import type { Source } from '../files/source.js';
import { isPytorch, openPytorch, type Wanted } from './pytorch/file.js';
import { openSafetensors, type SafetensorsFile } from './safetensors.js';

/**
 * Opens a file of weights; its content says of which kind it is, safetensors or PyTorch's.
 * @param wanted which of the sets of tensors in a PyTorch file, and what the names of any file may begin with
 * @throws UserError in one line where it is neither, or damaged
 */
export async function openWeights(source: Source, wanted: Wanted = {}): Promise<SafetensorsFile> {
  const head = await source.read(0, Math.min(4, source.size));
  const file = await (isPytorch(head) ? openPytorch(source, wanted) : openSafetensors(source));
  const prefix = wanted.prefixOf?.(file.tensors);
  return prefix ? withoutPrefix(file, prefix) : file;
}

/** A file whose names all begin with `prefix`, with names that do not. */
function withoutPrefix(file: SafetensorsFile, prefix: string): SafetensorsFile {
  return {
    ...file,
    tensors: new Map([...file.tensors].map(([name, entry]) => [name.slice(prefix.length), entry])),
    read: (name) => file.read(prefix + name),
    readF32: (name) => file.readF32(prefix + name),
    notes: [...(file.notes ?? []), `the names without ${prefix} in front`],
  };
}
