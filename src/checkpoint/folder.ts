import { UserError } from '../errors.js';
import { readText, type Files } from '../files/store.js';
import { sameShape, type Shape } from '../tensor/shape.js';
import type { SafetensorsFile } from './safetensors.js';
import { openWeights } from './weights.js';

/** File names that weights have in folders, those that are preferred first; others are optimizers, adapters and such. */
const stems = ['diffusion_pytorch_model', 'model', 'pytorch_model'];
const formats = ['safetensors', 'bin'];

/** Weights that a folder holds: one file, or an index of several. */
interface Candidate {
  path: string;
  /** Such as `fp16`; empty for the plain ones. */
  variant: string;
  rank: number;
  sharded: boolean;
}

function candidateOf(path: string): Candidate | null {
  const index = /^(.*)\.(safetensors|bin)\.index(?:\.(\w+))?\.json$/.exec(path);
  const file = /^(.*)\.(safetensors|bin)$/.exec(path);
  const match = index ?? file;
  if (!match || /-\d+-of-\d+$/.test(match[1])) return null;
  const [stem, inName = ''] = match[1].split(/\.(.*)/s);
  if (!stems.includes(stem)) return null;
  const rank = formats.indexOf(match[2]) * stems.length + stems.indexOf(stem);
  return { path, variant: index?.[3] ?? inName, rank, sharded: index !== null };
}

/**
 * Opens the weights of a folder: `.safetensors` or else PyTorch's `.bin`, whole or in shards that an index names, in plain
 * or else in the one variant that there is, such as fp16.
 * @param variant which variant, where it is asked for
 * @throws UserError naming what the folder holds, where it has no weights or only several variants of them
 */
export async function openFolderWeights(files: Files, variant?: string): Promise<SafetensorsFile> {
  const candidates = (await files.list())
    .flatMap((path) => candidateOf(path) ?? [])
    .sort((a, b) => a.rank - b.rank || Number(a.sharded) - Number(b.sharded));
  const variants = [...new Set(candidates.map(({ variant }) => variant))];
  const chosen = variant ?? (variants.includes('') || variants.length !== 1 ? '' : variants[0]);
  const found = candidates.find((candidate) => candidate.variant === chosen);
  if (!found) {
    const named = variants.filter(Boolean).join(', ');
    throw new UserError(
      variant === undefined && !named
        ? `${files.name} holds no weights: diffusion_pytorch_model.safetensors is looked for, model.safetensors, and .bin of these`
        : `${files.name} holds no ${chosen || 'plain'} weights${named ? `, but the variants ${named}: choose one` : ', only plain ones'}`,
      'weights',
    );
  }
  const opened = found.sharded
    ? await openShards(files, found.path)
    : await openWeights((await files.open(found.path))!);
  if (!found.variant || variant !== undefined) return opened;
  return { ...opened, notes: [...(opened.notes ?? []), `the weights ${found.path}, the only ones`] };
}

/** Weights in several files: `weight_map` of the index says for each tensor in which. */
async function openShards(files: Files, index: string): Promise<SafetensorsFile> {
  const name = `${files.name}/${index}`;
  const map = parseIndex((await readText(files, index))!, name);
  const shards = new Map<string, SafetensorsFile>();
  for (const path of new Set(map.values())) {
    const source = /[/\\]/.test(path) ? null : await files.open(path);
    if (!source) throw new UserError(`${name} names ${path}, which the folder does not hold: fetch all of its files`);
    shards.set(path, await openWeights(source));
  }
  const shardOf = (tensor: string): SafetensorsFile => {
    const path = map.get(tensor);
    if (path === undefined) throw new UserError(`${name}: there is no tensor "${tensor}"`);
    return shards.get(path)!;
  };
  const tensors: SafetensorsFile['tensors'] = new Map();
  for (const [tensor, path] of map) {
    const entry = shards.get(path)!.tensors.get(tensor);
    if (!entry) throw new UserError(`${name} looks for ${tensor} in ${path}, which does not hold it: fetch both again`);
    tensors.set(tensor, entry);
  }
  return {
    name,
    metadata: {},
    tensors,
    read: async (tensor) => shardOf(tensor).read(tensor),
    readF32: async (tensor) => shardOf(tensor).readF32(tensor),
    notes: [...shards.values()].flatMap(({ notes = [] }) => notes),
  };
}

function parseIndex(text: string, name: string): Map<string, string> {
  let tree: unknown;
  try {
    tree = JSON.parse(text);
  } catch {
    throw new UserError(`${name} is no JSON: fetch it again`);
  }
  const entries = Object.entries((tree as { weight_map?: Record<string, unknown> } | null)?.weight_map ?? {});
  const broken = entries.find(([, path]) => typeof path !== 'string');
  if (!entries.length || broken) throw new UserError(`${name} has no weight_map of names to files: fetch it again`);
  return new Map(entries as [string, string][]);
}

/** Whether two shapes differ in extents of 1 at their ends alone: a 1 x 1 convolution and the matrix that it is. */
const alike = (a: Shape, b: Shape): boolean => {
  const trimmed = (shape: Shape) => shape.slice(0, shape.findLastIndex((extent) => extent !== 1) + 1);
  return sameShape(trimmed(a), trimmed(b));
};

/**
 * A file as the network wants it: tensors under former names have their present ones, 1 x 1 convolutions and matrices have
 * the shape that is asked for, and tensors that nobody asks for are passed over, which its notes say.
 * @param wanted the network's parameters
 * @param presentName of a tensor under a former name
 */
export function asWanted(
  file: SafetensorsFile,
  wanted: readonly { readonly name: string; readonly shape: Shape }[],
  presentName: (name: string) => string,
): SafetensorsFile {
  const shapes = new Map(wanted.map(({ name, shape }) => [name, shape]));
  const stored = new Map<string, string>();
  const [others, renamed] = [[] as string[], [] as string[]];
  for (const name of file.tensors.keys()) {
    const present = shapes.has(name) ? name : presentName(name);
    if (!shapes.has(present)) others.push(name);
    else if (present === name || !file.tensors.has(present)) stored.set(present, name);
    if (present !== name && stored.get(present) === name) renamed.push(name);
  }
  const tensors: SafetensorsFile['tensors'] = new Map();
  for (const [present, name] of stored) {
    const [entry, shape] = [file.tensors.get(name)!, shapes.get(present)!];
    tensors.set(present, alike(entry.shape, shape) ? { ...entry, shape: [...shape] } : entry);
  }
  const nameOf = (present: string) => stored.get(present) ?? present;
  const some = (names: readonly string[]) =>
    names.slice(0, 3).join(', ') + (names.length > 3 ? `, … (${names.length})` : '');
  return {
    ...file,
    tensors,
    read: (present) => file.read(nameOf(present)),
    readF32: (present) => file.readF32(nameOf(present)),
    notes: [
      ...(file.notes ?? []),
      ...(renamed.length ? [`former names read as those of today: ${some(renamed)}`] : []),
      ...(others.length ? [`passed over, as the network has no such tensors: ${some(others)}`] : []),
    ],
  };
}
