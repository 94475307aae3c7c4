import type { Profile } from '../gpu/profile.js';
import { Tensor } from '../tensor/tensor.js';
import { pointwiseKernel } from '../ops/optimizer.js';
import type { Fusion, IndexRule, Kernel } from '../ops/rule.js';
import { ruleOf } from '../ops/table.js';
import { reachable } from './gradients.js';

/** One kernel of the program: the node whose value it tabulates, and the one whose kernel does the work. */
export interface Task {
  kernel: Kernel;
  /** The node that the WGSL file itself computes; equal to `output` unless an epilogue follows it. */
  core: Tensor;
  output: Tensor;
  /** The node that its second output is, where that is a node by itself. */
  second?: Tensor;
  /** The nodes with memory that it reads. */
  reads: ReadonlySet<Tensor>;
}

export interface Schedule {
  tasks: Task[];
  /** Nodes that have memory: outputs of tasks. */
  tabulated: ReadonlySet<Tensor>;
}

const isIndex = (node: Tensor) => ruleOf(node)?.kind === 'index';
const indexRule = (node: Tensor) => ruleOf(node) as unknown as IndexRule<'add'>;

/** A kernel that evaluates a node while it loads an operand; `repeats` counts evaluations of each element. */
interface Use {
  kernel: Tensor;
  fusion: Fusion;
  repeats: number;
}

/**
 * Chooses which nodes get memory and which are computed inside the kernels that need them. Rules: a view is computed
 * wherever it is used; an index function with one user joins its kernel; one with several users is tabulated, unless
 * its rule says `inline`; what would be computed many times over is tabulated when it costs more than a load.
 */
export function schedule(outputs: readonly Tensor[], effects: readonly Tensor[], profile: Profile): Schedule {
  const nodes = reachable([...outputs, ...effects]);
  const pinned = new Set<Tensor>([...outputs, ...effects]);
  for (const node of nodes) if (node.op === 'pack') node.inputs.forEach((input) => pinned.add(input));
  const uses = new Map<Tensor, Use[]>(nodes.map((node) => [node, []]));
  const tabulated = new Set<Tensor>();
  const kernels = new Map<Tensor, Kernel>();

  for (const node of [...nodes].reverse()) {
    const rule = ruleOf(node);
    if (!rule) {
      // Memory: `secondary` and `pack` keep their inputs as they are; storages have none.
      for (const input of node.inputs) uses.get(input)!.push({ kernel: node, fusion: 'none', repeats: 1 });
    } else if (rule.kind === 'kernel') {
      const kernel = rule.kernel(node as never, profile);
      kernels.set(node, kernel);
      tabulated.add(node);
      for (const { tensor, fusion } of kernel.operands) uses.get(tensor)!.push({ kernel: node, fusion, repeats: 1 });
    } else {
      const own = mergeUses(uses.get(node)!);
      const inline = !pinned.has(node) && canInline(node, own);
      if (!inline) tabulated.add(node);
      const passed = inline ? own : [{ kernel: node, fusion: 'any' as const, repeats: 1 }];
      for (const input of node.inputs) {
        const ratio = repeating.has(node.op) ? node.size / input.size : 1;
        uses.get(input)!.push(...passed.map((use) => ({ ...use, repeats: use.repeats * Math.max(1, ratio) })));
      }
    }
  }
  limitBindings(nodes, tabulated, kernels, profile);
  return { tasks: tasksOf(nodes, tabulated, kernels, pinned, profile), tabulated };
}

function mergeUses(uses: readonly Use[]): Use[] {
  const merged = new Map<Tensor, Use>();
  for (const use of uses) {
    const same = merged.get(use.kernel);
    const fusion = same && (same.fusion === 'none' || use.fusion === 'any') ? same.fusion : use.fusion;
    merged.set(use.kernel, { kernel: use.kernel, fusion, repeats: Math.max(same?.repeats ?? 1, use.repeats) });
  }
  return [...merged.values()];
}

// An instruction or two repeated in registers still beats a dispatch and a round trip through memory.
const cheap = 2;

