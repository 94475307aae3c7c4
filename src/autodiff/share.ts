import type { Tensor } from '../tensor/tensor.js';
import { remade, rewrite } from './rewrite.js';

/** Merges nodes that compute the same thing from the same inputs, so that it is computed once. */
export function shareCommon(outputs: readonly Tensor[]): Tensor[] {
  const canonical = new Map<string, Tensor>();
  const identities = new Map<object, number>();
  const identity = (object: object) => {
    if (!identities.has(object)) identities.set(object, identities.size);
    return identities.get(object)!;
  };
  return rewrite(outputs, (node, inputs) => {
    let key = `${node.op}|${node.shape.join()}|${node.dtype}|`;
    for (const { id } of inputs) key += `${id},`;
    key += textOf(node.attributes, identity);
    const same = canonical.get(key) ?? remade(node, inputs);
    canonical.set(key, same);
    return same;
  });
}

/** Attributes by value, storages by identity. */
function textOf(value: unknown, identity: (object: object) => number): string {
  if (typeof value !== 'object' || value === null) return String(value);
  if ('dtype' in value) return `#${identity(value)}`;
  let text = '{';
  for (const name in value) text += `${name}:${textOf((value as Record<string, unknown>)[name], identity)};`;
  return `${text}}`;
}
