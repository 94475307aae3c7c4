import { Tensor } from '../tensor/tensor.js';
import { reachable } from './gradients.js';

/** A node over other inputs; made anew even where they are the same, so that ids keep the order of creation. */
export const remade = (node: Tensor, inputs: readonly Tensor[]): Tensor =>
  inputs.length ? new Tensor(node.op, inputs, node.attributes, node.shape, node.dtype) : node;

/**
 * A graph in which nodes have others in their place.
 * @param change what takes the place of a node over the given inputs, null where it stays; `now` is what took that of one before
 */
export function rewrite(
  outputs: readonly Tensor[],
  change: (node: Tensor, inputs: readonly Tensor[], now: (before: Tensor) => Tensor) => Tensor | null,
): Tensor[] {
  const replaced = new Map<Tensor, Tensor>();
  const now = (before: Tensor) => replaced.get(before)!;
  for (const node of reachable(outputs)) {
    const inputs = node.inputs.map(now);
    replaced.set(node, change(node, inputs, now) ?? remade(node, inputs));
  }
  return outputs.map(now);
}