function canInline(node: Tensor, uses: readonly Use[]): boolean {
  const rule = indexRule(node);
  if (rule.tabulate) return false;
  const vectorizes = rule.vectorizes?.(node as never) ?? true;
  const allowed = uses.every(
    ({ fusion }) => fusion === 'any' || (fusion === 'views' && rule.cost === 0 && vectorizes && node.op !== 'constant'),
  );
  if (!allowed) return false;
  if (rule.cost === 0 || rule.inline) return true;
  return uses.length === 1 && (uses[0].repeats === 1 || rule.cost <= cheap);
}

/** Tabulates parts of a fused expression until no kernel binds more buffers than the adapter allows. */
function limitBindings(
  nodes: readonly Tensor[],
  tabulated: Set<Tensor>,
  kernels: Map<Tensor, Kernel>,
  profile: Profile,
): void {
  for (const node of nodes) {
    if (!tabulated.has(node)) continue;
    const kernel = kernels.get(node);
    const roots = kernel ? kernel.operands.map(({ tensor }) => tensor) : node.inputs;
    const fixed = 1 + (kernel?.secondary ? 1 : 0) + Object.keys(kernel?.state ?? {}).length;
    for (;;) {
      const leaves = new Set(roots.flatMap((root) => [...leavesOf(root, tabulated)]));
      if (leaves.size + fixed <= profile.maxBindings) break;
      const candidates = inlinedBelow(roots, tabulated).filter((inner) => indexRule(inner).cost > 0);
      const byLeaves = candidates.map((inner) => ({ inner, count: leavesOf(inner, tabulated).size }));
      const best = byLeaves
        .filter(({ count }) => count + 1 <= profile.maxBindings)
        .sort((a, b) => b.count - a.count)[0];
      if (!best || best.count < 2)
        throw new Error(`a kernel needs ${leaves.size + fixed} buffers, the adapter allows ${profile.maxBindings}`);
      tabulated.add(best.inner);
    }
  }
}

/** The nodes with memory that a fused expression reads. */
export function leavesOf(root: Tensor, tabulated: ReadonlySet<Tensor>): Set<Tensor> {
  const leaves = new Set<Tensor>();
  const visit = (node: Tensor, seen: Set<Tensor>) => {
    if (seen.has(node)) return;
    seen.add(node);
    if (tabulated.has(node) || !isIndex(node)) leaves.add(node);
    else node.inputs.forEach((input) => visit(input, seen));
  };
  visit(root, new Set());
  return leaves;
}

function inlinedBelow(roots: readonly Tensor[], tabulated: ReadonlySet<Tensor>): Tensor[] {
  const found = new Set<Tensor>();
  const visit = (node: Tensor) => {
    if (found.has(node) || tabulated.has(node) || !isIndex(node)) return;
    found.add(node);
    node.inputs.forEach(visit);
  };
  roots.forEach(visit);
  return [...found];
}

/** The tasks in order of their outputs, with epilogues joined to the kernels before them. */
function tasksOf(
  nodes: readonly Tensor[],
  tabulated: Set<Tensor>,
  kernels: Map<Tensor, Kernel>,
  pinned: ReadonlySet<Tensor>,
  profile: Profile,
): Task[] {
  const readers = new Map<Tensor, Set<Tensor>>();
  const read = (leaf: Tensor, reader: Tensor) => {
    if (!readers.has(leaf)) readers.set(leaf, new Set());
    readers.get(leaf)!.add(reader);
  };
  for (const node of nodes) {
    if (!ruleOf(node)) node.inputs.forEach((input) => read(input, node));
    else if (tabulated.has(node)) {
      for (const input of node.inputs) for (const leaf of leavesOf(input, tabulated)) read(leaf, node);
    }
  }
  const joined = new Set<Tensor>();
  const tasks: Task[] = [];
  // Where a pointwise task holds a node with a joint kernel, that kernel takes its place, and the task of the input goes.
  const join = (task: Task) => {
    if (task.core !== task.output || !isIndex(task.output)) return;
    const node = jointCore(task.output, tabulated);
    const { joint } = (node && indexRule(node)) ?? {};
    if (!node || !joint) return;
    const second = node.inputs[joint.input];
    const first = [...readers.get(second)!].every((reader) => reader.id >= task.output.id);
    if (!kernels.has(second) || joined.has(second) || pinned.has(second) || !first) return;
    const kernel = joint.kernel(node as never, profile);
    Object.assign(task, taskOf(kernel, node, task.output, tabulated), { second });
    kernels.delete(second);
  };
  for (const node of nodes) {
    if (!tabulated.has(node) || !isIndex(node)) continue;
    const core = epilogueCore(node, tabulated, (leaf) => {
      const others = [...readers.get(leaf)!].filter((reader) => reader !== node && reader.op !== 'secondary');
      return !others.length && !pinned.has(leaf) && !joined.has(leaf) && kernels.has(leaf);
    });
    if (core) joined.add(core);
    tasks.push(taskOf(core ? kernels.get(core)! : tabulate(node), core ?? node, node, tabulated));
  }
  for (const task of tasks) join(task);
  for (const [node, kernel] of kernels) if (!joined.has(node)) tasks.push(taskOf(kernel, node, node, tabulated));
  for (const core of joined) tabulated.delete(core);
  return tasks.sort((a, b) => a.output.id - b.output.id);
}

