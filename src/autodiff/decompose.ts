import type { Profile } from '../gpu/profile.js';
import { ruleOf } from '../ops/table.js';
import type { Tensor } from '../tensor/tensor.js';
import { rewrite } from './rewrite.js';

/** The graph with other operations in place of those that the adapter is better served by not running as they are. */
export function decompose(outputs: readonly Tensor[], profile: Profile): Tensor[] {
  const seconds = new Map<Tensor, Tensor>();
  return rewrite(outputs, (node, inputs) => {
    if (node.op === 'secondary') return seconds.get(node.inputs[0]) ?? null;
    const other = ruleOf(node).decompose?.(node as never, inputs, profile);
    if (other?.second) seconds.set(node, other.second);
    return other?.value ?? null;
  });
}
