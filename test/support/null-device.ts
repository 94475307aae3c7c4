import { create, globals } from 'webgpu';
import { openDevice, type Device, type DeviceOptions } from '../../src/gpu/device.js';

/** Dawn frees the implementation with this object. */
const kept: GPU[] = [];

/**
 * A device of Dawn's null backend: it computes nothing, but checks types, bindings, workgroup memory and uniformity of
 * what a GPU would be given.
 */
export function openNullDevice(options: Omit<DeviceOptions, 'source'>): Promise<Device> {
  Object.assign(globalThis, globals);
  const gpu = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
  kept.push(gpu);
  return openDevice({
    ...options,
    source: { request: () => gpu.requestAdapter(), names: async () => [], mend: 'Dawn has a null backend' },
  });
}
