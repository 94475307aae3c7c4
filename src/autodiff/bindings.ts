import { UserError } from '../errors.js';
import { bytesPerElement, type TensorStorage } from '../gpu/storage.js';
import { writesOf } from './separate.js';
import type { Profile } from '../gpu/profile.js';
import type { Tensor } from '../tensor/tensor.js';
import type { Task } from './schedule.js';

/** Bytes from `start` to before `end`. */
interface Bytes {
  start: number;
  end: number;
}

/** Bytes of a node's place in the arena, of the second output of the kernel that a node is computed by, or of a storage. */
export type Binding = ({ node: Tensor } | { second: Tensor } | { storage: TensorStorage }) & Bytes;

/** Where a node's elements are: the number of a binding, or of the first of its windows, and the first element in it. */
export interface Place {
  slot: number;
  first: number;
}

/** Every buffer that a task's kernel binds, in order of `@binding`, and what is where in them. */
export interface Bindings {
  list: readonly Binding[];
  /** Of what is larger than a binding may be: how many bindings of one length, from a slot on, it lies in. */
  windows: ReadonlyMap<number, number>;
  leaves: ReadonlyMap<Tensor, Place>;
  output?: number;
  second?: number;
  kept?: number;
  /** By the names that the kernel gives them. */
  state: ReadonlyMap<string, number>;
  rounded?: number;
}

/** The largest alignment that an adapter may ask of a binding's start, in bytes. */
const alignment = 256;

/** Bytes of a window on a tensor that is larger than one binding: a power of two, so that an index tells its window. */
export const windowBytes = ({ maxBindingBytes }: Pick<Profile, 'maxBindingBytes'>): number =>
  2 ** Math.floor(Math.log2(maxBindingBytes));

/**
 * The bindings of a task: the one place that says what is bound. Nodes that name overlapping parts of one storage go
 * through one binding, as WebGPU forbids to bind memory twice, and what begins anywhere is bound from the last place
 * before it where a binding may begin. What is larger than a binding may be is bound in windows, side by side.
 * @param isHalf whether a node's values lie in memory as f16; while that is not known, none do
 */
export function bindingsOf(
  { kernel, core, output, kept, reads }: Task,
  profile: Pick<Profile, 'maxBindingBytes'>,
  isHalf: (node: Tensor) => boolean = () => false,
): Bindings {
  const list: Binding[] = [];
  const windows = new Map<number, number>();
  const bind = (binding: Binding): number => {
    const slot = list.length;
    const { start, end } = binding;
    const length = end - start > profile.maxBindingBytes ? windowBytes(profile) : end - start;
    for (let at = start; at < end; at += length) list.push({ ...binding, start: at, end: Math.min(end, at + length) });
    if (list.length > slot + 1) windows.set(slot, list.length - slot);
    return slot;
  };
  const sizeOf = (node: Tensor) => rounded(node.size * (isHalf(node) ? bytesPerElement.f16 : 4));
  const written = kernel.state ? undefined : writesOf(output)?.[0];
  const ranges = rangesOf([...reads], written);
  const slots = new Map<Range, number>();
  const slotOf = (range: Range) => {
    if (!slots.has(range)) slots.set(range, bind(range));
    return slots.get(range)!;
  };
  const rangeAt = (storage: TensorStorage, byte: number) =>
    ranges.find((range) => range.storage === storage && range.start <= byte && byte < range.end)!;
  const leaves = new Map<Tensor, Place>();
  for (const leaf of reads) {
    if (leaf.op === 'storage') {
      const { storage, offset } = (leaf as Tensor<'storage'>).attributes;
      const byte = offset * bytesPerElement[storage.dtype];
      const range = rangeAt(storage, byte);
      leaves.set(leaf, { slot: slotOf(range), first: (byte - range.start) / bytesPerElement[storage.dtype] });
    } else leaves.set(leaf, { slot: bind({ node: leaf, start: 0, end: sizeOf(leaf) }), first: 0 });
  }
  const own = kernel.state
    ? undefined
    : written
      ? slotOf(rangeAt(written, 0))
      : bind({ node: output, start: 0, end: sizeOf(output) });
  const second = kernel.secondary ? bind({ second: core, start: 0, end: rounded(kernel.secondary * 4) }) : undefined;
  const beside = kept && bind({ node: kept, start: 0, end: sizeOf(kept) });
  const whole = (storage: TensorStorage) => {
    if (storage.bytes > profile.maxBindingBytes)
      throw new UserError(
        `storage ${storage.name} has ${mebibytes(storage.bytes)} MiB and is bound whole, of which this adapter allows ${mebibytes(profile.maxBindingBytes)} MiB: let the optimizer's state lie in pages`,
      );
    return bind({ storage, start: 0, end: rounded(storage.bytes) });
  };
  const state = new Map(Object.entries(kernel.state ?? {}).map(([name, storage]) => [name, whole(storage)]));
  return {
    list,
    windows,
    leaves,
    output: own,
    second,
    kept: beside,
    state,
    rounded: kernel.rounded && whole(kernel.rounded),
  };
}

interface Range {
  storage: TensorStorage;
  start: number;
  end: number;
}

/** The parts of storages that nodes read, or that are written whole, as ranges that do not overlap. */
function rangesOf(leaves: readonly Tensor[], written: TensorStorage | undefined): Range[] {
  const wanted = leaves
    .filter((leaf): leaf is Tensor<'storage'> => leaf.op === 'storage')
    .map(({ attributes: { storage, offset }, size }): Range => {
      const scale = bytesPerElement[storage.dtype];
      const start = Math.floor((offset * scale) / alignment) * alignment;
      return { storage, start, end: rounded((offset + size) * scale) };
    });
  if (written) wanted.push({ storage: written, start: 0, end: rounded(written.bytes) });
  const joined: Range[] = [];
  for (const range of wanted.sort((a, b) => a.start - b.start)) {
    const before = joined.find(({ storage, end }) => storage === range.storage && end > range.start);
    if (before) before.end = Math.max(before.end, range.end);
    else joined.push(range);
  }
  return joined;
}

const mebibytes = (bytes: number) => Math.round(bytes / 2 ** 20);

/** Whole vec4s of f32, as buffers are. */
const rounded = (bytes: number) => Math.max(16, Math.ceil(bytes / 16) * 16);
