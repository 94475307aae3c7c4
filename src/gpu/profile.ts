/**
 * The kernel families: *plain* (register tiles, no barriers, one invocation a row; software adapters) and *tiled*
 * (workgroup memory and barriers; discrete GPUs).
 */
export type KernelFamily = 'plain' | 'tiled';

/** What every kernel choice follows from; made once when a device is opened. */
export interface Profile {
  vendor: string;
  architecture: string;
  description: string;
  software: boolean;
  family: KernelFamily;
  /** The one size that subgroups have, or 0 where it varies or there are none. */
  subgroupSize: number;
  f16: boolean;
  /** Storage buffers that one kernel may bind. */
  maxBindings: number;
}

const softwareRasterizers = /llvmpipe|lavapipe|swiftshader|basic render/i;

/** @param features what the device was opened with */
export function profileOf(adapter: GPUAdapter, features: GPUSupportedFeatures, forced?: KernelFamily): Profile {
  const info = adapter.info as GPUAdapterInfo & { isFallbackAdapter?: boolean };
  const software = Boolean(info.isFallbackAdapter) || softwareRasterizers.test(`${info.device} ${info.description}`);
  const uniform = info.subgroupMinSize !== undefined && info.subgroupMinSize === info.subgroupMaxSize;
  return {
    vendor: info.vendor,
    architecture: info.architecture,
    description: info.description || info.device,
    software,
    family: forced ?? (software ? 'plain' : 'tiled'),
    subgroupSize: features.has('subgroups') && uniform ? info.subgroupMinSize! : 0,
    f16: features.has('shader-f16'),
    maxBindings: adapter.limits.maxStorageBuffersPerShaderStage,
  };
}
