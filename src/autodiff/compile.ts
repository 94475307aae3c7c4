import { UserError } from '../errors.js';
import { profile as profileDispatches, type KernelTime } from '../gpu/profiler.js';
import type { Device } from '../gpu/device.js';
import { bind, gridOf, submit, type Dispatch, type Region } from '../gpu/program.js';
import { Resource } from '../gpu/resource.js';
import type { HostArray, TensorStorage } from '../gpu/storage.js';
import type { Tensor } from '../tensor/tensor.js';
import { ruleOf } from '../ops/table.js';
import type { Binding } from './bindings.js';
import { link } from './codegen.js';
import { decompose } from './decompose.js';
import { layOut } from './arena.js';
import { leavesOf, schedule, type Task } from './schedule.js';
import { separate } from './separate.js';
import { shareCommon } from './share.js';

export interface CompileOptions {
  /** Named results, readable after a run. */
  outputs?: Record<string, Tensor>;
  /** `assign` and `adam` nodes: what a run changes. They run in the order of creation. */
  effects?: readonly Tensor[];
  /** Stores what matmul, attention and norms read in f16. Values that are compared or summed stay f32. Default false. */
  half?: boolean;
  /** Called with the arena's size before it is allocated. */
  onPlan?: (memory: { bytes: number; lowerBound: number; kernels: number }) => void;
  /** Called as pipelines become ready. */
  onProgress?: (ready: number, total: number) => void;
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
    private readonly results: ReadonlyMap<string, { region: Region; tensor: Tensor }>,
    /** Bytes of the arena, and the least that any plan needs. */
    readonly memory: { bytes: number; lowerBound: number },
  ) {
    super('this program');
  }

  /** Submits one run; does not wait for it. */
  run(): void {
    this.assertUsable();
    submit(this.device, this.dispatches);
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
    const { region, tensor } = result;
    const bytes = await this.device.readBuffer(region.buffer, region.offset, tensor.size * 4);
    return tensor.dtype === 'f32' ? new Float32Array(bytes) : new Uint32Array(bytes);
  }

  protected free(): void {
    this.held.free();
  }
}

/** The memory of a program: an arena, and its share in fixed storages. */
class Held {
  private arena?: GPUBuffer;
  private readonly fixed = new Map<TensorStorage, GPUBuffer>();

  constructor(private readonly device: Device) {}

  bufferOf(storage: TensorStorage): GPUBuffer {
    if (!storage.fixed) return this.device.buffer(storage);
    const buffer = this.fixed.get(storage) ?? this.device.hold(storage);
    this.fixed.set(storage, buffer);
    return buffer;
  }

  arenaOf(bytes: number): GPUBuffer {
    return (this.arena ??= this.device.createBuffer('the memory of a program', bytes));
  }

  free(): void {
    if (this.arena) this.device.destroyBuffer(this.arena);
    for (const storage of this.fixed.keys()) this.device.letGo(storage);
  }
}

/**
 * Compiles a graph for a device: merges equal nodes, fuses, plans memory, links and compiles kernels in parallel.
 * @throws UserError when a tensor or the plan is larger than the adapter allows
 */
export async function compile(device: Device, options: CompileOptions): Promise<Program> {
  const names = Object.keys(options.outputs ?? {});
  const profile = { ...device.profile, half: options.half ?? false };
  const wanted = [...Object.values(options.outputs ?? {}), ...(options.effects ?? [])];
  const shared = shareCommon(decompose(wanted, profile));
  const separated = separate(shared.slice(0, names.length), shared.slice(names.length));
  const { outputs } = separated;
  const { tasks, tabulated } = schedule(separated, profile);

  const kept = options.half ? halves(tasks, tabulated, outputs) : new Set<Tensor>();
  const isHalf = (node: Tensor) => kept.has(node);
  const memory = layOut(tasks, outputs, kept, device.limits.minStorageBufferOffsetAlignment);
  options.onPlan?.({ bytes: memory.bytes, lowerBound: memory.lowerBound, kernels: tasks.length });
  const held = new Held(device);
  const regionOf = (binding: Binding): Region => {
    if (!('storage' in binding)) return { buffer: held.arenaOf(memory.bytes), ...memory.place(binding) };
    const { storage, start, end } = binding;
    return { buffer: held.bufferOf(storage), offset: start, size: end - start };
  };

  const linkTask = (task: Task) => {
    const grid = gridOf(task.kernel.workgroups, device.limits.maxComputeWorkgroupsPerDimension);
    const linked = link(task, isHalf, grid[0]);
    const regions = linked.bindings.map(regionOf);
    for (const region of regions) checkBinding(device, region, task);
    return { task, grid, regions, source: linked.source };
  };
  let ready = 0;
  const record = async ({ task, grid, regions, source }: ReturnType<typeof linkTask>): Promise<Dispatch> => {
    const pipeline = await device.pipeline(source, task.kernel.source);
    options.onProgress?.(++ready, tasks.length);
    return {
      label: task.kernel.source,
      pipeline,
      bindGroup: bind(device, pipeline, regions),
      grid,
      flops: task.kernel.flops ?? 0,
      bytes: regions.reduce((sum, region) => sum + region.size, 0),
    };
  };
  try {
    const linked = tasks.map(linkTask);
    const results = new Map(
      names.map((name, i) => [name, { region: regionOf({ node: outputs[i] }), tensor: outputs[i] }]),
    );
    await device.ready(new Set(linked.flatMap(({ regions }) => regions.map(({ buffer }) => buffer))));
    const dispatches = await Promise.all(linked.map(record));
    return new Program(device, dispatches, held, results, memory);
  } catch (error) {
    held.free();
    throw error;
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

function checkBinding(device: Device, region: Region, { output }: Task): void {
  const limit = device.limits.maxStorageBufferBindingSize;
  if (region.size <= limit) return;
  const mebibytes = (bytes: number) => Math.round(bytes / 2 ** 20);
  throw new UserError(
    `${output.op} of shape [${output.shape}] works on a tensor of ${mebibytes(region.size)} MiB, this adapter binds at most ${mebibytes(limit)} MiB: use a smaller batch`,
  );
}
