import { UserError } from '../../errors.js';
import { readAll, type Source } from '../../files/source.js';
import { isZip, openZip, type ZipEntry } from '../../files/zip.js';
import { dtypes, type RawArray, toFloat32 } from '../dtypes.js';
import { quote } from '../header.js';
import type { SafetensorsFile, TensorEntry } from '../safetensors.js';
import { readPickle } from '../../files/pickle.js';
import { candidatesOf, type Candidate, inertNames, type TensorRecord } from './tensors.js';

/** Whether a file begins as PyTorch's do: a zip archive, or a pickle as before version 1.6. */
export const isPytorch = (head: Uint8Array): boolean =>
  isZip(head) || (head[0] === 0x80 && head[1] >= 2 && head[1] <= 5);

/** Where the bytes of storages come from. */
interface Storages {
  little: boolean;
  /** Bytes of a storage; null where there is none. */
  size(key: string): number | null;
  read(key: string, offset: number, length: number): Promise<Uint8Array>;
}

/** How one set of tensors is found among several, and which of its tensors are wanted under which names. */
export interface Wanted {
  /** The path of the set, such as `ema.model`. */
  chosen?: string;
  /**
   * How the tensors of a file hold those that are wanted, whose names begin with `only` where it is said; null where they do
   * not. @throws UserError where several sets of them fit
   */
  fit?: (
    tensors: ReadonlyMap<string, { readonly shape: readonly number[] }>,
    file: string,
    only?: string,
  ) => Fit | null;
}

/** Where in a set of tensors those lie that are wanted. */
export interface Fit {
  /** What their names begin with beyond those that are wanted. */
  prefix: string;
  /** Names of others. */
  extra: readonly string[];
}

/**
 * Opens a file of `torch.save`: of its pickle, tensors and what holds them are read, nothing is executed, and whatever
 * else is in it stays an inert record.
 * @returns the same as for a safetensors file; its metadata are empty
 * @throws UserError where the file is damaged, holds no tensors, or several sets of them of which not just one fits
 */
export async function openPytorch(source: Source, wanted: Wanted = {}): Promise<SafetensorsFile> {
  const head = await source.read(0, 4);
  const { top, storages } = isZip(head) ? await openArchive(source) : await openLegacy(source);
  const candidates = candidatesOf(top);
  const { candidate, fits } = choose(candidates, wanted, source.name);
  const inert = inertNames(top);
  const notes = [
    ...(candidates.length > 1 && wanted.chosen === undefined && fits
      ? [`the weights at ${candidate.path || 'the top'}, the only ones of ${candidates.length} sets that fit`]
      : []),
    ...(inert.length ? [`not opened: ${inert.slice(0, 8).join(', ')}${inert.length > 8 ? ', …' : ''}`] : []),
  ];
  return fileOf(source.name, candidate, storages, notes);
}

async function openArchive(source: Source): Promise<{ top: unknown; storages: Storages }> {
  const entries = await openZip(source);
  const pickles = [...entries.keys()].filter((path) => /(^|\/)data\.pkl$/.test(path));
  if (pickles.length !== 1)
    throw new UserError(
      `${source.name} is a zip archive, but not one of torch.save (it holds ${[...entries.keys()].slice(0, 3).join(', ') || 'nothing'}); give a file of weights`,
    );
  const folder = pickles[0].slice(0, -'data.pkl'.length);
  const { value } = readPickle(await entries.get(pickles[0])!.read(), source.name);
  const order = entries.get(`${folder}byteorder`);
  const text = order ? new TextDecoder().decode(await order.read()).trim() : 'little';
  const entryOf = (key: string): ZipEntry | undefined => entries.get(`${folder}data/${key}`);
  const read = async (key: string, offset: number, length: number) => {
    const entry = entryOf(key)!;
    // What is read whole is compared with its checksum.
    if (!entry.stored || length === entry.size) return (await entry.read()).slice(offset, offset + length);
    return source.read((await entry.place()) + offset, length);
  };
  return { top: value, storages: { little: text !== 'big', size: (key) => entryOf(key)?.size ?? null, read } };
}

const legacyMagic = 0x1950a86a20f9469cfc6cn;

