import { Float16Array } from '@petamoriken/float16';
import { SemiflowError, UserError } from '../errors.js';
import { browserAdapters, requestAdapter, type AdapterSource, type Toggles } from './adapter.js';
import { Ahead } from './ahead.js';
import { alone, type Group } from './group.js';
import { profileOf, subgroupMatrix, type Choices, type KernelFamily, type Profile } from './profile.js';
import { Resource } from './resource.js';
import { bytesPerElement, type Filler, type HostArray, type TensorStorage } from './storage.js';
import { patchWord } from './patch.js';

/** How a device is opened; all of it optional. */
export interface DeviceOptions {
  /** Where adapters come from; by default the browser itself. */
  source?: AdapterSource;
  /** Part of the wanted adapter's name; without it the fastest one. */
  adapter?: string;
  /** Default `checked`. */
  toggles?: Toggles;
  /** Forces a kernel family, for tests and comparisons. */
  family?: KernelFamily;
  /** Features to do without though the adapter has them, for tests of what other adapters will run. */
  without?: readonly string[];
  /**
   * Limits to do with where the adapter allows more, for tests of what smaller adapters will run: 128 MiB bindings, 256
   * MiB buffers and 8 storage buffers a kernel are what WebGPU promises everywhere, and no device has less. What semiflow
   * binds and what programs work in keep to smaller ones all the same.
   */
  limits?: Partial<Record<(typeof wantedLimits)[number], number>>;
  /** The processes that this one computes together with; by default none. */
  group?: Group;
  /** What was measured on an adapter like this (`readChoices`); without it kernels' own tables hold. */
  choices?: (profile: Profile) => Promise<Choices>;
  /** Called once when the device is lost or reports an error nobody caught; the run cannot be trusted after it. */
  onFailure?: (message: string) => void;
  /** Hears how much is done of the kernels that a program compiles, or of the samples that a network is asked for. */
  onWork?: OnWork;
}

/** Hears how far something is that takes time; samples on their way count in part. */
export type OnWork = (done: number, total: number, of: 'kernels' | 'samples') => void;

/** What a device holds: buffers made and not yet given back, and their bytes. */
export interface DeviceMemory {
  buffers: number;
  bytes: number;
}

interface Allocation {
  bytes: number;
  /** Why there is no such buffer, or null: known some time after it was asked for, and once it is filled. */
  problem: Promise<Error | null>;
}

/**
 * One WebGPU device with its kernel profile, compiled pipelines and the buffers of storages. Errors have the code
 * `device` and reach whoever awaits what failed; those that nobody awaits reach all who use the device after them.
 */
export class Device extends Resource {
  private readonly pipelines = new Map<string, Promise<GPUComputePipeline>>();
  private readonly buffers = new WeakMap<TensorStorage, GPUBuffer>();
  /** Fixed storages, and how many programs read them now. */
  private readonly shared = new Map<TensorStorage, { buffer: GPUBuffer; readers: number }>();
  private readonly allocations = new WeakMap<GPUBuffer, Allocation>();
  private readonly held: DeviceMemory = { buffers: 0, bytes: 0 };
  /** The last filling that was begun: one after another, so that the host holds no more than a part of one. */
  private filling: Promise<unknown> = Promise.resolve();
  /** The first error that nobody caught, if any: nothing that was computed since can be trusted. */
  failure: SemiflowError | null = null;

  constructor(
    readonly gpu: GPUDevice,
    readonly profile: Profile,
    readonly toggles: Toggles,
    private readonly onFailure?: (message: string) => void,
    /** Waits for a result, see `AdapterSource.wait`. */
    private readonly wait: <T>(result: Promise<T>) => Promise<T> = (result) => result,
    /** The processes whose devices work together with this one. */
    readonly group: Group = alone,
    /** Whoever wants to know how far its work is. */
    readonly onWork?: OnWork,
    /** Who else compiles kernels for it. */
    readonly ahead?: Ahead,
  ) {
    super('this device');
    gpu.addEventListener('uncapturederror', (event) => {
      const { error } = event as GPUUncapturedErrorEvent;
      if (error instanceof GPUOutOfMemoryError) this.fail(error.message, smaller);
      else this.fail(error.message);
    });
    void gpu.lost.then(({ reason, message }) =>
      this.fail(`the device was lost (${reason}): ${message}`, 'open it anew, for smaller work if it is lost again'),
    );
  }

  get limits(): GPUSupportedLimits {
    return this.gpu.limits;
  }

  /** Bytes of weights that lie in one buffer, bound whole: where there are more, they lie in several pages. */
  get pageBytes(): number {
    return this.profile.maxBindingBytes;
  }

  /** What is held now: of storages, programs, and copies on their way to the host. */
  get memory(): DeviceMemory {
    return { ...this.held };
  }

