import type { Ahead } from '../gpu/ahead.js';
import { profile as profileDispatches, type KernelTime } from '../gpu/profiler.js';
import type { Device } from '../gpu/device.js';
import type { Profile } from '../gpu/profile.js';
import { bind, gridOf, submit, type Dispatch, type Region } from '../gpu/program.js';
import { Resource } from '../gpu/resource.js';
import type { HostArray, TensorStorage } from '../gpu/storage.js';
import type { Tensor } from '../tensor/tensor.js';
import { ruleOf } from '../ops/table.js';
import { batchProducts } from './batch.js';
import { windowBytes, type Binding } from './bindings.js';
import { Linker } from './codegen.js';
import { decompose } from './decompose.js';
import { layOut, type Arena } from './arena.js';
import { leavesOf, schedule, type Task } from './schedule.js';
import { separate, writesOf } from './separate.js';
import { shareCommon } from './share.js';
import { sumProducts } from './sum-products.js';

/** What a program computes, and who is told of its making. */
export interface CompileOptions {
  /** Named results, readable after a run. */
  outputs?: Record<string, Tensor>;
  /** `assign` and `adam` nodes: what a run changes. They run in the order of creation. */
  effects?: readonly Tensor[];
  /** Stores what matmul, attention and norms read in f16. Values that are compared or summed stay f32. Default false. */
  half?: boolean;
  /** Called with the arena's size before it is allocated. */
  onPlan?: (memory: { bytes: number; lowerBound: number; kernels: number }) => void;
  /** Called as kernels have been compiled, by the driver as well; in place of the device's `onWork`. */
  onProgress?: (ready: number, total: number) => void;
  /** Gives up at once; what the driver compiles by then goes on unheard. */
  signal?: AbortSignal;
}

/**
 * A graph compiled to a flat list of dispatches over planned memory: traced once, replayed at will. Its memory, with its
 * share in the fixed storages it reads, is given back by `dispose()`; other storages stay.
 */
export class Program extends Resource {
  constructor(
    private readonly device: Device,
    readonly dispatches: readonly Dispatch[],
    private readonly held: Held,
    private readonly results: ReadonlyMap<string, { regions: readonly Region[]; tensor: Tensor }>,
    /** Bytes of the arena, and the least that any plan needs. */
    readonly memory: { bytes: number; lowerBound: number },
    /** The last dispatch that writes a storage. */
    private readonly written: ReadonlyMap<TensorStorage, number>,
  ) {
    super('this program');
  }

  /**
   * Submits one run; does not wait for it.
   * @param after what to do as soon as all that writes a storage is submitted, and before what follows it is
   */
  run(after: ReadonlyMap<TensorStorage, () => void> = new Map()): void {
    this.assertUsable();
    const { device, dispatches } = this;
    const stops = [...after].map(([storage, act]) => ({ end: (this.written.get(storage) ?? -1) + 1, act }));
    let from = 0;
    for (const { end, act } of stops.sort((a, b) => a.end - b.end)) {
      if (end > from) submit(device, dispatches.slice(from, end));
      from = Math.max(from, end);
      act();
    }
    if (from < dispatches.length) submit(device, dispatches.slice(from));
  }

  /** Runs once with timestamps, for a table of where the time goes. */
  profile(): Promise<KernelTime[]> {
    this.assertUsable();
    return profileDispatches(this.device, this.dispatches);
  }

  /** A named output of the last run. */
  async read(name: string): Promise<HostArray> {
    this.assertUsable();
    const result = this.results.get(name);
    if (!result) throw new Error(`this program has no output named ${name}`);
    const { regions, tensor } = result;
    const bytes = new Uint8Array(tensor.size * 4);
    let at = 0;
    for (const { buffer, offset, size } of regions) {
      bytes.set(new Uint8Array(await this.device.readBuffer(buffer, offset, size)), at);
      at += size;
    }
    return tensor.dtype === 'f32' ? new Float32Array(bytes.buffer) : new Uint32Array(bytes.buffer);
  }

  protected free(): void {
    this.held.free();
  }
}

