import { UserError } from '../errors.js';
import { usesTensorCores } from '../gpu/profile.js';
import { profile as profileDispatches, type KernelTime } from '../gpu/profiler.js';
import type { Device } from '../gpu/device.js';
import { bind, gridOf, submit, type Dispatch, type Region } from '../gpu/program.js';
import { Resource } from '../gpu/resource.js';
import { bytesPerElement, type HostArray, type TensorStorage } from '../gpu/storage.js';
import type { Tensor } from '../tensor/tensor.js';
import { link, type Binding } from './codegen.js';
import { materializeAttention } from './materialize.js';
import { plan, type Block } from './plan.js';
import { leavesOf, schedule, type Task } from './schedule.js';
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
 * A graph compiled to a flat list of dispatches over planned memory: traced once, replayed at will. Its memory, with that
 * of the fixed storages it reads, is given back by `dispose()`; other storages stay.
 */
export class Program extends Resource {
  constructor(
    private readonly device: Device,
    readonly dispatches: readonly Dispatch[],
    private readonly buffers: readonly GPUBuffer[],
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
    for (const buffer of this.buffers) this.device.destroyBuffer(buffer);
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
  const shared = shareCommon(usesTensorCores(profile) ? materializeAttention(wanted) : wanted);
  const outputs = shared.slice(0, names.length);
  const { tasks, tabulated } = schedule(outputs, shared.slice(names.length), profile);

  const kept = options.half ? halves(tasks, tabulated, outputs) : new Set<Tensor>();
  const isHalf = (node: Tensor) => kept.has(node) || storageOf(node)?.dtype === 'f16';
  const memory = layOut(device, tasks, outputs, kept);
  options.onPlan?.({ bytes: memory.bytes, lowerBound: memory.lowerBound, kernels: tasks.length });
  const own = new Map<TensorStorage | 'arena', GPUBuffer>();
  const bufferOf = (storage: TensorStorage): GPUBuffer => {
    if (!storage.fixed) return device.buffer(storage);
    let buffer = own.get(storage);
    if (!buffer) {
      buffer = device.filled(storage);
      own.set(storage, buffer);
    }
    return buffer;
  };
  const arenaOf = (): GPUBuffer => {
    let arena = own.get('arena');
    if (!arena) own.set('arena', (arena = device.createBuffer('the memory of a program', memory.bytes)));
    return arena;
  };

  const regionOf = (binding: Binding): Region => {
    if ('storage' in binding) return whole(bufferOf(binding.storage), binding.storage.bytes);
    if ('second' in binding) return memory.region(arenaOf(), binding.second, true);
    const node = 'leaf' in binding ? binding.leaf : binding.output;
    if (node.op === 'assign') {
      const { storage } = (node as Tensor<'assign'>).attributes;
      return whole(bufferOf(storage), storage.bytes);
    }
    if (node.op === 'storage') {
      const { storage, offset } = (node as Tensor<'storage'>).attributes;
      const scale = bytesPerElement[storage.dtype];
      return { buffer: bufferOf(storage), offset: offset * scale, size: Math.ceil((node.size * scale) / 4) * 4 };
    }
    return memory.region(arenaOf(), node, false);
  };

  const isLeaf = (node: Tensor) =>
    tabulated.has(node) || node.op === 'storage' || node.op === 'secondary' || node.op === 'pack';
  const linkTask = (task: Task) => {
    const grid = gridOf(task.kernel.workgroups, device.limits.maxComputeWorkgroupsPerDimension);
    const linked = link(task, isLeaf, isHalf, grid[0]);
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
      names.map((name, i) => [name, { region: regionOf({ leaf: outputs[i] }), tensor: outputs[i] }]),
    );
    await device.ready(new Set(linked.flatMap(({ regions }) => regions.map(({ buffer }) => buffer))));
    const dispatches = await Promise.all(linked.map(record));
    return new Program(device, dispatches, [...own.values()], results, memory);
  } catch (error) {
    for (const buffer of own.values()) device.destroyBuffer(buffer);
    throw error;
  }
}

/** The storage that a node reads or assigns to. */
const storageOf = (node: Tensor) =>
  node.op === 'storage' || node.op === 'assign' ? (node as Tensor<'storage' | 'assign'>).attributes.storage : undefined;

const precise = new Set<Tensor['op']>(['rowStatistics', 'random', 'reduce']);