  /** @throws UserError where it was disposed, SemiflowError where it failed */
  override assertUsable(): void {
    super.assertUsable();
    if (this.failure) throw this.failure;
  }

  /**
   * Compiles WGSL with the entry point `main`, or returns the pipeline compiled from the same text before.
   * @throws SemiflowError where the adapter refuses it
   */
  pipeline(source: string, label: string): Promise<GPUComputePipeline> {
    let pipeline = this.pipelines.get(source);
    if (!pipeline) {
      const module = this.gpu.createShaderModule({ code: source, label });
      const descriptor = { label, layout: 'auto', compute: { module, entryPoint: 'main' } } as const;
      pipeline = this.wait(this.gpu.createComputePipelineAsync(descriptor)).catch((error: Error) => {
        throw this.failure ?? deviceError(`kernel ${label} does not compile on this adapter: ${error.message}`);
      });
      this.pipelines.set(source, pipeline);
    }
    return pipeline;
  }

  /**
   * A buffer that kernels can bind, to be given back by `destroyBuffer`. What is wrong with it shows in `ready`.
   * @param content first values; zeros by default
   * @throws SemiflowError where the adapter has no buffers of that size
   */
  createBuffer(
    label: string,
    bytes: number,
    content?: ArrayBufferView,
    usage: 'storage' | 'uniform' = 'storage',
  ): GPUBuffer {
    return this.allocate(
      {
        label,
        size: wordsOf(bytes),
        usage:
          GPUBufferUsage.COPY_DST |
          (usage === 'uniform' ? GPUBufferUsage.UNIFORM : GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC),
      },
      // Zeros by hand, because the fast toggles switch Dawn's own clearing off.
      (buffer) => (content ? this.upload(buffer, content, 0, true) : this.clear(buffer)),
    );
  }

  /** Waits until it is known that buffers are there. @throws SemiflowError where there is no memory for one */
  async ready(buffers: Iterable<GPUBuffer>): Promise<void> {
    const problems = await Promise.all([...buffers].map((buffer) => this.allocations.get(buffer)?.problem));
    const problem = problems.find(Boolean);
    if (problem) throw problem;
  }

  /** Gives a buffer's memory back. */
  destroyBuffer(buffer: GPUBuffer): void {
    const allocation = this.allocations.get(buffer);
    if (!allocation || this.disposed) return;
    this.allocations.delete(buffer);
    this.held.buffers--;
    this.held.bytes -= allocation.bytes;
    buffer.destroy();
  }

  /**
   * The storage's buffer on this device, made and filled on first use.
   * @throws UserError where it was disposed or lies on another device
   */
  buffer(storage: TensorStorage): GPUBuffer {
    this.assertUsable();
    storage.assertUsable();
    if (storage.fixed)
      throw new UserError(`storage ${storage.name} is fixed: only programs read it, and none writes it`);
    if (storage.owner && storage.owner !== this)
      throw new UserError(`storage ${storage.name} lies on another device: make one anew for this device`);
    let buffer = this.buffers.get(storage);
    if (!buffer) {
      const made = this.filled(storage);
      void this.allocations.get(made)!.problem.then((problem) => {
        if (problem) this.buffers.delete(storage);
      });
      this.buffers.set(storage, (buffer = made));
      storage.owner = this;
    }
    return buffer;
  }

  /** The buffer of a fixed storage, for one program more; `letGo` gives it back. */
  hold(storage: TensorStorage): GPUBuffer {
    const held = this.shared.get(storage) ?? { buffer: this.filled(storage), readers: 0 };
    held.readers++;
    this.shared.set(storage, held);
    return held.buffer;
  }

  /** A program less reads a fixed storage; with the last one its memory goes. */
  letGo(storage: TensorStorage): void {
    const held = this.shared.get(storage);
    if (!held || --held.readers) return;
    this.shared.delete(storage);
    this.destroyBuffer(held.buffer);
  }

  /**
   * A buffer with the first values of a storage.
   * @throws SemiflowError where this adapter cannot keep such numbers
   */
  private filled(storage: TensorStorage): GPUBuffer {
    const { name, dtype, bytes, initial, filler } = storage;
    if (dtype === 'f16' && !this.profile.f16)
      throw deviceError(`storage ${name} keeps f16, which this adapter lacks (shader-f16)`, 'keep f32');
    const buffer = this.createBuffer(`storage ${name}`, bytes, initial && stored(storage, initial));
    if (!filler) return buffer;
    const allocation = this.allocations.get(buffer)!;
    const filled = this.filling.then(() => this.fill(storage, buffer, filler));
    this.filling = filled;
    allocation.problem = Promise.all([allocation.problem, filled]).then(([problem, failure]) => problem ?? failure);
    return buffer;
  }

