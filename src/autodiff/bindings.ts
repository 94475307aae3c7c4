import { bytesPerElement, type TensorStorage } from '../gpu/storage.js';
import { writesOf } from './separate.js';
import type { Tensor } from '../tensor/tensor.js';
import type { Task } from './schedule.js';

/** What one storage buffer of a kernel is: a node's place in the arena, a second output, or bytes of a storage. */
export type Binding = { node: Tensor } | { second: Tensor } | { storage: TensorStorage; start: number; end: number };

/** Where a node's elements are: the number of a binding, and the first element in it. */
export interface Place {
  slot: number;
  first: number;
}

/** Every buffer that a task's kernel binds, in order of `@binding`, and what is where in them. */
export interface Bindings {
  list: readonly Binding[];
  leaves: ReadonlyMap<Tensor, Place>;
  output?: number;
  second?: number;
  /** By the names that the kernel gives them. */
  state: ReadonlyMap<string, number>;
  rounded?: number;
}

/** The largest alignment that an adapter may ask of a binding's start, in bytes. */
const alignment = 256;

/**
 * The bindings of a task: the one place that says what is bound. Nodes that name overlapping parts of one storage go
 * through one binding, as WebGPU forbids to bind memory twice, and what begins anywhere is bound from the last place
 * before it where a binding may begin.
 */
export function bindingsOf({ kernel, core, output, reads }: Task): Bindings {
  const list: Binding[] = [];
  const bind = (binding: Binding) => list.push(binding) - 1;
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
    } else leaves.set(leaf, { slot: bind({ node: leaf }), first: 0 });
  }
  const own = kernel.state ? undefined : written ? slotOf(rangeAt(written, 0)) : bind({ node: output });
  const second = kernel.secondary ? bind({ second: core }) : undefined;
  const whole = (storage: TensorStorage) => bind({ storage, start: 0, end: rounded(storage.bytes) });
  const state = new Map(Object.entries(kernel.state ?? {}).map(([name, storage]) => [name, whole(storage)]));
  return { list, leaves, output: own, second, state, rounded: kernel.rounded && whole(kernel.rounded) };
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

/** Whole vec4s of f32, as buffers are. */
const rounded = (bytes: number) => Math.max(16, Math.ceil(bytes / 16) * 16);