/** The values that f16 is good enough for: what products, attention and norms read. */
function halves(tasks: readonly Task[], tabulated: ReadonlySet<Tensor>, outputs: readonly Tensor[]): Set<Tensor> {
  const readers = new Set<Tensor['op']>([
    'matmul',
    'attention',
    'attentionGradientQ',
    'attentionGradientKV',
    'rowStatistics',
    'normalizeGradient',
  ]);
  const chosen = new Set<Tensor>();
  const pinned = new Set<Tensor>(outputs);
  for (const { core, kernel } of tasks) {
    if (core.op === 'adam') core.inputs[0].inputs.forEach((part) => pinned.add(part));
    if (!readers.has(core.op)) continue;
    for (const { tensor } of kernel.operands) leavesOf(tensor, tabulated).forEach((leaf) => chosen.add(leaf));
  }
  return new Set(
    [...chosen].filter(
      (node) => tabulated.has(node) && node.dtype === 'f32' && !precise.has(node.op) && !pinned.has(node),
    ),
  );
}

const whole = (buffer: GPUBuffer, bytes: number): Region => ({
  buffer,
  offset: 0,
  size: Math.max(16, Math.ceil(bytes / 16) * 16),
});

function checkBinding(device: Device, region: Region, { output }: Task): void {
  const limit = device.limits.maxStorageBufferBindingSize;
  if (region.size <= limit) return;
  const mebibytes = (bytes: number) => Math.round(bytes / 2 ** 20);
  throw new UserError(
    `${output.op} of shape [${output.shape}] works on a tensor of ${mebibytes(region.size)} MiB, this adapter binds at most ${mebibytes(limit)} MiB: use a smaller batch`,
  );
}

interface Place {
  block: Block;
  offset: number;
  bytes: number;
}

/** Where in the arena each task's output lies. */
function layOut(device: Device, tasks: readonly Task[], outputs: readonly Tensor[], half: ReadonlySet<Tensor>) {
  const places = new Map<Tensor, Place>();
  const seconds = new Map<Tensor, Place>();
  const blocks: Block[] = [];
  const alignment = device.limits.minStorageBufferOffsetAlignment;
  const block = (bytes: number, first: number, last: number): Block => {
    const made = { bytes: Math.max(16, bytes), first, last, offset: 0 };
    blocks.push(made);
    return made;
  };
  const packs = new Map<Tensor, { pack: Tensor<'pack'>; part: number }>();
  for (const { kernel } of tasks) {
    for (const { tensor } of kernel.operands) {
      if (tensor.op === 'pack')
        tensor.inputs.forEach((input, part) => packs.set(input, { pack: tensor as Tensor<'pack'>, part }));
    }
  }
  const packed = new Map<Tensor, Block>();
  tasks.forEach(({ output, core, kernel, second }, time) => {
    const packing = packs.get(output);
    if (output.op === 'assign' || output.op === 'adam') {
      // Effects write to storages.
    } else if (packing) {
      const { pack, part } = packing;
      // Gaps between packed gradients stay zero because nothing else ever lives there.
      if (!packed.has(pack)) packed.set(pack, block(pack.size * 4, 0, tasks.length));
      places.set(output, {
        block: packed.get(pack)!,
        offset: pack.attributes.offsets[part] * 4,
        bytes: output.size * 4,
      });
      places.set(pack, { block: packed.get(pack)!, offset: 0, bytes: pack.size * 4 });
    } else {
      const bytes = output.size * (half.has(output) ? 2 : 4);
      places.set(output, { block: block(bytes, time, time), offset: 0, bytes });
    }
    if (kernel.secondary) {
      const place = { block: block(kernel.secondary * 4, time, time), offset: 0, bytes: kernel.secondary * 4 };
      seconds.set(core, place);
      if (second) places.set(second, place);
    }
  });
  const touch = (node: Tensor, time: number) => {
    const place = node.op === 'secondary' ? seconds.get(node.inputs[0]) : places.get(node);
    if (place) place.block.last = Math.max(place.block.last, time);
  };
  tasks.forEach((task, time) => task.reads.forEach((leaf) => touch(leaf, time)));
  outputs.forEach((output) => touch(output, tasks.length));
  const { bytes, lowerBound } = plan(blocks, alignment);
  const region = (arena: GPUBuffer, node: Tensor, second: boolean): Region => {
    const place = second ? seconds.get(node) : node.op === 'secondary' ? seconds.get(node.inputs[0]) : places.get(node);
    if (!place) throw new Error(`${node.op} of shape [${node.shape}] has no memory`);
    return {
      buffer: arena,
      offset: place.block.offset + place.offset,
      size: Math.max(16, Math.ceil(place.bytes / 16) * 16),
    };
  };
  return { bytes, lowerBound, region };
}
