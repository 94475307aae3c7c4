import { Tensor } from '../tensor/tensor.js';
import { reachable } from './gradients.js';

/** Merges nodes that compute the same thing from the same inputs, so that it is computed once. */
export function shareCommon(outputs: readonly Tensor[]): Tensor[] {
  const canonical = new Map<string, Tensor>();
  const replaced = new Map<Tensor, Tensor>();
  const identities = new Map<object, number>();
  const identity = (object: object) => {
    if (!identities.has(object)) identities.set(object, identities.size);
    return identities.get(object)!;
  };
  for (const node of reachable(outputs)) {
    const inputs = node.inputs.map((input) => replaced.get(input)!);
    let key = `${node.op}|${node.shape.join()}|${node.dtype}|`;
    for (const { id } of inputs) key += `${id},`;
    key += textOf(node.attributes, identity);
    let same = canonical.get(key);
    if (!same) {
      // Made anew even when nothing changed, so that ids keep the order of creation.
      same = inputs.length ? new Tensor(node.op, inputs, node.attributes, node.shape, node.dtype) : node;
      canonical.set(key, same);
    }
    replaced.set(node, same);
  }
  return outputs.map((output) => replaced.get(output)!);
}

/** Attributes by value, storages by identity. */
function textOf(value: unknown, identity: (object: object) => number): string {
  if (typeof value !== 'object' || value === null) return String(value);
  if ('dtype' in value) return `#${identity(value)}`;
  let text = '{';
  for (const name in value) text += `${name}:${textOf((value as Record<string, unknown>)[name], identity)};`;
  return `${text}}`;
}
