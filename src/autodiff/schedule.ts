import { UserError } from '../errors.js';
import type { Profile } from '../gpu/profile.js';
import type { TensorStorage } from '../gpu/storage.js';
import { Tensor } from '../tensor/tensor.js';
import { pointwiseKernel } from '../ops/optimizer.js';
import type { Fusion, IndexRule, Kernel } from '../ops/rule.js';
import { ruleOf } from '../ops/table.js';
import { bindingsOf } from './bindings.js';
import { reachable } from './gradients.js';
import { inOrder } from './order.js';
import { writesOf, type Separated } from './separate.js';

/** One kernel of the program: the node whose value it tabulates, and the one whose kernel does the work. */
export interface Task {
  kernel: Kernel;
  /** The node that the WGSL file itself computes; equal to `output` unless an epilogue follows it. */
  core: Tensor;
  output: Tensor;
  /** The node that its second output is, where that is a node by itself. */
  second?: Tensor;
  /** A node on the way from the core to the output that others read too: it is written as well. */
  kept?: Tensor;
  /** The nodes with memory that it reads. */
  reads: ReadonlySet<Tensor>;
}

export interface Schedule {
  /** In an order in which every value is there when it is read; effects come last. */
  tasks: Task[];
  /** Nodes that have memory: outputs of tasks. */
  tabulated: ReadonlySet<Tensor>;
}

const isIndex = (node: Tensor) => ruleOf(node).kind === 'index';
const indexRule = (node: Tensor) => ruleOf(node) as unknown as IndexRule<'add'>;

/**
 * A kernel that evaluates a node while it loads an operand; `repeats` counts evaluations of each element, `unused` those for
 * elements of a joined tensor that come from another of its parts.
 */
interface Use {
  kernel: Tensor;
  fusion: Fusion;
  repeats: number;
  unused: number;
}

/**
 * Chooses which nodes get memory and which are computed inside the kernels that need them. Rules: a view is computed
 * wherever it is used; an index function with one user joins its kernel; one with several users is tabulated, unless
 * its rule says `inline`; what would be computed many times over is tabulated when it costs more than a load.
 * @throws UserError when a kernel needs more bindings than the adapter allows
 */
export function schedule({ outputs, effects, pinned }: Separated, profile: Profile): Schedule {
  const nodes = reachable([...outputs, ...effects]);
  const uses = new Map<Tensor, Use[]>(nodes.map((node) => [node, []]));
  const tabulated = new Set<Tensor>();
  const kernels = new Map<Tensor, Kernel>();
  const seconds = new Set(nodes.filter(({ op }) => op === 'secondary').map(({ inputs: [node] }) => node));

  for (const node of [...nodes].reverse()) {
    const rule = ruleOf(node);
    if (rule.kind === 'memory') {
      // `secondary` and `pack` keep their inputs as they are; storages have none.
      for (const input of node.inputs) uses.get(input)!.push({ kernel: node, fusion: 'none', ...once });
    } else if (rule.kind === 'kernel') {
      const kernel = rule.kernel(node as never, profile);
      // A second output that nobody reads is not written.
      if (!seconds.has(node)) delete kernel.secondary;
      kernels.set(node, kernel);
      tabulated.add(node);
      for (const { tensor, fusion } of kernel.operands) uses.get(tensor)!.push({ kernel: node, fusion, ...once });
    } else {
      const own = mergeUses(uses.get(node)!);
      const inline = !pinned.has(node) && canInline(node, own);
      if (!inline) tabulated.add(node);
      const passed = inline ? own : [{ kernel: node, fusion: 'any' as const, ...once }];
      for (const input of node.inputs) {
        const ratio = Math.max(1, node.size / input.size);
        const repeated = rule.access === 'repeated' ? ratio : 1;
        const joined = isJoinedByColumns(node) ? ratio : 1;
        uses
          .get(input)!
          .push(...passed.map((use) => ({ ...use, repeats: use.repeats * repeated, unused: use.unused * joined })));
      }
    }
  }
  limitBindings(nodes, tabulated, kernels, profile);
  const fusion = new TaskGraph(nodes, tabulated, kernels, pinned, profile);
  fusion.joinEpilogues();
  fusion.joinKernels();
  fusion.joinFollowers();
  fusion.joinSiblings();
  return { tasks: fusion.ordered(effects), tabulated };
}

