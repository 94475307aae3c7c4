import { UserError } from '../errors.js';

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
}

/** The page's own WebGPU, whose validation cannot be switched off and whose adapters have no names to choose by. */
export const browserAdapters: AdapterSource = {
  request: async () =>
    typeof navigator !== 'undefined' && navigator.gpu
      ? navigator.gpu.requestAdapter({ powerPreference: 'high-performance' })
      : null,
  names: async () => [],
};

/**
 * An adapter of a source.
 * @throws UserError when no adapter answers or none has the given name
 */
export async function requestAdapter(source: AdapterSource, toggles: Toggles, name?: string): Promise<GPUAdapter> {
  const adapter = await source.request(toggles, name);
  if (adapter) return adapter;
  const names = name ? await source.names() : [];
  throw new UserError(
    names.length
      ? `no WebGPU adapter is named like "${name}": there is ${names.map((other) => `"${other}"`).join(', ')}`
      : 'no WebGPU adapter found: install a Vulkan driver (Debian, Ubuntu: mesa-vulkan-drivers of Mesa 25 or later)',
  );
}
