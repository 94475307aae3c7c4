import { UserError } from '../errors.js';
import { sizeOf } from '../tensor/shape.js';
import type { Tensor } from '../tensor/tensor.js';
import { sum } from './broadcast.js';
import { matmul } from './matmul.js';
import { permute, reshape } from './movement.js';

/** A tensor with a letter for each axis. */
interface Labelled {
  x: Tensor;
  labels: string;
}

/**
 * Einstein's summation, as in `einsum('bqhd,bkhd->bhqk', q, k)`: products over axes of one letter, summed over the letters
 * that the result lacks. Operands are joined from the left on, each time by a batched matrix product.
 * @throws UserError when the equation is not of that form, repeats a letter in one term or does not fit the shapes
 */
export function einsum(equation: string, ...operands: readonly Tensor[]): Tensor {
  const form = /^([a-zA-Z]*(?:,[a-zA-Z]*)*)->([a-zA-Z]*)$/.exec(equation.replace(/\s/g, ''));
  const terms = form?.[1].split(',') ?? [];
  const output = form?.[2] ?? '';
  const shapes = operands.map(({ shape }) => `[${shape}]`).join(', ');
  const fault = (why: string) => new UserError(`einsum '${equation}' of ${shapes}: ${why}`);
  if (!form || terms.length !== operands.length) throw fault('it needs a term for each operand and one after ->');
  const extents = new Map<string, number>();
  terms.forEach((labels, i) => {
    const { shape } = operands[i];
    if (labels.length !== shape.length) throw fault(`term ${labels} has not the rank of [${shape}]`);
    [...labels].forEach((label, axis) => {
      if ((extents.get(label) ?? shape[axis]) !== shape[axis]) throw fault(`axis ${label} has two extents`);
      extents.set(label, shape[axis]);
    });
  });
  for (const labels of [...terms, output]) {
    if (new Set(labels).size !== labels.length) throw fault(`${labels} repeats a letter`);
  }
  for (const label of output) if (!extents.has(label)) throw fault(`no operand has ${label}`);
  const parts = terms.map((labels, i) => ({ x: operands[i], labels }));
  const joined = parts.reduce((left, right, i) => {
    const later = output + terms.slice(i + 1).join('');
    return product(summed(left, right.labels + later), summed(right, left.labels + later), later);
  });
  return arranged(summed(joined, output), output);
}

/** Summed over the axes that nobody asks for. */
function summed({ x, labels }: Labelled, wanted: string): Labelled {
  const axes = [...labels].flatMap((label, axis) => (wanted.includes(label) ? [] : [axis]));
  return axes.length
    ? { x: sum(x, axes), labels: [...labels].filter((l) => wanted.includes(l)).join('') }
    : { x, labels };
}

const arranged = ({ x, labels }: Labelled, order: string): Tensor =>
  permute(
    x,
    [...order].map((label) => labels.indexOf(label)),
  );

/** One batched matrix product: axes of both that stay are its batch, axes of both that go are summed over. */
function product(a: Labelled, b: Labelled, wanted: string): Labelled {
  const of = (labels: string, test: (label: string) => boolean) => [...labels].filter(test).join('');
  const shared = (label: string) => b.labels.includes(label);
  const batch = of(a.labels, (label) => shared(label) && wanted.includes(label));
  const inner = of(a.labels, (label) => shared(label) && !wanted.includes(label));
  const left = of(a.labels, (label) => !shared(label));
  const right = of(b.labels, (label) => !a.labels.includes(label));
  const extents = new Map(
    [a, b].flatMap(({ x, labels }) => [...labels].map((label, i) => [label, x.shape[i]] as const)),
  );
  const shapeOf = (labels: string) => [...labels].map((label) => extents.get(label)!);
  const [n, m, k, p] = [batch, left, inner, right].map((labels) => sizeOf(shapeOf(labels)));
  const y = matmul(
    reshape(arranged(a, batch + left + inner), [n, m, k]),
    reshape(arranged(b, batch + inner + right), [n, k, p]),
  );
  const labels = batch + left + right;
  return { x: reshape(y, shapeOf(labels)), labels };
}
