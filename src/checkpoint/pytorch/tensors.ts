import type { Dtype } from '../dtypes.js';
import { Global, Made, Outside } from '../../files/pickle.js';

/** A run of elements that tensors look into. */
export interface Storage {
  key: string;
  dtype: Dtype;
  /** Elements. */
  length: number;
}

/** A tensor as a pickle describes it, all counts in elements. */
export interface TensorRecord {
  storage: Storage;
  dtype: Dtype;
  offset: number;
  shape: number[];
  strides: number[];
}

const storageTypes: Record<string, Dtype> = {
  DoubleStorage: 'F64',
  FloatStorage: 'F32',
  HalfStorage: 'F16',
  BFloat16Storage: 'BF16',
  LongStorage: 'I64',
  IntStorage: 'I32',
  ShortStorage: 'I16',
  CharStorage: 'I8',
  ByteStorage: 'U8',
  BoolStorage: 'BOOL',
  UntypedStorage: 'U8',
};

const dtypeNames: Record<string, Dtype> = {
  float64: 'F64',
  float32: 'F32',
  float16: 'F16',
  bfloat16: 'BF16',
  int64: 'I64',
  int32: 'I32',
  int16: 'I16',
  int8: 'I8',
  uint8: 'U8',
  uint16: 'U16',
  uint32: 'U32',
  uint64: 'U64',
  bool: 'BOOL',
  float8_e4m3fn: 'F8_E4M3',
  float8_e5m2: 'F8_E5M2',
};

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isCounts = (value: unknown): value is number[] => Array.isArray(value) && value.every(isCount);

/** A tensor, or a parameter around one; null for whatever else, or where its description makes no sense. */
export function tensorOf(value: unknown): TensorRecord | null {
  if (!(value instanceof Made) || !Array.isArray(value.args)) return null;
  const args = value.args as unknown[];
  if (
    /^torch\._utils\._rebuild_parameter(_with_state)?$/.test(value.name) ||
    value.name === 'torch.nn.parameter.Parameter'
  )
    return args[0] === value ? null : tensorOf(args[0]);
  if (!/^torch\._utils\._rebuild_tensor(_v2|_v3)?$/.test(value.name)) return null;
  const [outside, offset, shape, strides] = args;
  const storage = outside instanceof Outside ? storageOf(outside.id) : null;
  if (!storage || !isCount(offset) || !isCounts(shape) || !isCounts(strides)) return null;
  if (shape.length !== strides.length || shape.length > 64) return null;
  const given = value.name.endsWith('_v3') ? args[6] : undefined;
  const dtype = given instanceof Global ? dtypeNames[given.name.replace(/^torch\./, '')] : storage.dtype;
  return dtype ? { storage, dtype, offset, shape, strides } : null;
}

/** ('storage', type, key, where it was, elements), which stands for a storage. */
function storageOf(id: unknown): Storage | null {
  if (!Array.isArray(id) || id[0] !== 'storage') return null;
  const [, type, key, , length] = id as unknown[];
  const name = type instanceof Global ? type.name.replace(/^.*\./, '') : '';
  if (!Object.hasOwn(storageTypes, name) || typeof key !== 'string' || !isCount(length)) return null;
  return { key, dtype: storageTypes[name], length };
}

/** Named values of a dictionary of any kind; null for what is none. */
function entriesOf(value: unknown): [string, unknown][] | null {
  const map = value instanceof Map ? value : value instanceof Made && isDictionary(value.name) ? value.entries : null;
  return map && [...map].filter((entry): entry is [string, unknown] => typeof entry[0] === 'string');
}

const isDictionary = (name: string) =>
  /^(collections\.(OrderedDict|defaultdict)|__builtin__\.dict|builtins\.dict)$/.test(name);

/** Tensors that belong together, and how they are reached from the top of the file. */
export interface Candidate {
  /** Such as `state_dict` or `ema.model`; empty for the top itself. */
  path: string;
  tensors: Map<string, TensorRecord>;
}