function taskOf(kernel: Kernel, core: Tensor, output: Tensor, tabulated: ReadonlySet<Tensor>): Task {
  // A pointwise kernel computes the node that it is asked for.
  const roots = kernel.operands.flatMap(({ tensor }) => (tensor === output ? output.inputs : [tensor]));
  const reads = new Set(roots.flatMap((root) => [...leavesOf(root, tabulated)]));
  if (core !== output) leavesAround(output, core, tabulated).forEach((leaf) => reads.add(leaf));
  return { kernel, core, output, reads };
}

function tabulate(node: Tensor): Kernel {
  return { ...pointwiseKernel(node), operands: [{ name: 'x', tensor: node, fusion: 'any', run: node.size }] };
}

/** What an epilogue reads besides the `core` that it follows. */
function leavesAround(root: Tensor, core: Tensor, tabulated: ReadonlySet<Tensor>): Set<Tensor> {
  const leaves = new Set<Tensor>();
  const seen = new Set<Tensor>([core]);
  const visit = (node: Tensor) => {
    if (seen.has(node)) return;
    seen.add(node);
    if (node !== root && (tabulated.has(node) || !isIndex(node))) leaves.add(node);
    else node.inputs.forEach(visit);
  };
  visit(root);
  return leaves;
}

/** The nodes of an expression by whether it uses them only element by element at its own index. */
function alignedNodes(root: Tensor, tabulated: ReadonlySet<Tensor>): Tensor[] {
  const aligned = new Set<Tensor>();
  const moved = new Set<Tensor>();
  const visit = (node: Tensor, identity: boolean) => {
    const found = identity ? aligned : moved;
    if (found.has(node)) return;
    found.add(node);
    if (node !== root && (tabulated.has(node) || !isIndex(node))) return;
    const keeps =
      identity && node.op !== 'normalize' && node.inputs.every((input) => input.size === node.size) && sameIndex(node);
    node.inputs.forEach((input) => visit(input, keeps));
  };
  visit(root, true);
  return [...aligned].filter((node) => !moved.has(node)).sort((a, b) => b.id - a.id);
}

/** A kernel's node that the expression uses only element by element at the same index, if there is one that may join. */
const epilogueCore = (root: Tensor, tabulated: ReadonlySet<Tensor>, free: (leaf: Tensor) => boolean): Tensor | null =>
  alignedNodes(root, tabulated).find((node) => node !== root && tabulated.has(node) && !isIndex(node) && free(node)) ??
  null;

/** A node of an expression, used in the same way, that has a joint kernel. */
const jointCore = (root: Tensor, tabulated: ReadonlySet<Tensor>): Tensor | null =>
  alignedNodes(root, tabulated).find(
    (node) => isIndex(node) && indexRule(node).joint && (node === root || !tabulated.has(node)),
  ) ?? null;

/** Operations that may read one element many times. */
const repeating = new Set(['expand', 'gather', 'im2col']);
const movements = new Set(['im2col', 'permute', 'slice', 'pad', 'concat', 'gather', 'expand', 'random', 'iota']);
const sameIndex = (node: Tensor) => !movements.has(node.op);
