import type { Profile } from '../gpu/profile.js';
import { ruleOf } from '../ops/table.js';
import { Tensor } from '../tensor/tensor.js';
import { reachable } from './gradients.js';

/** The graph with other operations in place of those that the adapter is better served by not running as they are. */
export function decompose(outputs: readonly Tensor[], profile: Profile): Tensor[] {
  const replaced = new Map<Tensor, Tensor>();
  const seconds = new Map<Tensor, Tensor>();
  for (const node of reachable(outputs)) {
    const inputs = node.inputs.map((input) => replaced.get(input)!);
    const other = ruleOf(node).decompose?.(node as never, inputs, profile);
    if (other) {
      replaced.set(node, other.value);
      if (other.second) seconds.set(node, other.second);
    } else if (node.op === 'secondary' && seconds.has(node.inputs[0])) {
      replaced.set(node, seconds.get(node.inputs[0])!);
    } else {
      // Made anew even when nothing changed, so that ids keep the order of creation.
      replaced.set(node, inputs.length ? new Tensor(node.op, inputs, node.attributes, node.shape, node.dtype) : node);
    }
  }
  return outputs.map((output) => replaced.get(output)!);
}
