import { UserError } from '../errors.js';

/** `checked` keeps every validation and bounds check; `fast` drops them for work with kernels that tests have checked. */
export type Toggles = 'fast' | 'checked';

const enabled: Record<Toggles, string[]> = {
  checked: ['allow_unsafe_apis', 'vulkan_enable_f16_on_nvidia'],
  fast: [
    'allow_unsafe_apis',
    'vulkan_enable_f16_on_nvidia',
    'disable_robustness',
    'disable_workgroup_init',
    'disable_polyfills_on_integer_div_and_mod',
    'skip_validation',
  ],
};
const disabled: Record<Toggles, string[]> = {
  checked: ['timestamp_quantization'],
  fast: ['lazy_clear_resource_on_first_use', 'timestamp_quantization'],
};

/**
 * The platform's WebGPU: the browser's own, or Dawn through the `webgpu` package.
 * @param name part of an adapter's name that Dawn should choose, e.g. `llvmpipe`
 */
async function webgpu(toggles: Toggles, name?: string): Promise<GPU> {
  if (typeof navigator !== 'undefined' && navigator.gpu) return navigator.gpu;
  const dawn = await import('webgpu');
  Object.assign(globalThis, dawn.globals);
  const flags = [
    `enable-dawn-features=${enabled[toggles].join(',')}`,
    `disable-dawn-features=${disabled[toggles].join(',')}`,
    ...(name ? [`adapter=${name}`] : []),
  ];
  const gpu = dawn.create(flags);
  // Dawn's binding frees the whole implementation with this object, so it must stay reachable while the process lives.
  const kept = globalThis as { semiflowGpus?: GPU[] };
  (kept.semiflowGpus ??= []).push(gpu);
  return gpu;
}

/**
 * The names of the adapters that Dawn can open, for `requestAdapter`; none in a browser. Dawn says them only when it is
 * asked for one that there is not.
 */
export async function adapterNames(): Promise<string[]> {
  if (typeof navigator !== 'undefined' && navigator.gpu) return [];
  const refusal = await (await webgpu('checked', 'no adapter is named so')).requestAdapter().then(
    () => '',
    (error: Error) => error.message,
  );
  return [...refusal.matchAll(/name: '(.*)'/g)].map(([, name]) => name);
}

/**
 * A hardware adapter where there is one, else a software one.
 * @throws UserError when no adapter answers or none has the given name
 */
export async function requestAdapter(toggles: Toggles, name?: string): Promise<GPUAdapter> {
  const gpu = await webgpu(toggles, name);
  // Dawn rejects where it finds none of that name, where the standard has null.
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null);
  if (adapter) return adapter;
  const names = name ? await adapterNames() : [];
  throw new UserError(
    names.length
      ? `no WebGPU adapter is named like "${name}": there is ${names.map((other) => `"${other}"`).join(', ')}`
      : 'no WebGPU adapter found: install a Vulkan driver (Debian, Ubuntu: mesa-vulkan-drivers of Mesa 25 or later)',
  );
}
