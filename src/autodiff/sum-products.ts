import type { Profile } from '../gpu/profile.js';
import { canBeSummed, sumOfTwo } from '../ops/matmul.js';
import { reshape } from '../ops/movement.js';
import type { Tensor } from '../tensor/tensor.js';
import { reachable } from './gradients.js';
import { rewrite } from './rewrite.js';

type Product = Tensor<'matmul'>;

/**
 * A graph in which a sum of two products of matrices is computed at once, where nobody else reads either: as what a weight
 * and what lies beside it in a low rank make of an input, and what flows back through both.
 */
export function sumProducts(outputs: readonly Tensor[], profile: Profile): Tensor[] {
  const readers = new Map<Tensor, number>();
  for (const node of [...reachable(outputs).flatMap(({ inputs }) => inputs), ...outputs])
    readers.set(node, (readers.get(node) ?? 0) + 1);
  return rewrite(outputs, (node, _, now) => {
    if (node.op !== 'add') return null;
    const [first, second] = node.inputs.map((input) => productBehind(input, readers));
    if (!first || !second) return null;
    const products = [now(first) as Product, now(second) as Product] as const;
    return canBeSummed(...products, profile) ? reshape(sumOfTwo(...products), node.shape) : null;
  });
}

/** The product that a tensor is, perhaps in another shape, and nobody else's; null where it is none. */
function productBehind(node: Tensor, readers: ReadonlyMap<Tensor, number>): Tensor | null {
  if (readers.get(node) !== 1) return null;
  if (node.op === 'reshape') return productBehind(node.inputs[0], readers);
  return node.op === 'matmul' ? node : null;
}
