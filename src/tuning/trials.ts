import type { PlannedProgram } from '../autodiff/compile.js';
import { reachable } from '../autodiff/gradients.js';
import { shareCommon } from '../autodiff/share.js';
import { sumProducts } from '../autodiff/sum-products.js';
import { TensorStorage } from '../gpu/storage.js';
import type { Profile } from '../gpu/profile.js';
import type { Choice } from '../ops/choice.js';
import { secondary } from '../ops/memory.js';
import { pointwiseChoice } from '../ops/optimizer.js';
import { add, mul } from '../ops/pointwise.js';
import { ruleOf } from '../ops/table.js';
import { random } from '../tensor/philox.js';
import type { Shape } from '../tensor/shape.js';
import { fromStorage, Tensor } from '../tensor/tensor.js';

/** A choice that a program meets, and a small graph by which its candidates are compared. */
export interface Trial {
  choice: Choice;
  /** How much of the program hangs on it: the most goes first. */
  weight: number;
  /** Outputs, whose time is taken. */
  graph: () => Tensor[];
  /** Of the program that it is from. */
  half: boolean;
}

/** The choices of planned programs, each once, those on which most hangs first. */
export function trialsOf(programs: readonly PlannedProgram[]): Trial[] {
  const found = new Map<string, Trial>();
  for (const { graph, tasks, profile } of programs) {
    const meet = (choice: Choice, weight: number, make: () => Tensor[]) => {
      const known = found.get(choice.key);
      if (known) known.weight += weight;
      else if (choice.candidates.length > 1) found.set(choice.key, { choice, weight, graph: make, half: profile.half });
    };
    // Operations in whose place others may run, and whatever runs.
    const asked = reachable(sumProducts(shareCommon(graph), profile));
    const replaceable = asked.filter((node) => ruleOf(node).decompose);
    const nodes = new Set([...replaceable, ...tasks.map(({ core }) => core)]);
    const read = [...asked, ...tasks.flatMap(({ reads }) => [...reads])];
    const seconds = new Map(
      read.filter(({ op }) => op === 'secondary').map(({ inputs: [node], shape }) => [node, shape]),
    );
    for (const node of nodes)
      for (const choice of ruleOf(node).choices?.(node as never, profile) ?? [])
        meet(choice, workOf(node, profile), () => standalone(node, seconds.get(node), profile.half));
    for (const { kernel, output } of tasks)
      if (kernel.source === 'pointwise')
        meet(pointwiseChoice(output.size), output.size, () => [sumOfProducts(output.size)]);
  }
  return [...found.values()].sort((a, b) => b.weight - a.weight);
}

/** Operations that a node comes to, where they are known, else its elements. */
function workOf(node: Tensor, profile: Profile): number {
  const rule = ruleOf(node);
  return (rule.kind === 'kernel' && rule.kernel(node as never, profile).flops) || node.size;
}

/**
 * A node over random numbers of its own, and its second output where that is read; of its inputs are kept views, which its
 * kernel evaluates, and what is dependent.
 */
function standalone(node: Tensor, second: Shape | undefined, half: boolean): Tensor[] {
  const made = new Map<Tensor, Tensor>();
  const copy = (from: Tensor): Tensor =>
    new Tensor(from.op, from.inputs.map(visit), from.attributes, from.shape, from.dtype);
  const visit = (from: Tensor): Tensor => {
    const known = made.get(from);
    if (known) return known;
    const rule = ruleOf(from);
    const keep = rule.dependent || (rule.kind === 'index' && rule.cost === 0);
    const tensor = keep ? copy(from) : numbers(from, made.size, half && !rule.precise);
    made.set(from, tensor);
    return tensor;
  };
  const alone = copy(node);
  return second ? [alone, secondary(alone, second)] : [alone];
}

/** Random numbers in the place of a tensor, others for each of a trial: of equal ones some operations make nothing. */
function numbers(
  { size, shape, dtype }: Pick<Tensor, 'size' | 'shape' | 'dtype'>,
  which: number,
  half: boolean,
): Tensor {
  if (dtype === 'u32') return fromStorage(new TensorStorage('numbers', 'u32', size), shape);
  // A few thousand of them over and over: drawing each would take longer than what is measured.
  const { normal } = random(which);
  const some = Float32Array.from({ length: Math.min(size, 4093) }, normal);
  const values = new Float32Array(size);
  for (let from = 0; from < size; from += some.length) values.set(some.subarray(0, size - from), from);
  return fromStorage(new TensorStorage('numbers', half ? 'f16' : 'f32', size, values), shape);
}

/** Stands for all pointwise kernels of a size. */
function sumOfProducts(size: number): Tensor {
  const [a, b, c] = [0, 1, 2].map((which) => numbers({ size, shape: [size], dtype: 'f32' }, which, false));
  return add(mul(a, b), c);
}