/** The memory of a program: an arena, in as many buffers as it takes, and its share in fixed storages. */
export class Held {
  private readonly arena = new Map<number, GPUBuffer>();
  private numbers?: GPUBuffer;
  private readonly fixed = new Map<TensorStorage, GPUBuffer>();

  constructor(
    private readonly device: Device,
    private readonly arenaBytes: number,
    private readonly bufferBytes: number,
  ) {}

  /** The buffer that a storage lies in. */
  bufferOf(storage: TensorStorage): GPUBuffer {
    if (!storage.fixed) return this.device.buffer(storage);
    const buffer = this.fixed.get(storage) ?? this.device.hold(storage);
    this.fixed.set(storage, buffer);
    return buffer;
  }

  /** Where a byte of the arena is. */
  inArena(at: number): { buffer: GPUBuffer; offset: number } {
    const offset = at % this.bufferBytes;
    const start = at - offset;
    let buffer = this.arena.get(start);
    if (!buffer) {
      const bytes = Math.min(this.bufferBytes, this.arenaBytes - start);
      this.arena.set(start, (buffer = this.device.createBuffer('the memory of a program', bytes)));
    }
    return { buffer, offset };
  }

  /** The buffer of whole numbers that kernels read. */
  numbersOf(table: NumberTable): GPUBuffer {
    return (this.numbers ??= this.device.createBuffer(
      'the numbers of kernels',
      table.bytes,
      table.content(),
      'uniform',
    ));
  }

  /** Gives all of it back. */
  free(): void {
    for (const buffer of [...this.arena.values(), this.numbers]) if (buffer) this.device.destroyBuffer(buffer);
    for (const storage of this.fixed.keys()) this.device.letGo(storage);
  }
}

/** What a graph will run as: its kernels in order, and the memory that they take. Nothing is compiled or allocated. */
export interface PlannedProgram {
  profile: Profile;
  /** Outputs and effects as they were asked for. */
  graph: readonly Tensor[];
  outputs: ReadonlyMap<string, Tensor>;
  tasks: readonly Task[];
  /** Nodes that are kept in f16. */
  halves: ReadonlySet<Tensor>;
  /** Of values on the way; it lies in buffers of `bufferBytes`. */
  arena: Arena;
  bufferBytes: number;
  /** Everything else that is read or written. */
  storages: ReadonlySet<TensorStorage>;
}

/**
 * Plans a graph: merges equal nodes, fuses, and lays out its memory.
 * @throws UserError where a kernel would bind more than the profile allows
 */
export function planProgram(
  device: Profile,
  { outputs: wanted = {}, effects = [], half = false }: Pick<CompileOptions, 'outputs' | 'effects' | 'half'>,
): PlannedProgram {
  const names = Object.keys(wanted);
  const profile = { ...device, half };
  const merged = shareCommon(decompose([...Object.values(wanted), ...effects], profile));
  // What products that are put together are made of may be too much for one kernel.
  const shared = decompose(sumProducts(batchProducts(merged), profile), profile);
  const separated = separate(shared.slice(0, names.length), shared.slice(names.length));
  const { outputs } = separated;
  const { tasks, tabulated } = schedule(separated, profile);
  const kept = half ? halves(tasks, tabulated, outputs) : new Set<Tensor>();
  // Whole windows, so that what is larger than a buffer has none that two buffers share.
  const window = windowBytes(profile);
  const bufferBytes = Math.floor(profile.maxBufferBytes / window) * window;
  const storages = tasks.flatMap(({ reads, output }) => [
    ...[...reads].flatMap((leaf) => (leaf.op === 'storage' ? [(leaf as Tensor<'storage'>).attributes.storage] : [])),
    ...(writesOf(output) ?? []),
  ]);
  return {
    profile,
    graph: [...Object.values(wanted), ...effects],
    outputs: new Map(names.map((name, i) => [name, outputs[i]])),
    tasks,
    halves: kept,
    arena: layOut(tasks, outputs, kept, profile.bindingAlignment, bufferBytes),
    bufferBytes,
    storages: new Set(storages),
  };
}

