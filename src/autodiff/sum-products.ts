import { canBeSummed, sumOfTwo } from '../ops/matmul.js';
import { reshape } from '../ops/movement.js';
import { Tensor } from '../tensor/tensor.js';
import { reachable } from './gradients.js';

type Product = Tensor<'matmul'>;

/**
 * A graph in which a sum of two products of matrices is computed at once, where nobody else reads either: as what a weight
 * and what lies beside it in a low rank make of an input, and what flows back through both.
 */
export function sumProducts(outputs: readonly Tensor[]): Tensor[] {
  const nodes = reachable(outputs);
  const readers = new Map<Tensor, number>();
  for (const node of [...nodes.flatMap(({ inputs }) => inputs), ...outputs])
    readers.set(node, (readers.get(node) ?? 0) + 1);
  const replaced = new Map<Tensor, Tensor>();
  for (const node of nodes) {
    const inputs = node.inputs.map((input) => replaced.get(input)!);
    const products = node.op === 'add' ? node.inputs.map((input) => productBehind(input, readers)) : [];
    const [first, second] = products.map((product) => product && (replaced.get(product) as Product));
    if (first && second && canBeSummed(first, second)) replaced.set(node, reshape(sumOfTwo(first, second), node.shape));
    // Made anew even when nothing changed, so that ids keep the order of creation.
    else
      replaced.set(node, inputs.length ? new Tensor(node.op, inputs, node.attributes, node.shape, node.dtype) : node);
  }
  return outputs.map((output) => replaced.get(output)!);
}

/** The product that a tensor is, perhaps in another shape, and nobody else's; null where it is none. */
function productBehind(node: Tensor, readers: ReadonlyMap<Tensor, number>): Product | null {
  if (readers.get(node) !== 1) return null;
  if (node.op === 'reshape') return productBehind(node.inputs[0], readers);
  return node.op === 'matmul' ? (node as Product) : null;
}
