import { UserError } from '../errors.js';
import { constant, type Tensor } from '../tensor/tensor.js';
import { add } from '../ops/pointwise.js';
import { ruleOf } from '../ops/table.js';

/**
 * Reverse-mode derivative: gradients of Σ output · upstream with respect to tensors, as new graph nodes.
 * @param upstream gradient of the output, ones by default
 * @throws UserError when an output does not depend on one of the tensors
 */
export function gradients(
  output: Tensor,
  wrt: readonly Tensor[],
  upstream: Tensor = constant(1, output.shape),
): Tensor[] {
  const order = dependents(output, new Set(wrt));
  const flowing = new Map<Tensor, Tensor>([[output, upstream]]);
  for (const node of order) {
    const gradient = flowing.get(node);
    if (!gradient || !node.inputs.length) continue;
    ruleOf(node)
      .gradient?.(node as never, gradient)
      .forEach((part, i) => {
        const input = node.inputs[i];
        if (!part || !order.has(input)) return;
        const sum = flowing.get(input);
        flowing.set(input, sum ? add(sum, part) : part);
      });
  }
  return wrt.map((tensor) => {
    const gradient = flowing.get(tensor);
    if (!gradient) throw new UserError(`the output does not depend on a tensor of shape [${tensor.shape}]`);
    return gradient;
  });
}

/** The nodes on a path from `wrt` to the output, later ones first: ids grow along every path. */
function dependents(output: Tensor, wrt: ReadonlySet<Tensor>): Set<Tensor> {
  const depends = new Map<Tensor, boolean>();
  for (const node of reachable([output])) {
    depends.set(node, wrt.has(node) || node.inputs.some((input) => depends.get(input)));
  }
  return new Set(
    [...depends]
      .filter(([, yes]) => yes)
      .map(([node]) => node)
      .reverse(),
  );
}

/** All nodes that the given ones are computed from, inputs before their users. */
export function reachable(outputs: readonly Tensor[]): Tensor[] {
  const seen = new Set<Tensor>();
  const stack = [...outputs];
  while (stack.length) {
    const node = stack.pop()!;
    if (seen.has(node)) continue;
    seen.add(node);
    stack.push(...node.inputs);
  }
  return [...seen].sort((a, b) => a.id - b.id);
}
