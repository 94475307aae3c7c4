import { UserError } from '../errors.js';
import { kindOf } from '../files/kind.js';
import type { Source } from '../files/source.js';
import { type Dtype, dtypes, isDtype, type RawArray, toFloat32 } from './dtypes.js';
import { damaged, maxHeaderBytes, parseHeader, quote, type TensorEntry } from './header.js';

export type { Dtype, RawArray } from './dtypes.js';
export type { TensorEntry } from './header.js';

/** A tensor to be written; `data` are elements of `dtype` in row-major order (F16 and BF16 as bits). */
export interface TensorData {
  dtype: Dtype;
  shape: readonly number[];
  data: ArrayBufferView;
}

/** A tensor to be written whose elements come when they are written, in parts end to end: it need not lie in memory. */
export interface StreamedTensor {
  dtype: Dtype;
  shape: readonly number[];
  parts: () => AsyncIterable<ArrayBufferView>;
}

/** Tensors by name. */
export type Named<T> = ReadonlyMap<string, T> | Readonly<Record<string, T>>;

/** An opened file: the header has been checked in full, tensors are read one by one when asked for. */
export interface SafetensorsFile {
  name: string;
  metadata: Record<string, string>;
  tensors: Map<string, TensorEntry>;
  /** What of the file was not opened, a phrase each. */
  notes?: readonly string[];
  /** The raw elements. @throws UserError if there is no such tensor or the source ends early */
  read(name: string): Promise<RawArray>;
  /** The elements as f32. @throws UserError also where the dtype or a value cannot be converted */
  readF32(name: string): Promise<Float32Array>;
}

/**
 * Opens a safetensors file (https://github.com/huggingface/safetensors#format): u64 header length, JSON header, data.
 * The header's length, JSON, dtypes, shapes and offsets are checked before a byte of data is read.
 * @throws UserError with file, tensor, cause and mend in one line
 */
export async function openSafetensors(source: Source): Promise<SafetensorsFile> {
  const { name: file, size } = source;
  const head = await readExactly(source, 0, Math.min(512, size));
  const other = (why: string) => {
    const kind = kindOf(head);
    return new UserError(
      kind && kind !== 'a safetensors file'
        ? `${file} is no safetensors file but ${kind}; give a file of weights`
        : `${file} is no safetensors file, or a damaged one: ${why}`,
    );
  };
  if (size < 10) throw other(`${size} bytes are too few`);
  const headerBytes = new DataView(head.buffer, head.byteOffset).getBigUint64(0, true);
  if (headerBytes > maxHeaderBytes || headerBytes < 2)
    throw other(`a header of ${headerBytes} bytes, where 2 to ${maxHeaderBytes} can be`);
  const headerLength = Number(headerBytes);
  if (head[8] !== 0x7b) throw other('its header is not a JSON object');
  if (headerLength > size - 8) {
    throw new UserError(
      `${file}: its header takes ${headerLength} bytes and passes the end of the file of ${size}: it is cut off, as an interrupted download is; fetch it again`,
    );
  }
  const { metadata, tensors } = parseHeader(await readExactly(source, 8, headerLength), size, file);

  const entryOf = (name: string): TensorEntry => {
    const entry = tensors.get(name);
    if (!entry) {
      const names = [...tensors.keys()];
      const held = names.slice(0, 5).map(quote).join(', ') + (names.length > 5 ? `, … (${names.length})` : '');
      throw new UserError(`${file}: there is no tensor ${quote(name)}; the file holds ${held || 'none'}`);
    }
    return entry;
  };
  const unknownDtype = (name: string, dtype: string) => {
    const known = Object.keys(dtypes).join(', ');
    return new UserError(`${file}: tensor ${quote(name)}: unknown dtype ${dtype}; export it as one of ${known}`);
  };
  const read = async (name: string): Promise<RawArray> => {
    const { dtype, offset, bytes } = entryOf(name);
    if (!isDtype(dtype)) throw unknownDtype(name, dtype);
    const content = await readExactly(source, offset, bytes);
    const row = dtypes[dtype];
    const aligned = content.byteOffset % row.size === 0 ? content : Uint8Array.from(content);
    return row.view(aligned.buffer, aligned.byteOffset, bytes / row.size);
  };
  const readF32 = async (name: string): Promise<Float32Array> => {
    const { dtype } = entryOf(name);
    if (!isDtype(dtype)) throw unknownDtype(name, dtype);
    const values = toFloat32(dtype, await read(name));
    if (typeof values === 'string') {
      throw new UserError(`${file}: tensor ${quote(name)}: ${values}; export it as F32`);
    }
    return values;
  };
  return { name: file, metadata, tensors, read, readF32 };
}