const once = { repeats: 1, unused: 1 };

/** Whether each row of a node comes from a row of each of its parts. */
const isJoinedByColumns = (node: Tensor): boolean =>
  node.op === 'concat' && (node as Tensor<'concat'>).attributes.axis > 0;

function mergeUses(uses: readonly Use[]): Use[] {
  const merged = new Map<Tensor, Use>();
  for (const use of uses) {
    const same = merged.get(use.kernel);
    const fusion = same && (same.fusion === 'none' || use.fusion === 'any') ? same.fusion : use.fusion;
    const most = (name: 'repeats' | 'unused') => Math.max(same?.[name] ?? 1, use[name]);
    merged.set(use.kernel, { kernel: use.kernel, fusion, repeats: most('repeats'), unused: most('unused') });
  }
  return [...merged.values()];
}

/** So many times narrower than what it is joined into, and of more instructions than this, a part has a kernel of its own. */
const manyColumns = 4;
const manyInstructions = 40;

// An instruction or two repeated in registers still beats a dispatch and a round trip through memory.
const cheap = 2;

function canInline(node: Tensor, uses: readonly Use[]): boolean {
  const rule = indexRule(node);
  if (rule.tabulate) return false;
  const vectorizes = rule.vectorizes?.(node as never) ?? true;
  const pair = isPair(node) && uses.every(({ repeats }) => repeats === 1);
  const isView = rule.cost === 0 || pair;
  const allowed = uses.every(({ fusion }) => fusion === 'any' || (fusion === 'views' && isView && vectorizes));
  if (!allowed) return false;
  // Joining asks every part for every element: a long expression beside many columns is compiled, and runs, for nothing.
  if (!isView && uses.some(({ unused }) => unused >= manyColumns) && isLongHere(node)) return false;
  if (isView || rule.inline || costFromOne(node) <= cheap || isNumber(node, uses)) return true;
  return uses.length === 1 && (uses[0].repeats === 1 || rule.cost <= cheap);
}

/** Two results of kernels side by side in each row, such as a skip connection: choosing costs less than a copy. */
const isPair = (node: Tensor): boolean =>
  node.op === 'concat' &&
  node.inputs.length === 2 &&
  node.inputs.every(isComputed) &&
  (node as Tensor<'concat'>).attributes.axis === node.shape.length - 1 &&
  Boolean(indexRule(node).vectorizes?.(node as never));

/** Whether a node is what a kernel computes, with what may follow it in its registers. */
const isComputed = (node: Tensor): boolean =>
  isIndex(node) ? indexRule(node).access === 'same' && node.inputs.some(isComputed) : ruleOf(node).kind === 'kernel';

/**
 * A number for each sample, such as a time, that takes a few instructions from others: not worth a dispatch, however many
 * samples there are.
 */
const isNumber = (node: Tensor, uses: readonly Use[]): boolean =>
  node.shape.length <= 1 && costOf(node, 0) <= fewInstructions && uses.every(({ repeats }) => repeats <= fewRepeats);
const fewInstructions = 12;
const fewRepeats = 2 ** 12;

/** Whether an expression is long, and not by one of its inputs alone, which then is what gets memory. */
function isLongHere(node: Tensor): boolean {
  const isLong = (part: Tensor) => costOf(part, 0, manyInstructions) > manyInstructions;
  return isLong(node) && node.inputs.filter(isLong).length !== 1;
}

/** Instructions for an element, as far as no kernel computes it, on top of others; no further than matters. */
function costOf(node: Tensor, from: number, most = fewInstructions): number {
  if (!isIndex(node) || from > most) return from;
  const { cost, tabulate } = indexRule(node);
  return tabulate ? from : node.inputs.reduce((sum, input) => costOf(input, sum, most), from + cost);
}

