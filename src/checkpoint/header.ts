import { UserError } from '../errors.js';
import { type Dtype, dtypes, isDtype } from './dtypes.js';
import { duplicateKey } from './duplicate-key.js';

/** Most extents of a shape; no framework has as many. */
const maxRank = 64;

/** Where a tensor lies: `offset` counts from the file's first byte. */
export interface TensorEntry {
  /** Of a type that later versions of the format brought, only the bytes are known. */
  dtype: Dtype | NewerDtype;
  shape: number[];
  offset: number;
  bytes: number;
}

/** An element type that the format had not when this was written; such tensors are listed and not read. */
export type NewerDtype = string & { readonly newer?: never };

/** Longest JSON header accepted, the limit of the reference implementation. */
export const maxHeaderBytes = 100_000_000;

export const damaged = 'the file is damaged or incomplete; fetch or export it again';

/** A name as it may be printed in one line. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 120 ? `${name.slice(0, 120)}…` : name);
}

/**
 * Checks everything that a safetensors header claims, against itself and against the file's size.
 * @param json the header's bytes
 * @param fileSize bytes of the whole file
 * @throws UserError naming file, tensor, cause and mend
 */
export function parseHeader(
  json: Uint8Array,
  fileSize: number,
  file: string,
): { metadata: Record<string, string>; tensors: Map<string, TensorEntry> } {
  const header = parseJson(json, file);
  const { __metadata__: given, ...entries } = header;
  // Null means none to the reference implementation.
  const metadata = given ?? {};
  if (!isRecord(metadata)) throw new UserError(`${file}: __metadata__ is not an object of strings; ${damaged}`);
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== 'string') {
      throw new UserError(`${file}: __metadata__ ${quote(key)} is not a string; write it again with string values`);
    }
  }
  const dataStart = 8 + json.byteLength;
  const tensors = new Map<string, TensorEntry>();
  for (const [name, entry] of Object.entries(entries)) {
    tensors.set(name, parseEntry(entry, dataStart, fileSize, `${file}: tensor ${quote(name)}`));
  }
  checkLayout(tensors, dataStart, fileSize, file);
  return { metadata: metadata as Record<string, string>, tensors };
}

function parseJson(json: Uint8Array, file: string): Record<string, unknown> {
  let text: string;
  let header: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json);
    header = JSON.parse(text);
  } catch {
    throw new UserError(`${file}: the header is not valid JSON, so this is no safetensors file or a damaged one`);
  }
  if (!isRecord(header) || !text.startsWith('{')) {
    throw new UserError(`${file}: the header is not a JSON object, so this is no safetensors file or a damaged one`);
  }
  const twice = duplicateKey(text);
  if (twice !== undefined) throw new UserError(`${file}: the header names ${quote(twice)} twice; ${damaged}`);
  return header;
}

function parseEntry(entry: unknown, dataStart: number, fileSize: number, where: string): TensorEntry {
  const fail = (cause: string): never => {
    throw new UserError(`${where}: ${cause}; ${damaged}`);
  };
  if (!isRecord(entry)) return fail('its entry is not an object');
  const { dtype, shape, data_offsets: offsets, ...rest } = entry;
  const unknown = Object.keys(rest)[0];
  if (unknown !== undefined) fail(`its entry has an unknown key ${quote(unknown)}`);
  if (typeof dtype !== 'string' || !/^[A-Z][A-Z0-9_]{0,31}$/.test(dtype)) return fail('its dtype is no name of a type');
  if (!Array.isArray(shape) || !shape.every(isCount)) return fail('its shape is not a list of non-negative integers');
  if (shape.length > maxRank) return fail(`its shape has ${shape.length} extents`);
  const elements = shape.reduce((product, extent) => (isCount(product) ? product * extent : NaN), 1);
  // What a newer type takes is not known.
  const bytes = isDtype(dtype) ? elements * dtypes[dtype].size : null;
  if (!isCount(elements) || (bytes !== null && !isCount(bytes))) fail(`its shape [${shape}] overflows`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    return fail('its data_offsets are not two non-negative integers');
  }
  const [begin, end] = offsets as number[];
  if (begin > end) fail(`its data_offsets [${offsets}] run backwards`);
  const available = fileSize - dataStart;
  if (end > available) {
    throw new UserError(
      `${where}: its data_offsets [${offsets}] pass the ${available} bytes of data in the file: it is cut off, as an interrupted download is; fetch it again`,
    );
  }
  if (bytes !== null && end - begin !== bytes) {
    fail(`${dtype} of shape [${shape}] takes ${bytes} bytes, but its data_offsets [${offsets}] span ${end - begin}`);
  }
  return { dtype, shape, offset: dataStart + begin, bytes: end - begin };
}

/** The tensors must tile the data section: no overlap, no hole, nothing behind the last one. */
function checkLayout(tensors: Map<string, TensorEntry>, dataStart: number, fileSize: number, file: string): void {
  const byPlace = [...tensors].sort(([, a], [, b]) => a.offset - b.offset || a.bytes - b.bytes);
  let end = dataStart;
  let previous = '';
  for (const [name, { offset, bytes }] of byPlace) {
    if (offset < end) {
      throw new UserError(`${file}: tensor ${quote(name)} overlaps ${quote(previous)}; ${damaged}`);
    }
    if (offset > end) {
      throw new UserError(
        `${file}: ${offset - end} bytes before tensor ${quote(name)} belong to no tensor; ${damaged}`,
      );
    }
    end = offset + bytes;
    previous = name;
  }
  if (end < fileSize) {
    throw new UserError(`${file}: ${fileSize - end} bytes behind the last tensor belong to no tensor; ${damaged}`);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