  /** Writes what a filler gives, no faster than the device takes it. @returns what went wrong, if anything */
  private async fill(storage: TensorStorage, buffer: GPUBuffer, filler: Filler): Promise<Error | null> {
    let waiting = 0;
    try {
      await filler(async (values, offset) => {
        if (this.disposed || !this.allocations.has(buffer)) return;
        const end = offset + values.length === storage.length;
        this.upload(buffer, stored(storage, values), offset * bytesPerElement[storage.dtype], end);
        waiting += values.byteLength;
        if (waiting < mostOnTheWay) return;
        waiting = 0;
        await this.wait(this.gpu.queue.onSubmittedWorkDone()).catch(() => {});
      });
      return null;
    } catch (error) {
      return error as Error;
    }
  }

  /** Gives a storage's memory back: what `storage.dispose()` does. */
  release(storage: TensorStorage): void {
    const buffer = this.buffers.get(storage);
    if (buffer) this.destroyBuffer(buffer);
    this.buffers.delete(storage);
  }

  /**
   * Writes values into a storage, from element `offset` on: after all that was submitted before, before all that follows.
   * @throws UserError where they do not fit or are of another type
   */
  write(storage: TensorStorage, values: HostArray, offset = 0): void {
    storage.checkValues(values);
    if (!Number.isInteger(offset) || offset < 0 || offset + values.length > storage.length)
      throw new UserError(
        `${values.length} values at ${offset} do not fit storage ${storage.name} of ${storage.length}`,
      );
    const toEnd = offset + values.length === storage.length;
    this.upload(this.buffer(storage), stored(storage, values), offset * bytesPerElement[storage.dtype], toEnd);
  }

  /** A storage's values, once all that was submitted before has run. */
  async read(storage: TensorStorage): Promise<HostArray> {
    const bytes = await this.readBuffer(this.buffer(storage), 0, Math.ceil(storage.bytes / 4) * 4);
    if (storage.dtype === 'f16') return Float32Array.from(new Float16Array(bytes, 0, storage.length));
    if (storage.dtype === 'u8') return new Uint8Array(bytes, 0, storage.length);
    return storage.dtype === 'u32' ? new Uint32Array(bytes) : new Float32Array(bytes);
  }

  /** Elements of a storage of f32 from `offset` on, as `read`. */
  async readPart(storage: TensorStorage, offset: number, length: number): Promise<Float32Array> {
    return new Float32Array(await this.readBuffer(this.buffer(storage), offset * 4, length * 4));
  }

  /** Copies part of a buffer to the host; `bytes` a multiple of 4. Waits for all work submitted before. */
  async readBuffer(buffer: GPUBuffer, offset: number, bytes: number): Promise<ArrayBuffer> {
    this.assertUsable();
    let mapped!: Promise<Error | null>;
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    const staging = this.allocate({ label: 'a copy for the host', size: bytes, usage }, (copy) => {
      const encoder = this.gpu.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, offset, copy, 0, bytes);
      this.gpu.queue.submit([encoder.finish()]);
      mapped = this.wait(copy.mapAsync(GPUMapMode.READ)).then(
        () => null,
        (error: Error) => error,
      );
    });
    const ready = this.ready([buffer, staging]);
    try {
      const [error] = await Promise.all([mapped, ready]);
      this.assertUsable();
      if (error) throw deviceError(`reading from the device failed: ${error.message}`);
      return staging.getMappedRange().slice(0);
    } finally {
      this.destroyBuffer(staging);
    }
  }

  /** Waits until everything submitted has run. @throws SemiflowError where something failed */
  async finished(): Promise<void> {
    // It rejects where the device is lost, which is then said there.
    await this.wait(this.gpu.queue.onSubmittedWorkDone()).catch(() => this.gpu.lost);
    this.assertUsable();
  }

  protected free(): void {
    this.ahead?.dispose();
    this.gpu.destroy();
    Object.assign(this.held, { buffers: 0, bytes: 0 });
  }

  private fail(message: string, mend = 'this is a fault of semiflow or of the driver'): void {
    if (this.disposed || this.failure) return;
    this.failure = deviceError(message, mend);
    this.onFailure?.(this.failure.message);
  }

  /** A buffer and what is first done with it; errors of both are its own, not the device's. */
  private allocate(descriptor: GPUBufferDescriptor & { label: string }, begin: (buffer: GPUBuffer) => void): GPUBuffer {
    this.assertUsable();
    const { label, size } = descriptor;
    const most = this.limits.maxBufferSize;
    if (size > most)
      throw deviceError(
        `${label} needs ${mebibytes(size)} MiB, but this adapter allows ${mebibytes(most)} MiB in one buffer`,
        smaller,
      );
    this.gpu.pushErrorScope('validation');
    this.gpu.pushErrorScope('out-of-memory');
    const buffer = this.gpu.createBuffer(descriptor);
    begin(buffer);
    const [memory, validation] = [this.gpu.popErrorScope(), this.gpu.popErrorScope()];
    this.held.buffers++;
    this.held.bytes += size;
    const problem = Promise.all([memory, validation]).then(
      ([full, invalid]) => {
        if (!full && !invalid) return null;
        const held = `${mebibytes(this.held.bytes - size)} MiB are held`;
        this.destroyBuffer(buffer);
        return full
          ? deviceError(`the device has no memory for ${label} of ${mebibytes(size)} MiB; ${held}`, smaller)
          : deviceError(`${label}: ${invalid!.message}`);
      },
      // The device is lost or disposed, and says so itself.
      () => null,
    );
    this.allocations.set(buffer, { bytes: size, problem });
    return buffer;
  }

  /** @param toEnd whether what follows the values in their last word is padding */
  private upload(buffer: GPUBuffer, values: ArrayBufferView, offset = 0, toEnd = false): void {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength) as Uint8Array;
    // The queue writes whole words. Where values begin or end within one, their neighbours are left as they are.
    const start = Math.min(Math.ceil(offset / 4) * 4 - offset, bytes.length);
    const end = start + ((bytes.length - start) & ~3);
    if (start) patchWord(this.gpu, buffer, offset, bytes.subarray(0, start));
    if (end > start) this.gpu.queue.writeBuffer(buffer, offset + start, bytes, start, end - start);
    if (end === bytes.length) return;
    if (toEnd) {
      const last = new Uint8Array(4);
      last.set(bytes.subarray(end));
      this.gpu.queue.writeBuffer(buffer, offset + end, last);
    } else patchWord(this.gpu, buffer, offset + end, bytes.subarray(end));
  }

  private clear(buffer: GPUBuffer): void {
    const encoder = this.gpu.createCommandEncoder();
    encoder.clearBuffer(buffer);
    this.gpu.queue.submit([encoder.finish()]);
  }
}

