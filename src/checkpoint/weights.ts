import { UserError } from '../errors.js';
import type { Source } from '../files/source.js';
import { quote } from './header.js';
import { isPytorch, openPytorch, type Fit, type Wanted } from './pytorch/file.js';
import { openSafetensors, type SafetensorsFile } from './safetensors.js';

/**
 * Opens a file of weights; its content says of which kind it is, safetensors or PyTorch's.
 * @param wanted which of the sets of tensors in it, and which tensors of any file
 * @throws UserError in one line where it is neither, or damaged
 */
export async function openWeights(source: Source, wanted: Wanted = {}): Promise<SafetensorsFile> {
  const head = await source.read(0, Math.min(4, source.size));
  const opened = await (isPytorch(head) ? openPytorch(source, wanted) : openSafetensors(source));
  const file = isPytorch(head) ? opened : chosenPart(opened, wanted.chosen);
  const fit = wanted.fit?.(file.tensors, source.name, wanted.chosen === '.' ? '' : undefined);
  return fit && (fit.prefix || fit.extra.length) ? fitted(file, fit) : file;
}

/** The tensors of a file whose names begin with what was chosen. */
function chosenPart(file: SafetensorsFile, chosen: string | undefined): SafetensorsFile {
  if (chosen === undefined || chosen === '.') return file;
  const prefix = `${chosen}.`;
  const others = [...file.tensors.keys()].filter((name) => !name.startsWith(prefix));
  if (others.length === file.tensors.size) {
    const tops = [...new Set(others.map((name) => name.split('.')[0]))];
    throw new UserError(
      `${file.name} has no weights at ${quote(chosen)}: its names begin with ${tops.slice(0, 8).join(', ')}${tops.length > 8 ? ', …' : ''}`,
      'weights',
    );
  }
  return fitted(file, { prefix, extra: others }, []);
}

/** A file without the tensors that nobody asks for, by names without what they begin with. */
function fitted(file: SafetensorsFile, { prefix, extra }: Fit, said = notesOf(prefix, extra)): SafetensorsFile {
  const left = new Set(extra);
  const kept = [...file.tensors].filter(([name]) => !left.has(name));
  return {
    ...file,
    tensors: new Map(kept.map(([name, entry]) => [name.slice(prefix.length), entry])),
    read: (name) => file.read(prefix + name),
    readF32: (name) => file.readF32(prefix + name),
    notes: [...(file.notes ?? []), ...said],
  };
}

function notesOf(prefix: string, extra: readonly string[]): string[] {
  const some = extra.slice(0, 4).join(', ') + (extra.length > 4 ? ', …' : '');
  return [
    ...(prefix ? [`the names without ${prefix} in front`] : []),
    ...(extra.length
      ? [`passed over: ${extra.length} tensor${extra.length > 1 ? 's' : ''} that the network does not have (${some})`]
      : []),
  ];
}