async function readExactly(source: Source, offset: number, length: number): Promise<Uint8Array> {
  const bytes = await source.read(offset, length);
  if (bytes.byteLength !== length) {
    throw new UserError(`${source.name}: ${length} bytes at ${offset} gave only ${bytes.byteLength}; ${damaged}`);
  }
  return bytes;
}

/**
 * The bytes of a safetensors file. Tensors are laid out by element size (largest first, so that each is aligned), then
 * name, and metadata by key: equal content gives equal bytes.
 * @throws UserError if a tensor's data do not fit its dtype and shape
 */
export function encodeSafetensors(
  tensors: Named<TensorData>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const { header, entries, size } = layOut(tensors, metadata);
  for (const [name, tensor] of entries)
    if (!tensor.data) throw new UserError(`tensor ${quote(name)} comes in parts: write it with streamSafetensors`);
  const file = new Uint8Array(size);
  file.set(header);
  let offset = header.byteLength;
  for (const [, { data }] of entries) {
    file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), offset);
    offset += data.byteLength;
  }
  return file;
}

/**
 * The same bytes as `encodeSafetensors`, one part after another.
 * @throws UserError as that; also where a tensor's parts are more or less than its shape says
 */
export async function* streamSafetensors(
  tensors: Named<TensorData | StreamedTensor>,
  metadata: Readonly<Record<string, string>> = {},
): AsyncGenerator<Uint8Array> {
  const { header, entries } = layOut(tensors, metadata);
  yield header;
  for (const [name, tensor] of entries) {
    let bytes = 0;
    for await (const part of partsOf(tensor)) {
      bytes += part.byteLength;
      yield new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
    }
    checkBytes(name, tensor, bytes);
  }
}

async function* partsOf(tensor: TensorData | StreamedTensor): AsyncGenerator<ArrayBufferView> {
  if ('data' in tensor) yield tensor.data;
  else yield* tensor.parts();
}

/** A file's header, its tensors in their order, and its size. */
function layOut<T extends TensorData | StreamedTensor>(
  tensors: Named<T>,
  metadata: Readonly<Record<string, string>>,
): { header: Uint8Array; entries: [string, T][]; size: number } {
  const entries: [string, T][] = tensors instanceof Map ? [...tensors] : Object.entries(tensors);
  for (const [name, tensor] of entries) checkTensor(name, tensor);
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== 'string')
      throw new UserError(`metadata ${quote(key)} is not a string; convert it before saving`);
  }
  entries.sort(([a, x], [b, y]) => dtypes[y.dtype].size - dtypes[x.dtype].size || compare(a, b));

  const lines: [string, unknown][] = [];
  const notes = Object.entries(metadata).sort(([a], [b]) => compare(a, b));
  if (notes.length) lines.push(['__metadata__', Object.fromEntries(notes)]);
  let end = 0;
  for (const [name, { dtype, shape }] of entries) {
    lines.push([name, { dtype, shape, data_offsets: [end, (end += bytesOf(dtype, shape))] }]);
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(lines)));
  const headerLength = Math.ceil(json.byteLength / 8) * 8;
  if (headerLength > maxHeaderBytes)
    throw new UserError(`a header of ${headerLength} bytes is beyond 100 MB; save less`);
  const header = new Uint8Array(8 + headerLength).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(headerLength), true);
  header.set(json, 8);
  return { header, entries, size: header.byteLength + end };
}

const bytesOf = (dtype: Dtype, shape: readonly number[]): number =>
  shape.reduce((product, extent) => product * extent, dtypes[dtype].size);

function checkBytes(name: string, { dtype, shape }: Pick<TensorData, 'dtype' | 'shape'>, bytes: number): void {
  const wanted = bytesOf(dtype, shape);
  if (bytes !== wanted)
    throw new UserError(
      `tensor ${quote(name)}: ${dtype} of shape [${shape}] takes ${wanted} bytes, but the data have ${bytes}`,
    );
}

function checkTensor(name: string, tensor: TensorData | StreamedTensor): void {
  const { dtype, shape } = tensor;
  const where = `tensor ${quote(name)}`;
  if (name === '__metadata__') throw new UserError(`${where}: the format keeps this name for itself; choose another`);
  if (!isDtype(dtype)) throw new UserError(`${where}: unknown dtype ${quote(String(dtype))}`);
  if (!shape.every((extent) => Number.isSafeInteger(extent) && extent >= 0)) {
    throw new UserError(`${where}: shape [${shape}] is not a list of non-negative integers`);
  }
  if (!('data' in tensor)) return;
  checkBytes(name, tensor, tensor.data.byteLength);
  const kind = (tensor.data as { [Symbol.toStringTag]?: string })[Symbol.toStringTag] ?? '';
  if (!dtypes[dtype].arrays.includes(kind)) {
    throw new UserError(`${where}: ${dtype} is written from ${dtypes[dtype].arrays.join(' or ')}, not from ${kind}`);
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
