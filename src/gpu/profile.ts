import { UserError } from '../errors.js';

/**
 * The kernel families: *plain* (register tiles, no barriers, one invocation a row; software adapters), *tiled*
 * (workgroup memory and barriers; discrete GPUs) and *tensor* (tiled, and products of f16 on tensor cores).
 */
export type KernelFamily = 'plain' | 'tiled' | 'tensor';

/** One way to run a kernel: numbers by name. */
export type Candidate = Readonly<Record<string, number>>;

/** The ways that were found fastest on an adapter, by what they are for (`ops/choice.ts`). */
export type Choices = Readonly<Record<string, Candidate>>;

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
  /** Whether what is compiled stores its activations in f16; set for each program. */
  half: boolean;
  /** Storage buffers that one kernel may bind. */
  maxBindings: number;
  /** Bytes that one of them may have, and that a buffer may. */
  maxBindingBytes: number;
  maxBufferBytes: number;
  /** Bytes at whose multiples a binding begins. */
  bindingAlignment: number;
  /** Bytes of memory that a workgroup shares. */
  workgroupBytes: number;
  /** What was measured on this adapter; where nothing was, kernels' own tables hold. */
  choices?: Choices;
}

const softwareRasterizers = /llvmpipe|lavapipe|swiftshader|basic render/i;

/**
 * What a device will run on its adapter; features and limits are those that it was opened with.
 * @param lowered limits to do with where the device has more
 * @throws UserError where the forced family needs what the adapter lacks
 */
export function profileOf(
  adapter: GPUAdapter,
  device: GPUDevice,
  forced?: KernelFamily,
  lowered: { maxStorageBufferBindingSize?: number; maxBufferSize?: number } = {},
): Profile {
  const { features, limits } = device;
  const maxBufferBytes = Math.min(limits.maxBufferSize, lowered.maxBufferSize ?? Infinity);
  const info = adapter.info as GPUAdapterInfo & { isFallbackAdapter?: boolean };
  const software = Boolean(info.isFallbackAdapter) || softwareRasterizers.test(`${info.device} ${info.description}`);
  const tensorCores = hasTensorCores(info, features);
  if (forced === 'tensor' && !tensorCores)
    throw new UserError('the tensor family needs subgroup matrices, which this adapter lacks: use tiled or plain');
  const uniform = info.subgroupMinSize !== undefined && info.subgroupMinSize === info.subgroupMaxSize;
  return {
    vendor: info.vendor,
    architecture: info.architecture,
    description: info.description || info.device,
    software,
    family: forced ?? (software ? 'plain' : tensorCores ? 'tensor' : 'tiled'),
    subgroupSize: features.has('subgroups') && uniform ? info.subgroupMinSize! : 0,
    f16: features.has('shader-f16'),
    half: false,
    maxBindings: limits.maxStorageBuffersPerShaderStage,
    maxBindingBytes: Math.min(
      limits.maxStorageBufferBindingSize,
      lowered.maxStorageBufferBindingSize ?? Infinity,
      maxBufferBytes,
    ),
    maxBufferBytes,
    bindingAlignment: limits.minStorageBufferOffsetAlignment,
    workgroupBytes: limits.maxComputeWorkgroupStorageSize,
  };
}

/** Whether a program's products run on tensor cores. They multiply f16: only for programs that store f16 anyway. */
export const usesTensorCores = ({ family, half }: Profile): boolean => family === 'tensor' && half;

/** Whether subgroups of 32 multiply 16 x 16 x 16 matrices of f16 into f32, which the tensor family's kernels need. */
function hasTensorCores(info: GPUAdapterInfo, features: GPUSupportedFeatures): boolean {
  const { subgroupMatrixConfigs = [] } = info as { subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig> };
  return (
    (features as ReadonlySet<string>).has(subgroupMatrix) &&
    info.subgroupMinSize === 32 &&
    info.subgroupMaxSize === 32 &&
    [...subgroupMatrixConfigs].some(
      ({ componentType, resultComponentType, M, N, K }) =>
        componentType === 'f16' && resultComponentType === 'f32' && M === 16 && N === 16 && K === 16,
    )
  );
}

/** Dawn's name of a feature that the standard does not have yet. */
export const subgroupMatrix = 'chromium-experimental-subgroup-matrix';

interface SubgroupMatrixConfig {
  componentType: string;
  resultComponentType: string;
  M: number;
  N: number;
  K: number;
}
