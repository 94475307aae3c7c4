import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter } from 'node:path';
import { SemiflowError } from '../src/errors.js';
import type { AdapterSource, Toggles } from '../src/gpu/adapter.js';
import { quietly } from './quiet.js';

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

/** The flags that `create` of the `webgpu` package takes for a set of toggles. */
export const dawnFlags = (toggles: Toggles): string[] => [
  `enable-dawn-features=${enabled[toggles].join(',')}`,
  `disable-dawn-features=${disabled[toggles].join(',')}`,
];

/** Dawn frees the whole implementation with the object that `create` returns, so it must stay reachable. */
const kept = new Map<string, GPU>();

/** The `webgpu` package. @throws SemiflowError where it does not run here */
export async function loadDawn(): Promise<typeof import('webgpu')> {
  try {
    // Loaded when a device is wanted: what only reads files needs no driver.
    const loaded = await import('webgpu');
    Object.assign(globalThis, loaded.globals);
    return loaded;
  } catch (error) {
    const why = (error as Error).message.split('\n')[0];
    throw new SemiflowError('device', `the webgpu package does not load: ${why}: install it anew (npm install webgpu)`);
  }
}

/** Dawn. @param name part of an adapter's name that it should choose, e.g. `llvmpipe` */
async function dawn(toggles: Toggles, name?: string): Promise<GPU> {
  const { create } = await loadDawn();
  const key = `${toggles} ${name ?? ''}`;
  const gpu = kept.get(key) ?? create([...dawnFlags(toggles), ...(name ? [`adapter=${name}`] : [])]);
  kept.set(key, gpu);
  return gpu;
}

/** Dawn without a driver: it computes nothing, and knows every feature, for plans of what other machines would do. */
export const nullAdapters: AdapterSource = {
  request: async () => {
    const { create } = await loadDawn();
    const gpu = kept.get('null') ?? create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
    kept.set('null', gpu);
    return quietly(() => gpu.requestAdapter());
  },
  names: async () => [],
  mend: 'install the webgpu package',
};

/** The Vulkan loader silently finds nothing where these name no file. */
function requireDrivers(): void {
  for (const variable of ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES']) {
    const files = process.env[variable]?.split(delimiter).filter(Boolean) ?? [];
    if (files.length && !files.some(existsSync))
      throw new SemiflowError('device', `${variable}=${process.env[variable]} names no Vulkan driver: unset it`);
  }
}

/** What is waited for now, and since when. */
let waits = 0;
let since = 0;
let napping = false;
const clock = new Int32Array(new SharedArrayBuffer(4));

/**
 * While a result is awaited, Dawn's binding asks for it in every turn of the event loop, without a pause, which takes a
 * processor from a driver that computes on them. So each turn sleeps, for an eighth of what was waited so far and 1 ms at most:
 * nobody waits longer than that for what is done.
 */
function nap(): void {
  napping = waits > 0;
  if (!napping) return;
  Atomics.wait(clock, 0, 0, Math.min(1, (performance.now() - since) / 8));
  setImmediate(nap);
}

async function wait<T>(result: Promise<T>): Promise<T> {
  if (!waits++) since = performance.now();
  if (!napping) nap();
  try {
    return await result;
  } finally {
    waits--;
  }
}

/** Devices beside the one that computes; each has a compiler's memory. */
const mostHelpers = 3;

/** The adapters that Dawn finds through the drivers of this machine. */
export const dawnAdapters: AdapterSource = {
  // Dawn rejects where it finds none of that name, where the standard has null.
  request: async (toggles, name) => {
    requireDrivers();
    const gpu = await dawn(toggles, name);
    return quietly(() => gpu.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null));
  },
  // Dawn says the names only when it is asked for one that there is not.
  names: async () => {
    const gpu = await dawn('checked', 'no adapter is named so');
    const refusal = await quietly(() =>
      gpu.requestAdapter().then(
        () => '',
        (error: Error) => error.message,
      ),
    );
    return [...refusal.matchAll(/name: '(.*)'/g)].map(([, name]) => name);
  },
  mend: 'install a Vulkan driver (Debian, Ubuntu: mesa-vulkan-drivers of Mesa 25 or later)',
  wait,
  helpers: Math.min(mostHelpers, availableParallelism() - 1),
};
