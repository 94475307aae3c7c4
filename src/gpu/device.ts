import { UserError } from '../errors.js';
import { browserAdapters, requestAdapter, type AdapterSource, type Toggles } from './adapter.js';
import { profileOf, subgroupMatrix, type KernelFamily, type Profile } from './profile.js';
import { Float16Array } from '@petamoriken/float16';
import { bytesPerElement, type HostArray, type TensorStorage } from './storage.js';

export interface DeviceOptions {
  /** Where adapters come from; by default the browser itself. */
  source?: AdapterSource;
  /** Part of the wanted adapter's name; without it the fastest one. */
  adapter?: string;
  toggles?: Toggles;
  /** Forces a kernel family, for tests and comparisons. */
  family?: KernelFamily;
  /** Features to do without though the adapter has them, for tests of what other adapters will run. */
  without?: readonly GPUFeatureName[];
  /**
   * Limits to do with where the adapter allows more, for tests of what smaller adapters will run: 128 MiB bindings, 256
   * MiB buffers and 8 storage buffers a kernel are what WebGPU promises everywhere; it goes no lower.
   */
  limits?: Partial<Record<(typeof wantedLimits)[number], number>>;
  /** Called once when the device is lost or reports an error nobody caught; the run cannot be trusted after it. */
  onFailure?: (message: string) => void;
}

/** One WebGPU device with its kernel profile, compiled pipelines and the buffers of storages. */
export class Device {
  private readonly pipelines = new Map<string, Promise<GPUComputePipeline>>();
  private readonly buffers = new WeakMap<TensorStorage, GPUBuffer>();
  private closing = false;
  /** The first error that nobody caught, if any. */
  failure: string | null = null;

  constructor(
    readonly gpu: GPUDevice,
    readonly profile: Profile,
    readonly toggles: Toggles,
    onFailure?: (message: string) => void,
  ) {
    const fail = (message: string) => {
      if (this.closing || this.failure) return;
      this.failure = message.split('\n')[0];
      onFailure?.(this.failure);
    };
    gpu.addEventListener('uncapturederror', (event) =>
      fail(`GPU error: ${(event as GPUUncapturedErrorEvent).error.message}`),
    );
    void gpu.lost.then((info) => fail(`the GPU device was lost (${info.reason}): ${info.message}`));
  }

  get limits(): GPUSupportedLimits {
    return this.gpu.limits;
  }

  /** Compiles WGSL with the entry point `main`, or returns the pipeline compiled from the same text before. */
  pipeline(source: string, label: string): Promise<GPUComputePipeline> {
    let pipeline = this.pipelines.get(source);
    if (!pipeline) {
      const module = this.gpu.createShaderModule({ code: source, label });
      pipeline = this.gpu
        .createComputePipelineAsync({ label, layout: 'auto', compute: { module, entryPoint: 'main' } })
        .catch((error: Error) => {
          throw new Error(`kernel ${label} does not compile: ${error.message}`);
        });
      this.pipelines.set(source, pipeline);
    }
    return pipeline;
  }

  createBuffer(label: string, bytes: number, usage = 0): GPUBuffer {
    const size = Math.max(16, Math.ceil(bytes / 16) * 16);
    if (size > this.limits.maxBufferSize) {
      throw new UserError(
        `${label} needs ${mebibytes(size)} MiB but this adapter allows ${mebibytes(this.limits.maxBufferSize)} MiB in one buffer: use a smaller batch or model`,
      );
    }
    return this.gpu.createBuffer({
      label,
      size,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC | usage,
    });
  }

  /** The storage's buffer on this device, made and filled on first use. */
  buffer(storage: TensorStorage): GPUBuffer {
    let buffer = this.buffers.get(storage);
    if (!buffer) {
      buffer = this.createBuffer(storage.name, storage.bytes);
      this.buffers.set(storage, buffer);
      if (storage.initial) this.upload(buffer, stored(storage, storage.initial));
      else this.clear(buffer);
    }
    return buffer;
  }

  /** Writes values into a storage, from element `offset` on. */
  write(storage: TensorStorage, values: HostArray, offset = 0): void {
    if (offset + values.length > storage.length) {
      throw new UserError(
        `${values.length} values at ${offset} do not fit storage ${storage.name} of ${storage.length}`,
      );
    }
    this.upload(this.buffer(storage), stored(storage, values), offset * bytesPerElement[storage.dtype]);
  }

  async read(storage: TensorStorage): Promise<HostArray> {
    const bytes = await this.readBuffer(this.buffer(storage), 0, Math.ceil(storage.bytes / 4) * 4);
    if (storage.dtype === 'f16') return Float32Array.from(new Float16Array(bytes).subarray(0, storage.length));
    if (storage.dtype === 'u8') return new Uint8Array(bytes, 0, storage.length);
    return storage.dtype === 'u32' ? new Uint32Array(bytes) : new Float32Array(bytes);
  }

  /** Copies part of a buffer to the host; `bytes` a multiple of 4. Waits for all work submitted before. */
  async readBuffer(buffer: GPUBuffer, offset: number, bytes: number): Promise<ArrayBuffer> {
    const staging = this.gpu.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const encoder = this.gpu.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, offset, staging, 0, bytes);
    this.gpu.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const copy = staging.getMappedRange().slice(0);
    staging.destroy();
    if (this.failure) throw new Error(this.failure);
    return copy;
  }

  /** Waits until everything submitted has run. */
  async finished(): Promise<void> {
    await this.gpu.queue.onSubmittedWorkDone();
    if (this.failure) throw new Error(this.failure);
  }

  close(): void {
    this.closing = true;
    this.gpu.destroy();
  }

  private upload(buffer: GPUBuffer, values: ArrayBufferView, offset = 0): void {
    // The queue writes whole words: a u8 tail is padded.
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const whole = bytes.length & ~3;
    if (whole) this.gpu.queue.writeBuffer(buffer, offset, bytes as Uint8Array<ArrayBuffer>, 0, whole);
    if (whole < bytes.length) {
      const tail = new Uint8Array(4);
      tail.set(bytes.subarray(whole));
      this.gpu.queue.writeBuffer(buffer, offset + whole, tail);
    }
  }

  // Explicit, because the fast toggles switch Dawn's own clearing off.
  private clear(buffer: GPUBuffer): void {
    const encoder = this.gpu.createCommandEncoder();
    encoder.clearBuffer(buffer);
    this.gpu.queue.submit([encoder.finish()]);
  }
}

/** Values as the storage keeps them. */
const stored = (storage: TensorStorage, values: HostArray): ArrayBufferView =>
  storage.dtype === 'f16' ? new Uint16Array(new Float16Array(values).buffer) : values;

const mebibytes = (bytes: number) => (bytes / 2 ** 20).toFixed(0);

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

/** Opens a WebGPU device with the adapter's own limits. Errors nobody catches go to `onFailure`. */
export async function requestDevice(options: DeviceOptions = {}): Promise<Device> {
  const toggles = options.toggles ?? 'fast';
  const adapter = await requestAdapter(options.source ?? browserAdapters, toggles, options.adapter);
  const gpu = await adapter.requestDevice({
    requiredFeatures: wantedFeatures.filter(
      (feature) => adapter.features.has(feature) && !options.without?.includes(feature),
    ),
    requiredLimits: Object.fromEntries(
      wantedLimits.map((limit) => [limit, options.limits?.[limit] ?? adapter.limits[limit]]),
    ),
  });
  return new Device(gpu, profileOf(adapter, gpu, options.family), toggles, options.onFailure);
}
