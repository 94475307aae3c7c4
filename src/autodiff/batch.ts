import { concat, reshape } from '../ops/movement.js';
import { ruleOf } from '../ops/table.js';
import { sameShape } from '../tensor/shape.js';
import { constant, Tensor } from '../tensor/tensor.js';
import { reachable } from './gradients.js';
import { remade } from './rewrite.js';

type Product = Tensor<'matmul'>;

/**
 * A graph in which vectors that meet one matrix meet it together, where none of them is computed from another: the times at
 * which a network is asked are known before it answers, so its embeddings of all of them are one product a layer rather than
 * one a call. Rows keep their values; how many there are has no say, or another number of samples would be other kernels.
 */
export function batchProducts(outputs: readonly Tensor[]): readonly Tensor[] {
  const nodes = reachable(outputs);
  const groups = groupsOf(nodes);
  if (!groups.size) return outputs;
  const biased = biasedOf(nodes, outputs, groups);
  const replaced = new Map<Tensor, Tensor>();
  const join = rowsJoiner();
  const replace = (node: Tensor): void => {
    const group = groups.get(node);
    const inputs = node.inputs.map((input) => replaced.get(input)!);
    if (group) {
      const [, matrix] = inputs;
      const rows = join(group.map(({ inputs: [a] }) => replaced.get(a)!));
      const shape = [rows.shape[0], node.shape[1]];
      const product = new Tensor('matmul', [rows, matrix], (node as Product).attributes, shape);
      const sums = biased.get(group);
      const bias = sums && new Tensor('expand', [replaced.get(sums.bias)!], {}, shape);
      const joined = bias ? new Tensor('add', [product, bias], {}, shape) : product;
      let start = 0;
      (sums?.nodes ?? group).forEach((member) => {
        replaced.set(member, new Tensor('slice', [joined], { start: [start, 0] }, member.shape));
        start += member.shape[0];
      });
      // What is read only by the sum with its bias goes with that.
      if (sums) group.forEach((member, i) => replaced.set(member, replaced.get(sums.nodes[i])!));
      return;
    }
    replaced.set(node, remade(node, inputs));
  };
  for (const node of nodes) {
    const waiting = [node];
    while (waiting.length) {
      const next = waiting.at(-1)!;
      const members = groups.get(next) ?? [next];
      const bias = biased.get(members as Product[])?.bias;
      const inputs = [...members.flatMap((member) => member.inputs), ...(bias ? [bias] : [])];
      const needed = inputs.filter((input) => !replaced.has(input));
      if (needed.length && !replaced.has(next)) waiting.push(...needed);
      else if (!replaced.has(waiting.pop()!)) replace(next);
    }
  }
  return outputs.map((output) => replaced.get(output)!);
}

/**
 * Products that are put together, by each of them: of one matrix, as many kernels after the start as each other, and of rows
 * that are computed from rows and numbers alone, which are little beside what a network computes.
 */
function groupsOf(nodes: readonly Tensor[]): Map<Tensor, Product[]> {
  const depths = new Map<Tensor, number>();
  const light = new Set<Tensor>();
  const found = new Map<string, Product[]>();
  for (const node of nodes) {
    const { kind } = ruleOf(node);
    depths.set(node, Math.max(0, ...node.inputs.map((input) => depths.get(input)!)) + Number(kind === 'kernel'));
    const isProduct = node.op === 'matmul' && node.shape.length === 2 && !(node as Product).attributes.transposeA;
    // A matrix may be of any size.
    const from = isProduct ? node.inputs.slice(0, 1) : node.inputs;
    if (node.op === 'storage' || (node.shape.length <= 2 && from.every((input) => light.has(input)))) light.add(node);
    const [a, matrix] = node.inputs;
    if (!isProduct || !light.has(a)) continue;
    const key = `${matrix.id} ${(node as Product).attributes.transposeB} ${depths.get(node)}`;
    found.set(key, [...(found.get(key) ?? []), node as Product]);
  }
  const groups = [...found.values()].filter((group) => group.length > 1);
  return new Map(groups.flatMap((group) => group.map((member) => [member, group] as const)));
}

/** What products of a group become that are all read once alone: the sum with one bias. */
interface Biased {
  bias: Tensor;
  nodes: readonly Tensor[];
}