/** The format before PyTorch 1.6: pickles of a magic number, a version, the system, the content, the keys; then storages. */
async function openLegacy(source: Source): Promise<{ top: unknown; storages: Storages }> {
  const { name } = source;
  const bytes = await readAll(source);
  const magic = readPickle(bytes, name);
  if (magic.value !== legacyMagic)
    throw new UserError(
      `${name} is a Python pickle, but not one of torch.save: save the state dict with torch.save or safetensors`,
    );
  const version = readPickle(bytes, name, magic.end);
  const system = readPickle(bytes, name, version.end);
  const content = readPickle(bytes, name, system.end);
  const keys = readPickle(bytes, name, content.end);
  const little = !(system.value instanceof Map) || system.value.get('little_endian') !== false;
  const sizes = new Map<string, number>();
  for (const { tensors } of candidatesOf(content.value))
    for (const { storage } of tensors.values()) sizes.set(storage.key, dtypes[storage.dtype].size);
  const places = new Map<string, { start: number; size: number }>();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = keys.end;
  for (const key of Array.isArray(keys.value) ? (keys.value as unknown[]) : []) {
    const element = sizes.get(String(key));
    // Storages of what is no tensor that was found cannot be measured, nor what lies behind them.
    if (element === undefined || at + 8 > bytes.length) break;
    const size = Number(view.getBigUint64(at, true)) * element;
    if (at + 8 + size > bytes.length) break;
    places.set(String(key), { start: at + 8, size });
    at += 8 + size;
  }
  const read = async (key: string, offset: number, length: number) => {
    const { start } = places.get(key)!;
    return bytes.slice(start + offset, start + offset + length);
  };
  return { top: content.value, storages: { little, size: (key) => places.get(key)?.size ?? null, read } };
}

/** The set of tensors that is meant, and whether it was told by what fits. @throws UserError that lists them where it is not clear */
function choose(
  candidates: readonly Candidate[],
  { chosen, fit }: Wanted,
  name: string,
): { candidate: Candidate; fits: boolean } {
  const listed = candidates
    .slice(0, 8)
    .map(({ path, tensors }) => `${path || '(top)'} with ${tensors.size} tensors of ${countOf(tensors)} weights`);
  const list = listed.join('; ') + (candidates.length > 8 ? '; …' : '');
  if (chosen !== undefined && chosen !== '.') {
    const candidate = candidates.find(({ path }) => path === chosen) ?? partOf(candidates, chosen);
    if (!candidate)
      throw new UserError(`${name} has no weights at ${quote(chosen)}: it holds ${list || 'none'}`, 'weights');
    return { candidate, fits: false };
  }
  if (!candidates.length) throw new UserError(`${name} holds no tensors that belong together; give a file of weights`);
  if (candidates.length === 1) return { candidate: candidates[0], fits: false };
  const fitting = fit ? candidates.filter(({ tensors }) => fit(tensors, name) !== null) : [];
  if (fitting.length === 1) return { candidate: fitting[0], fits: true };
  const several = fitting.length ? `of which ${fitting.map(({ path }) => path || '(top)').join(', ')} fit: ` : '';
  throw new UserError(`${name} holds several sets of weights: ${list}: ${several}choose one by its path`, 'weights');
}

/** The tensors of a set whose names begin with what was chosen. */
function partOf(candidates: readonly Candidate[], chosen: string): Candidate | undefined {
  for (const { path, tensors } of candidates) {
    const prefix = path && chosen.startsWith(`${path}.`) ? chosen.slice(path.length + 1) : chosen;
    const inside = [...tensors].filter(([name]) => name.startsWith(`${prefix}.`));
    const named = inside.map(([name, record]) => [name.slice(prefix.length + 1), record] as const);
    if (inside.length) return { path: chosen, tensors: new Map(named) };
  }
  return undefined;
}

const countOf = (tensors: Candidate['tensors']): number =>
  [...tensors.values()].reduce((sum, { shape }) => sum + elementsOf(shape), 0);
const elementsOf = (shape: readonly number[]): number => shape.reduce((product, extent) => product * extent, 1);

/** More elements than the storage has are made by strides of zero; so many are no weights. */
const mostRepeated = 2 ** 20;