/** Instructions from the one tensor that an element is computed from at its own place; Infinity where it takes more. */
function costFromOne(node: Tensor): number {
  if (!isIndex(node)) return 0;
  const { access, cost } = indexRule(node);
  if (cost === 0) return 0;
  const read = new Set(node.inputs.filter((input) => !isConstant(input)));
  if (access !== 'same' || read.size !== 1) return Infinity;
  return cost + costFromOne([...read][0]);
}

const isConstant = (node: Tensor): boolean =>
  node.op === 'constant' || (node.op === 'expand' && isConstant(node.inputs[0]));

/** Tabulates parts of fused expressions until no kernel binds more buffers than the adapter allows. */
function limitBindings(
  nodes: readonly Tensor[],
  tabulated: Set<Tensor>,
  kernels: ReadonlyMap<Tensor, Kernel>,
  profile: Profile,
): void {
  const { maxBindings } = profile;
  for (const node of nodes) {
    if (!tabulated.has(node)) continue;
    const kernel = kernels.get(node) ?? tabulate(node, profile);
    for (;;) {
      const task = taskOf(kernel, node, node, tabulated);
      if (bindsFew(task, profile)) break;
      const bindings = bindingsOf(task, profile);
      const count = bindings.list.length;
      if (count <= maxBindings) break;
      const inner = inlinedBelow(rootsOf(kernel, node), tabulated)
        .map((part) => ({ part, leaves: leavesOf(part.inputs, tabulated).size }))
        .filter(({ leaves }) => leaves > 1 && leaves < maxBindings)
        .sort((a, b) => b.leaves - a.leaves || a.part.id - b.part.id)[0];
      if (!inner) {
        const mebibytes = Math.round(profile.maxBindingBytes / 2 ** 20);
        throw new UserError(
          `${node.op} of shape [${node.shape}] needs ${count} storage buffers, this device allows ${maxBindings} a kernel: ${
            bindings.windows.size
              ? `its tensors are bound ${mebibytes} MiB at a time, so make them smaller, by a smaller batch or smaller samples`
              : "open it with the adapter's own limits"
          }`,
        );
      }
      tabulated.add(inner.part);
    }
  }
}

/** Whether a task binds no more than the adapter allows, seen at a glance: each tensor once, and what else it may have. */
function bindsFew({ kernel, reads, output }: Task, { maxBindings, maxBindingBytes }: Profile): boolean {
  // Its output, a second one and one that is kept.
  if (kernel.state || reads.size + 3 > maxBindings) return false;
  // Where a view of a storage begins is rounded down by less than this.
  return [output, ...reads].every(({ size }) => 4 * size + 512 <= maxBindingBytes) && !writesOf(output);
}