/**
 * Compiles a graph for a device: plans it, links and compiles its kernels in parallel.
 * @throws UserError as `planProgram`; SemiflowError where the device has no memory for it; the signal's reason where it was
 * aborted
 */
export async function compile(device: Device, options: CompileOptions): Promise<Program> {
  const planned = planProgram(device.profile, options);
  const { tasks, arena } = planned;
  options.onPlan?.({ bytes: arena.bytes, lowerBound: arena.lowerBound, kernels: tasks.length });
  return build(device, planned, options);
}

/** Makes what was planned for a device's own profile ready to run. @throws SemiflowError as `compile` */
export async function build(
  device: Device,
  { profile, outputs, tasks, halves: kept, arena: memory, bufferBytes }: PlannedProgram,
  options: Pick<CompileOptions, 'onProgress' | 'signal'> = {},
): Promise<Program> {
  const isHalf = (node: Tensor) => kept.has(node);
  const held = new Held(device, memory.bytes, bufferBytes);
  const numbers = new NumberTable(device.limits.minUniformBufferOffsetAlignment);
  const regionOf = (binding: Binding): Region => {
    const { start, end } = binding;
    const place =
      'storage' in binding
        ? { buffer: held.bufferOf(binding.storage), offset: start }
        : held.inArena(memory.offsetOf(binding) + start);
    return { ...place, size: end - start };
  };

  const linker = new Linker(isHalf, profile);
  const linkTask = (task: Task) => {
    const grid = gridOf(task.kernel.workgroups, device.limits.maxComputeWorkgroupsPerDimension);
    const linked = linker.link(task, grid[0]);
    const regions = linked.bindings.map(regionOf);
    return { task, grid, regions, source: linked.source, numbers: numbers.add(linked.numbers) };
  };
  const record = async (
    { task, grid, regions, source, numbers: own }: ReturnType<typeof linkTask>,
    given: GPUBuffer,
  ): Promise<Dispatch> => {
    const pipeline = await device.pipeline(source, task.kernel.source);
    return {
      label: task.kernel.source,
      pipeline,
      bindGroup: bind(device, pipeline, [...regions, { buffer: given, ...own }]),
      grid,
      flops: task.kernel.flops ?? 0,
      bytes: regions.reduce((sum, region) => sum + region.size, 0),
    };
  };
  try {
    const linked = tasks.map(linkTask);
    const results = new Map(
      [...outputs].map(([name, node]) => {
        const regions: Region[] = [];
        const bytes = node.size * 4;
        for (let start = 0; start < bytes; start += bufferBytes)
          regions.push(regionOf({ node, start, end: Math.min(bytes, start + bufferBytes) }));
        return [name, { regions, tensor: node }];
      }),
    );
    const given = held.numbersOf(numbers);
    await device.ready(new Set([given, ...linked.flatMap(({ regions }) => regions.map(({ buffer }) => buffer))]));
    const dispatches = linked.map((task) => record(task, given));
    // Whichever fails first is thrown here; none may fail unheard while others are waited for.
    const all = Promise.all(dispatches);
    all.catch(() => {});
    const alone = (i: number) => !writesOf(tasks[i].output);
    await compileInOrder(device, linked, dispatches, alone, options);
    const written = new Map(tasks.flatMap(({ output }, i) => (writesOf(output) ?? []).map((storage) => [storage, i])));
    return new Program(device, await all, held, results, memory, written);
  } catch (error) {
    held.free();
    throw error;
  }
}

/**
 * Waits for the pipelines in the order in which they are needed, and tells of each. Software adapters compile a kernel when
 * it first runs: one workgroup of it runs here, into memory that the program writes anyway, so that it is known how far
 * compiling is and no step has to wait for it. Where one takes its time, which those that were compiled before do not, other
 * devices compile what follows.
 * @param alone whether a task changes nothing beside its program's own memory
 */