/** Bytes of first values that may wait in the queue. */
const mostOnTheWay = 2 ** 26;

/** Values as the storage keeps them. */
const stored = (storage: TensorStorage, values: HostArray): ArrayBufferView =>
  storage.dtype === 'f16' ? new Uint16Array(new Float16Array(values).buffer) : values;

const deviceError = (message: string, mend?: string) =>
  new SemiflowError('device', [`GPU: ${message.split('\n')[0]}`, ...(mend ? [mend] : [])].join(': '));

const smaller = 'use a smaller batch or network, or dispose of what is no longer needed';
const mebibytes = (bytes: number) => (bytes / 2 ** 20).toFixed(0);
/** Whole vec4s of words. */
const wordsOf = (bytes: number) => Math.max(16, Math.ceil(bytes / 16) * 16);

const wantedFeatures = ['subgroups', 'shader-f16', 'timestamp-query', subgroupMatrix] as GPUFeatureName[];
const wantedLimits = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'minStorageBufferOffsetAlignment',
] as const;

/**
 * Opens a WebGPU device, with the adapter's own limits unless told otherwise. Whoever opens it disposes of it, which gives
 * back all that was made on it.
 * @throws SemiflowError where there is no such adapter, or it refuses
 */
export async function openDevice(options: DeviceOptions = {}): Promise<Device> {
  const { toggles = 'checked', source = browserAdapters } = options;
  const [adapter, gpu] = await openOne(options);
  const profile = profileOf(adapter, gpu, options.family, options.limits);
  const choices = await options.choices?.(profile);
  const wait = profile.software ? source.wait : undefined;
  const { onFailure, group, onWork } = options;
  // Processes that compute together compile the same.
  const helpers = group && group.size > 1 ? 0 : source.helpers;
  const another = () => openOne(options).then(([, device]) => device);
  const ahead = wait && helpers ? new Ahead(helpers, another, wait) : undefined;
  return new Device(gpu, choices ? { ...profile, choices } : profile, toggles, onFailure, wait, group, onWork, ahead);
}

/** A device as WebGPU has it, and the adapter that it is of: each gives one. */
async function openOne(options: DeviceOptions): Promise<[GPUAdapter, GPUDevice]> {
  const { toggles = 'checked', source = browserAdapters } = options;
  const adapter = await requestAdapter(source, toggles, options.adapter);
  const wanted = wantedLimits.map((limit) => [limit, options.limits?.[limit] ?? adapter.limits[limit]] as const);
  const gpu = await adapter
    .requestDevice({
      requiredFeatures: wantedFeatures.filter(
        (feature) => adapter.features.has(feature) && !options.without?.includes(feature),
      ),
      requiredLimits: Object.fromEntries(wanted),
    })
    .catch((error: Error) => {
      throw deviceError(
        `the adapter ${adapter.info.description || adapter.info.device} opens no device: ${error.message}`,
      );
    });
  return [adapter, gpu];
}
