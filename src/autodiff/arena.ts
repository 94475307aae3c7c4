import type { Tensor } from '../tensor/tensor.js';
import { plan, type Block } from './plan.js';
import type { Task } from './schedule.js';
import { writesOf } from './separate.js';

interface Place {
  block: Block;
  offset: number;
}

/** The memory of a program's values; bytes. */
export interface Arena {
  bytes: number;
  /** What no plan can do with less than. */
  lowerBound: number;
  /** Where a node's value begins, or the second output of the kernel that a node is computed by. */
  offsetOf(binding: { node: Tensor } | { second: Tensor }): number;
}

/**
 * Gives every task's output a place for as long as somebody reads it.
 * @param bufferBytes of the buffers that the arena lies in, as `plan` takes it
 */
export function layOut(
  tasks: readonly Task[],
  outputs: readonly Tensor[],
  half: ReadonlySet<Tensor>,
  alignment: number,
  bufferBytes = Infinity,
): Arena {
  const places = new Map<Tensor, Place>();
  const seconds = new Map<Tensor, Place>();
  const blocks: Block[] = [];
  const block = (bytes: number, first: number, last: number): Block => {
    const made = { bytes: Math.max(16, bytes), first, last, offset: 0 };
    blocks.push(made);
    return made;
  };
  const packs = new Map<Tensor, { pack: Tensor<'pack'>; part: number }>();
  for (const node of [...tasks.flatMap(({ reads }) => [...reads]), ...outputs]) {
    if (node.op === 'pack')
      node.inputs.forEach((input, part) => packs.set(input, { pack: node as Tensor<'pack'>, part }));
  }
  const packed = new Map<Tensor, Block>();
  /** Where a node lies from a time on. */
  const placed = (node: Tensor, bytes: number, time: number): Place => {
    const packing = packs.get(node);
    if (!packing) return { block: block(bytes, time, time), offset: 0 };
    const { pack, part } = packing;
    // Gaps between packed gradients stay zero because nothing else ever lives there.
    if (!packed.has(pack)) packed.set(pack, block(pack.size * 4, 0, tasks.length));
    places.set(pack, { block: packed.get(pack)!, offset: 0 });
    return { block: packed.get(pack)!, offset: pack.attributes.offsets[part] * 4 };
  };
  tasks.forEach(({ output, core, kernel, second, kept }, time) => {
    // Effects write to storages.
    for (const node of [...(writesOf(output) ? [] : [output]), ...(kept ? [kept] : [])])
      places.set(node, placed(node, node.size * (half.has(node) ? 2 : 4), time));
    if (kernel.secondary) {
      const bytes = kernel.secondary * 4;
      const place = second ? placed(second, bytes, time) : { block: block(bytes, time, time), offset: 0 };
      seconds.set(core, place);
      if (second) places.set(second, place);
    }
  });
  const touch = (node: Tensor, time: number) => {
    const place = node.op === 'secondary' ? seconds.get(node.inputs[0]) : places.get(node);
    if (place) place.block.last = Math.max(place.block.last, time);
  };
  tasks.forEach((task, time) => task.reads.forEach((leaf) => touch(leaf, time)));
  outputs.forEach((output) => touch(output, tasks.length));
  const { bytes, lowerBound } = plan(blocks, alignment, bufferBytes);
  const offsetOf = (binding: { node: Tensor } | { second: Tensor }) => {
    const node = 'node' in binding ? binding.node : binding.second;
    const found =
      'second' in binding
        ? seconds.get(node)
        : node.op === 'secondary'
          ? seconds.get(node.inputs[0])
          : places.get(node);
    if (!found) throw new Error(`${node.op} of shape [${node.shape}] has no memory`);
    return found.block.offset + found.offset;
  };
  return { bytes, lowerBound, offsetOf };
}