/** The nodes with memory that fused expressions read. */
export function leavesOf(roots: readonly Tensor[], tabulated: ReadonlySet<Tensor>): Set<Tensor> {
  const leaves = new Set<Tensor>();
  const seen = new Set<Tensor>();
  const visit = (node: Tensor) => {
    if (seen.has(node)) return;
    seen.add(node);
    if (tabulated.has(node) || !isIndex(node)) leaves.add(node);
    else node.inputs.forEach(visit);
  };
  roots.forEach(visit);
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

/** A pointwise kernel computes the node that it is asked for. */
const rootsOf = (kernel: Kernel, output: Tensor): Tensor[] =>
  kernel.operands.flatMap(({ tensor }) => (tensor === output ? output.inputs : [tensor]));

/**
 * Tasks and who reads what of whom, while tasks are joined. A join is refused where the joined task would read what
 * is only computed after it, or would bind too much.
 */
class TaskGraph {
  /** The task that a node is computed in. */
  private readonly producers = new Map<Tensor, Task>();
  /** The tasks that read a node. */
  private readonly readers = new Map<Tensor, Set<Task>>();
  /** From the first to the last id of the outputs of each task that has several. */
  private readonly spans: [number, number][] = [];

  constructor(
    private readonly nodes: readonly Tensor[],
    private readonly tabulated: Set<Tensor>,
    kernels: ReadonlyMap<Tensor, Kernel>,
    private readonly pinned: ReadonlySet<Tensor>,
    private readonly profile: Profile,
  ) {
    for (const node of nodes) {
      if (!tabulated.has(node)) continue;
      const task = taskOf(kernels.get(node) ?? tabulate(node, profile), node, node, tabulated);
      this.producers.set(node, task);
      this.link(task);
    }
  }

  /** Pointwise tasks follow in the registers of the kernel whose only reader they are. */
  joinEpilogues(): void {
    for (const node of this.nodes) {
      if (!this.tabulated.has(node) || !isIndex(node)) continue;
      const task = this.producers.get(node)!;
      for (const core of epilogueCores(node, this.tabulated)) {
        const before = this.producers.get(core)!;
        const alone = [...this.readers.get(core)!].every((reader) => reader === task);
        if (!alone || this.pinned.has(core) || before.output !== core) continue;
        if (!this.join(task, before, taskOf(before.kernel, core, node, this.tabulated))) continue;
        this.tabulated.delete(core);
        break;
      }
    }
  }

  /** Where a pointwise task holds a node with a joint kernel, that takes its place, and the task of the node's input goes. */
  joinKernels(): void {
    for (const task of this.tasks()) {
      const { core, output } = task;
      if (core !== output || !isIndex(output)) continue;
      for (const node of jointCores(output, this.tabulated)) {
        const { input, kernel: jointKernel } = indexRule(node).joint!;
        const second = node.inputs[input];
        const before = this.producers.get(second);
        if (!before || before.core !== second || before.output !== second || this.pinned.has(second)) continue;
        const kernel = jointKernel(node as never, this.profile);
        if ([...this.readers.get(second)!].every((reader) => reader === task)) delete kernel.secondary;
        if (this.join(task, before, { ...taskOf(kernel, node, output, this.tabulated), second })) break;
      }
    }
  }

  /** The first that reads a task's output element by element is computed beside it, while the output is in registers. */
  joinFollowers(): void {
    for (const node of this.nodes) {
      const task = this.producers.get(node);
      if (!task || task.output !== node || task.kernel.source !== 'pointwise' || !isIndex(node)) continue;
      for (const kept of followed(node, this.tabulated)) {
        const before = this.producers.get(kept);
        if (!before || before.output !== kept || before.kept || before.kernel.source === 'pointwise') continue;
        const first = [...this.readers.get(kept)!].every(({ output }) => output.id >= node.id);
        if (!first) continue;
        const { kernel, core, second } = before;
        const reads = new Set(before.reads);
        leavesAround(node, kept, this.tabulated).forEach((leaf) => reads.add(leaf));
        if (this.join(task, before, { kernel, core, output: node, second, kept, reads })) break;
      }
    }
  }

  /** A task whose operands another kernel reads anyhow is done by that one. */
  joinSiblings(): void {
    for (const task of this.tasks()) {
      const rule = ruleOf(task.core);
      const gone = this.producers.get(task.output) !== task;
      if (gone || rule.kind !== 'kernel' || !rule.beside || task.kernel.secondary) continue;
      const siblings = new Set([...task.reads].flatMap((leaf) => [...this.siblings(leaf)]));
      for (const before of siblings) {
        if (before === task || before.kernel.secondary || before.kept || before.kernel.state) continue;
        if (coreOf(before.output) !== before.core || this.producers.get(before.output) !== before) continue;
        const kernel = rule.beside(task.core as never, before.core, this.profile);
        if (!kernel) continue;
        const reads = new Set([...task.reads, ...before.reads]);
        if (this.join(task, before, { ...task, kernel, second: before.output, reads })) break;
      }
    }
  }

  /** Who reads a node, or the other output of the task that it is computed in. */
  private siblings(node: Tensor): Set<Task> {
    const task = this.producers.get(node);
    return new Set([node, task?.output, task?.second].flatMap((made) => [...((made && this.readers.get(made)) ?? [])]));
  }

  ordered(effects: readonly Tensor[]): Task[] {
    const last = new Set(effects.map((effect) => this.producers.get(effect)!));
    const values = this.tasks().filter((task) => !last.has(task));
    const packed = new Set(this.nodes.flatMap((node) => (node.op === 'pack' ? node.inputs : [])));
    const all = [...inOrder(values, (task) => this.dependencies(task)), ...last];
    return this.early(all, last).map((task) => narrowed(task, this.tabulated, packed));
  }

  /** Effects on what nobody else reads or writes do not wait for the end: each follows what it is computed from. */
  private early(tasks: readonly Task[], effects: ReadonlySet<Task>): Task[] {
    const touching = new Map<TensorStorage, Set<Task>>();
    for (const task of tasks) {
      const read = [...task.reads].flatMap((leaf) =>
        leaf.op === 'storage' ? [(leaf as Tensor<'storage'>).attributes.storage] : [],
      );
      for (const storage of [...read, ...(writesOf(task.output) ?? [])])
        touching.set(storage, (touching.get(storage) ?? new Set()).add(task));
    }
    const isAlone = (task: Task) => writesOf(task.output)!.every((storage) => touching.get(storage)!.size === 1);
    const moved = [...effects].filter(isAlone);
    const ordered = tasks.filter((task) => !moved.includes(task));
    for (const effect of moved) {
      const needed = this.dependencies(effect);
      ordered.splice(ordered.findLastIndex((task) => needed.has(task)) + 1, 0, effect);
    }
    return ordered;
  }

  private tasks(): Task[] {
    return [...new Set(this.producers.values())];
  }

  /** Makes `task` what both it and the one before it do, if that may be. */
  private join(task: Task, before: Task, joined: Task): boolean {
    const few =
      bindsFew(joined, this.profile) || bindingsOf(joined, this.profile).list.length <= this.profile.maxBindings;
    if (!few) return false;
    const needed = this.dependencies(joined);
    if (needed.has(before) || needed.has(task)) return false;
    // Nobody else can be waiting for a kernel whose only output `task` reads.
    const several = joined.kernel.secondary || joined.kept;
    if (several && (this.someDependsOn(needed, before) || this.someDependsOn(needed, task))) return false;
    for (const old of [task, before]) this.unlink(old);
    for (const made of [before.core, before.output, before.second, before.kept])
      if (made) this.producers.set(made, task);
    Object.assign(task, joined);
    this.link(task);
    const ids = idsOf(task);
    if (ids.length > 1) this.spans.push([Math.min(...ids), Math.max(...ids)]);
    return true;
  }

  private dependencies({ reads }: Task): Set<Task> {
    const found = new Set<Task>();
    const visit = (node: Tensor) => {
      const task = this.producers.get(node);
      if (task) found.add(task);
      // `secondary` and `pack` are there when their inputs are.
      else node.inputs.forEach(visit);
    };
    reads.forEach(visit);
    return found;
  }

  private someDependsOn(tasks: ReadonlySet<Task>, other: Task): boolean {
    const start = Math.min(...idsOf(other));
    const seen = new Set<Task>(tasks);
    for (const task of seen) {
      for (const next of this.dependencies(task)) {
        if (next === other) return true;
        // What was made earlier cannot wait for it.
        if (this.latest(Math.max(...idsOf(next))) > start) seen.add(next);
      }
    }
    return false;
  }

  /** The last id of what something of an id may wait for: a task with several outputs waits for the inputs of all. */
  private latest(id: number): number {
    for (;;) {
      const wider = this.spans.find(([first, last]) => first < id && id < last);
      if (!wider) return id;
      id = wider[1];
    }
  }

  private link(task: Task): void {
    for (const leaf of task.reads) {
      if (!this.readers.has(leaf)) this.readers.set(leaf, new Set());
      this.readers.get(leaf)!.add(task);
    }
  }

  private unlink(task: Task): void {
    for (const leaf of task.reads) this.readers.get(leaf)!.delete(task);
  }
}

const idsOf = ({ output, second, kept }: Task): number[] =>
  [output, second, kept].flatMap((node) => (node ? [node.id] : []));

function taskOf(kernel: Kernel, core: Tensor, output: Tensor, tabulated: ReadonlySet<Tensor>): Task {
  const reads = leavesOf(rootsOf(kernel, output), tabulated);
  if (core !== output) leavesAround(output, core, tabulated).forEach((leaf) => reads.add(leaf));
  return { kernel, core, output, reads };
}

function tabulate(node: Tensor, profile: Profile): Kernel {
  return { ...pointwiseKernel(node, profile), operands: [{ name: 'x', tensor: node, fusion: 'any', run: node.size }] };
}

/** Of so few nodes four copies compile quickly, and run twice as fast as one element after another. */
const fewNodes = 3;

/**
 * How a pointwise task takes its elements: one by one where some part of a longer expression finds them one by one, else in
 * fours. The last four may reach into the padding that ends everything in memory but the parts of a pack.
 */
function narrowed(task: Task, tabulated: ReadonlySet<Tensor>, packed: ReadonlySet<Tensor>): Task {
  const { kernel, output } = task;
  if (kernel.source !== 'pointwise' || writesOf(output)?.some(({ dtype }) => dtype === 'u8')) return task;
  const inside = inlinedBelow(rootsOf(kernel, output), tabulated);
  if (isIndex(output)) inside.push(output);
  const apart = inside.some((node) => !(indexRule(node).vectorizes?.(node as never) ?? true));
  const nodes = inside.filter((node) => !isConstant(node));
  const single = (apart && nodes.length > fewNodes) || (kernel.run % 4 > 0 && packed.has(output));
  const run = single ? 1 : Math.ceil(kernel.run / 4) * 4;
  const operands = kernel.operands.map((operand) => ({ ...operand, run }));
  return { ...task, kernel: { ...kernel, ...(single && { source: 'pointwise-single' }), run, operands } };
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

/** The nodes of an expression that it uses only element by element at its own index, later ones first. */
function alignedNodes(root: Tensor, tabulated: ReadonlySet<Tensor>): Tensor[] {
  const aligned = new Set<Tensor>();
  const moved = new Set<Tensor>();
  const visit = (node: Tensor, identity: boolean) => {
    const found = identity ? aligned : moved;
    if (found.has(node)) return;
    found.add(node);
    if (node !== root && (tabulated.has(node) || !isIndex(node))) return;
    const keeps = identity && indexRule(node).access === 'same';
    node.inputs.forEach((input) => visit(input, keeps));
  };
  visit(root, true);
  return [...aligned].filter((node) => !moved.has(node)).sort((a, b) => b.id - a.id);
}

/** The kernels' nodes that a pointwise task could follow. */
const epilogueCores = (root: Tensor, tabulated: ReadonlySet<Tensor>): Tensor[] =>
  alignedNodes(root, tabulated).filter((node) => node !== root && ruleOf(node).kind === 'kernel');

/** The nodes with memory that a pointwise task reads element by element, and without a barrier on the way. */
const followed = (root: Tensor, tabulated: ReadonlySet<Tensor>): Tensor[] => {
  const nodes = alignedNodes(root, tabulated);
  if (nodes.some((node) => node.op === 'barrier' && node !== root)) return [];
  return nodes.filter((node) => node !== root && tabulated.has(node) && node.dtype === 'f32');
};

/** What a view of all elements in their order is a view of. */
const coreOf = (node: Tensor): Tensor =>
  isIndex(node) && node.inputs.length === 1 && indexRule(node).cost === 0 && indexRule(node).access === 'same'
    ? coreOf(node.inputs[0])
    : node;

/** The nodes with a joint kernel that a pointwise task computes. */
const jointCores = (root: Tensor, tabulated: ReadonlySet<Tensor>): Tensor[] =>
  alignedNodes(root, tabulated).filter(
    (node) => isIndex(node) && indexRule(node).joint && (node === root || !tabulated.has(node)),
  );
