import { SemiflowError, UserError } from '../errors.js';

declare global {
  // What public signatures name of WebGPU. TypeScript knows it from 6 on, and before by @webgpu/types, with either of which
  // these merge; where neither is, a project that installed the package compiles all the same.
  interface GPUAdapter {}
  interface GPUBindGroup {}
  interface GPUBuffer {}
  interface GPUComputePipeline {}
  interface GPUDevice {}
  interface GPUSupportedLimits {}
}

/** `checked` keeps every validation and bounds check; `fast` drops them for work with kernels that tests have checked. */
export type Toggles = 'fast' | 'checked';

/** Where adapters come from: Dawn in Node (`node/dawn.ts`), the browser itself in a page. */
export interface AdapterSource {
  /**
   * A hardware adapter where there is one, else a software one; null where there is none.
   * @param name part of the wanted adapter's name
   */
  request(toggles: Toggles, name?: string): Promise<GPUAdapter | null>;
  /** The names that `request` can be given; empty where they are not known. */
  names(): Promise<string[]>;
  /** What to do where there is no adapter at all. */
  readonly mend: string;
  /**
   * Waits for what a device computes on the processors of this machine, and leaves them to it meanwhile. Absent where
   * waiting takes nothing anyway.
   */
  wait?<T>(result: Promise<T>): Promise<T>;
  /** How many devices of a software adapter may compile kernels for another at once; default none. */
  readonly helpers?: number;
}

/** The page's own WebGPU, whose validation cannot be switched off and whose adapters have no names to choose by. */
export const browserAdapters: AdapterSource = {
  request: async () =>
    typeof navigator !== 'undefined' && navigator.gpu
      ? navigator.gpu.requestAdapter({ powerPreference: 'high-performance' })
      : null,
  names: async () => [],
  mend: 'take a browser with WebGPU, such as a recent Chrome, Edge, Safari or Firefox, and a page from https or localhost',
};

/**
 * An adapter of a source.
 * @throws SemiflowError when no adapter answers, UserError when others do but none has the given name
 */
export async function requestAdapter(source: AdapterSource, toggles: Toggles, name?: string): Promise<GPUAdapter> {
  const adapter = await source.request(toggles, name);
  if (adapter) return adapter;
  const names = name ? await source.names() : [];
  if (names.length) {
    const there = names.map((other) => `"${other}"`).join(', ');
    throw new UserError(`no WebGPU adapter is named like "${name}": there is ${there}`, 'adapter');
  }
  throw new SemiflowError('device', `no WebGPU adapter found: ${source.mend}`);
}