function fileOf(
  name: string,
  { tensors: records }: Candidate,
  storages: Storages,
  notes: readonly string[],
): SafetensorsFile {
  const tensors = new Map<string, TensorEntry>();
  for (const [key, record] of records) {
    checkRecord(record, storages, `${name}: tensor ${quote(key)}`);
    const { size } = dtypes[record.dtype];
    const { shape, offset, dtype } = record;
    tensors.set(key, { dtype, shape, offset: offset * size, bytes: elementsOf(shape) * size });
  }
  const recordOf = (key: string): TensorRecord => {
    const record = records.get(key);
    if (!record)
      throw new UserError(
        `${name}: there is no tensor ${quote(key)}; the file holds ${[...records.keys()].slice(0, 5).map(quote).join(', ')}`,
      );
    return record;
  };
  const read = async (key: string): Promise<RawArray> =>
    readTensor(recordOf(key), storages, `${name}: tensor ${quote(key)}`);
  return {
    name,
    metadata: {},
    tensors,
    read,
    readF32: async (key) => {
      const values = toFloat32(recordOf(key).dtype, await read(key));
      if (typeof values === 'string')
        throw new UserError(`${name}: tensor ${quote(key)}: ${values}; save it as float32`);
      return values;
    },
    notes,
  };
}

/** Elements from a tensor's first to its last, in its storage. */
const spanOf = ({ shape, strides }: TensorRecord): number =>
  elementsOf(shape) && shape.reduce((last, extent, axis) => last + (extent - 1) * strides[axis], 1);

/** @throws UserError where a tensor reaches beyond its storage, or the storage beyond what the file has of it */
function checkRecord(record: TensorRecord, storages: Storages, where: string): void {
  const { storage, dtype, offset, shape } = record;
  const lie = (what: string) => new UserError(`${where}: ${what}; the file is damaged, fetch it again`);
  const held = storages.size(storage.key);
  if (held === null) throw lie(`its storage ${quote(storage.key)} is missing`);
  const size = dtypes[dtype].size;
  if (storage.length * dtypes[storage.dtype].size > held)
    throw lie(`its storage ${quote(storage.key)} should have ${storage.length} elements, the file has ${held} bytes`);
  const [elements, span] = [elementsOf(shape), spanOf(record)];
  if (!Number.isSafeInteger(elements) || !Number.isSafeInteger(span) || (offset + span) * size > held)
    throw lie(`shape [${shape}] at ${offset} reaches beyond its storage of ${held} bytes`);
  if (elements * size > held && elements > mostRepeated)
    throw lie(`shape [${shape}] repeats a storage of ${held} bytes`);
}

async function readTensor(record: TensorRecord, storages: Storages, where: string): Promise<RawArray> {
  const { storage, dtype, offset, shape, strides } = record;
  const { size, view } = dtypes[dtype];
  const [elements, span] = [elementsOf(shape), spanOf(record)];
  const content = await storages.read(storage.key, offset * size, span * size);
  if (content.length !== span * size) throw new UserError(`${where}: its storage ends early; fetch the file again`);
  const bytes = isRowMajor(shape, strides) ? new Uint8Array(content) : gather(content, size, elements, shape, strides);
  if (!storages.little && size > 1) swap(bytes, size);
  return view(bytes.buffer, bytes.byteOffset, elements);
}

function isRowMajor(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== expected) return false;
    expected *= shape[axis];
  }
  return true;
}

/** Elements in the order of their indices, from where strides put them. */
function gather(
  content: Uint8Array,
  size: number,
  elements: number,
  shape: readonly number[],
  strides: readonly number[],
): Uint8Array {
  const bytes = new Uint8Array(elements * size);
  const index = shape.map(() => 0);
  for (let to = 0; to < elements; to++) {
    let from = 0;
    for (let axis = 0; axis < shape.length; axis++) from += index[axis] * strides[axis];
    for (let k = 0; k < size; k++) bytes[to * size + k] = content[from * size + k];
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis] === shape[axis]; axis--) index[axis] = 0;
  }
  return bytes;
}

function swap(bytes: Uint8Array, size: number): void {
  for (let at = 0; at < bytes.length; at += size) bytes.subarray(at, at + size).reverse();
}