async function compileInOrder(
  device: Device,
  sources: readonly { source: string; regions: readonly Region[] }[],
  dispatches: readonly Promise<Dispatch>[],
  alone: (i: number) => boolean,
  {
    onProgress = device.onWork && ((ready, total) => device.onWork?.(ready, total, 'kernels')),
    signal,
  }: Pick<CompileOptions, 'onProgress' | 'signal'>,
): Promise<void> {
  if (!onProgress && !signal) return;
  const { ahead, profile } = device;
  const first = new Map<string, number>();
  sources.forEach(({ source }, i) => first.set(source, first.get(source) ?? i));
  const waiting = [...first.values()];
  const compiled: number[] = [];
  let ready = 0;
  let helped: Promise<unknown>[] | undefined;
  const run = async (i: number) => {
    const dispatch = await unlessAborted(dispatches[i], signal);
    if (!profile.software || !alone(i)) return;
    submit(device, [{ ...dispatch, grid: [1, 1] }]);
    await unlessAborted(device.finished(), signal);
  };
  const help = async (which: number, by: Ahead) => {
    for (let i = waiting.shift(); i !== undefined; i = waiting.shift()) {
      const { source, regions } = sources[i];
      try {
        await unlessAborted(by.compile(which, source, regions.length + 1), signal);
      } catch {
        waiting.push(i);
        return;
      }
      compiled.push(i);
      onProgress?.(++ready, first.size);
    }
  };
  const runWaiting = async () => {
    for (let i = waiting.shift(); i !== undefined; i = waiting.shift()) {
      const start = performance.now();
      await run(i);
      onProgress?.(++ready, first.size);
      if (!profile.software || !ahead || helped || performance.now() - start < compiles) continue;
      helped = Array.from({ length: ahead.count }, (_, which) => help(which, ahead));
    }
  };
  try {
    await runWaiting();
    await Promise.all(helped ?? []);
    // What the others failed at tells why here.
    await runWaiting();
    for (const i of compiled) await run(i);
  } finally {
    waiting.length = 0;
  }
}

/** Milliseconds beyond which a kernel that runs for the first time is taken to be compiled. */
const compiles = 60;

/** What is waited for, unless the signal comes first: one kernel alone may take a driver many seconds. */
function unlessAborted<T>(work: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort);
    void work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

/** What kernels read as `numbers`, each list where a binding may begin; equal lists lie there once. */
export class NumberTable {
  private readonly places = new Map<string, { offset: number; size: number }>();
  private readonly lists: Uint32Array[] = [];
  bytes = 0;

  constructor(private readonly alignment: number) {}

  /** Where a list lies, in bytes, from now on. */
  add(list: Uint32Array): { offset: number; size: number } {
    const key = list.join();
    let place = this.places.get(key);
    if (!place) {
      place = { offset: this.bytes, size: Math.ceil(list.byteLength / 16) * 16 };
      this.bytes += Math.ceil(place.size / this.alignment) * this.alignment;
      this.places.set(key, place);
      this.lists.push(list);
    }
    return place;
  }

  /** All lists, as the buffer holds them. */
  content(): Uint32Array {
    const words = new Uint32Array(this.bytes / 4);
    [...this.places.values()].forEach(({ offset }, i) => words.set(this.lists[i], offset / 4));
    return words;
  }
}

/** The values that f16 is good enough for: by their own rules, and by those of some kernel that reads them. */
function halves(tasks: readonly Task[], tabulated: ReadonlySet<Tensor>, outputs: readonly Tensor[]): Set<Tensor> {
  const chosen = new Set<Tensor>();
  const pinned = new Set<Tensor>(outputs);
  for (const { core, kernel } of tasks) {
    for (const { tensor } of kernel.operands)
      if (tensor.op === 'pack') tensor.inputs.forEach((part) => pinned.add(part));
    const rule = ruleOf(core);
    if (rule.kind !== 'kernel' || !rule.halfOperands) continue;
    const operands = kernel.operands.map(({ tensor }) => tensor);
    for (const leaf of leavesOf(operands, tabulated)) chosen.add(leaf);
  }
  return new Set(
    [...chosen].filter(
      (node) => tabulated.has(node) && node.dtype === 'f32' && !ruleOf(node).precise && !pinned.has(node),
    ),
  );
}