/** How deep dictionaries and modules are looked into. */
const mostDepth = 32;
/** How many values are looked at: a pickle of few bytes can refer to the same ones over and over. */
const mostVisits = 1_000_000;

/**
 * Every dictionary with tensors in it, and every module, by its path. A dictionary of tensors belongs whole to its path:
 * what lies in it is a state dict. Those without tensors are looked into.
 */
export function candidatesOf(top: unknown): Candidate[] {
  const found: Candidate[] = [];
  const seen = new Set<unknown>();
  let visits = 0;
  const visit = (value: unknown, path: string, depth: number): void => {
    if (depth > mostDepth || seen.has(value) || ++visits > mostVisits) return;
    if (typeof value !== 'object' || value === null) return;
    seen.add(value);
    const parts = moduleParts(value);
    if (parts) {
      const tensors = new Map<string, TensorRecord>();
      collect(value, '', tensors, 0, { left: mostVisits });
      if (tensors.size) found.push({ path, tensors });
      return;
    }
    const entries = entriesOf(value) ?? [];
    const tensors = new Map<string, TensorRecord>();
    for (const [key, item] of entries) {
      const tensor = tensorOf(item);
      if (tensor) tensors.set(key, tensor);
    }
    if (tensors.size) found.push({ path, tensors });
    for (const [key, item] of entries) visit(item, path ? `${path}.${key}` : key, depth + 1);
  };
  visit(top, '', 0);
  return found;
}

interface ModuleParts {
  own: [string, unknown][];
  children: [string, unknown][];
}

/** Parameters, buffers and modules of a whole pickled module. */
function moduleParts(value: unknown): ModuleParts | null {
  if (!(value instanceof Made)) return null;
  const state = new Map(entriesOf(value.state) ?? []);
  if (!state.has('_parameters') && !state.has('_modules')) return null;
  const hidden = state.get('_non_persistent_buffers_set');
  const left = new Set(
    hidden instanceof Set
      ? hidden
      : hidden instanceof Made && Array.isArray(hidden.args)
        ? ((hidden.args[0] as unknown[]) ?? [])
        : [],
  );
  const buffers = (entriesOf(state.get('_buffers')) ?? []).filter(([key]) => !left.has(key));
  return {
    own: [...(entriesOf(state.get('_parameters')) ?? []), ...buffers],
    children: entriesOf(state.get('_modules')) ?? [],
  };
}

function collect(
  module: unknown,
  prefix: string,
  into: Map<string, TensorRecord>,
  depth: number,
  budget: { left: number },
): void {
  const parts = moduleParts(module);
  if (!parts || depth > mostDepth || budget.left-- < 0) return;
  for (const [key, value] of parts.own) {
    const tensor = tensorOf(value);
    if (tensor) into.set(prefix + key, tensor);
  }
  for (const [key, child] of parts.children) collect(child, `${prefix}${key}.`, into, depth + 1, budget);
}

/** Known names that need no mention. */
const known =
  /^(torch\._utils\._rebuild_(tensor(_v[23])?|parameter(_with_state)?)|collections\.(OrderedDict|defaultdict)|torch\.\w*Storage|torch\.storage\.\w+|torch\.(float|int|uint|bfloat|bool|complex)\w*|torch\.(Size|device)|(__builtin__|builtins)\.(set|dict|list|int|float|str))$/;

/** Names of everything in a file that was left inert, in order, each once. */
export function inertNames(top: unknown): string[] {
  const names = new Set<string>();
  const seen = new Set<unknown>();
  const open: unknown[] = [top];
  while (open.length && seen.size < mostVisits) {
    const value = open.pop();
    if (typeof value !== 'object' || value === null || seen.has(value)) continue;
    seen.add(value);
    if (value instanceof Global && !known.test(value.name)) names.add(value.name);
    if (value instanceof Made) open.push(value.of, value.args, value.state, value.items, value.entries);
    else if (value instanceof Outside) open.push(value.id);
    else if (value instanceof Map) for (const [key, item] of value) open.push(key, item);
    else if (Array.isArray(value) || value instanceof Set) for (const item of value) open.push(item);
  }
  return [...names].sort();
}