/** The groups whose products all get one bias, which they then get together. */
function biasedOf(
  nodes: readonly Tensor[],
  outputs: readonly Tensor[],
  groups: ReadonlyMap<Tensor, Product[]>,
): Map<readonly Tensor[], Biased> {
  const readers = new Map<Tensor, Tensor[]>([...groups.keys()].map((member) => [member, []]));
  for (const node of nodes) for (const input of node.inputs) readers.get(input)?.push(node);
  const found = new Map<readonly Tensor[], Biased>();
  for (const group of new Set(groups.values())) {
    const sums = group.map((member) => {
      const [sum, ...others] = readers.get(member)!;
      if (!sum || others.length || outputs.includes(member) || sum.op !== 'add' || sum.inputs[0] !== member)
        return null;
      const [, { op, inputs }] = sum.inputs;
      return op === 'expand' && inputs[0].shape.length === 1 ? { sum, bias: inputs[0] } : null;
    });
    const bias = sums[0]?.bias;
    if (bias && sums.every((each) => each?.bias === bias))
      found.set(group, { bias, nodes: sums.map((each) => each!.sum) });
  }
  return found;
}

/**
 * A function of tensors with the same axes but the first: all their rows as one tensor. Where they are computed alike, that
 * is what is computed alike from the rows of what they are computed from.
 */
function rowsJoiner(): (parts: readonly Tensor[]) => Tensor {
  const known = new Map<string, Tensor>();
  const join = (parts: readonly Tensor[]): Tensor => {
    const key = parts.map(({ id }) => id).join();
    let joined = known.get(key);
    if (!joined) known.set(key, (joined = alike(parts) ?? together(parts)));
    return joined;
  };
  /** The rows where each is computed by the same operation from rows of its own; null where they are not. */
  const alike = (parts: readonly Tensor[]): Tensor | null => {
    const [first] = parts;
    const { op, inputs, attributes, dtype } = first;
    const shape = [parts.reduce((sum, { shape: [rows] }) => sum + rows, 0), ...first.shape.slice(1)];
    if (parts.some((part) => part.op !== op || part.inputs.length !== inputs.length)) return null;
    const made = (joined: readonly Tensor[]) => new Tensor(op, joined, attributes, shape, dtype);
    const own = (i: number) => parts.map((part) => part.inputs[i]);
    const one = (i: number) => parts.every((part) => part.inputs[i] === inputs[i]);
    /** Whether the rows of an input are the rows of what is computed from it. */
    const byRows = (i: number) => parts.every((part) => part.inputs[i].shape[0] === part.shape[0]);
    if (op === 'constant') {
      const { value } = attributes as Tensor<'constant'>['attributes'];
      const same = parts.every((part) => (part as Tensor<'constant'>).attributes.value === value);
      return same ? constant(value, shape, dtype) : null;
    }
    if (op === 'slice') {
      const starts = parts.map((part) => (part as Tensor<'slice'>).attributes.start);
      const follows = (at: number) => starts[at][0] === starts[at - 1][0] + parts[at - 1].shape[0];
      const beside = starts.every((start, i) => !i || (follows(i) && sameShape(start.slice(1), starts[0].slice(1))));
      return one(0) && beside ? made([inputs[0]]) : null;
    }
    if (op === 'expand') {
      const [x] = inputs;
      if (one(0) && (x.shape.length < shape.length || x.shape[0] === 1)) return made([x]);
      const inside = x.shape.length === shape.length && byRows(0) && sameTails(own(0));
      return inside ? made([join(own(0))]) : null;
    }
    if (op === 'reshape') {
      const inside = byRows(0) && sameTails(own(0));
      return inside ? made([join(own(0))]) : null;
    }
    if (op === 'concat') {
      const axis = (part: Tensor) => (part as Tensor<'concat'>).attributes.axis;
      const along = parts.every((part) => axis(part) === axis(first)) && axis(first) > 0;
      return along && inputs.every((_, i) => sameTails(own(i))) ? made(inputs.map((_, i) => join(own(i)))) : null;
    }
    if (op === 'pad') {
      const { before } = attributes as Tensor<'pad'>['attributes'];
      const same = parts.every((part) => sameShape((part as Tensor<'pad'>).attributes.before, before));
      return same && byRows(0) && sameTails(own(0)) ? made([join(own(0))]) : null;
    }
    const rule = ruleOf(first);
    const pointwise =
      rule.kind === 'index' && rule.access === 'same' && !Object.keys(attributes).length && op !== 'iota';
    return pointwise && inputs.length ? made(inputs.map((_, i) => join(own(i)))) : null;
  };
  return join;
}

/** Numbers are samples of one. */
const together = (parts: readonly Tensor[]): Tensor => {
  if (parts[0].shape.length > 1) return concat(parts, 0);
  const column = concat(
    parts.map((part) => reshape(part, [part.size, 1])),
    0,
  );
  return reshape(column, [column.size]);
};

const sameTails = (parts: readonly Tensor[]): boolean =>
  parts.every(
    ({ shape }) => shape.length === parts[0].shape.length && sameShape(shape.slice(1), parts[0].shape.slice(1)),
  );
