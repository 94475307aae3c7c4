import * as gpu from '../src/gpu/device.js';
import { dawnAdapters } from './dawn.js';

/** `openDevice` with the adapters that Dawn finds on this machine. */
export const openDevice = (options: gpu.DeviceOptions = {}): Promise<gpu.Device> =>
  gpu.openDevice({ source: dawnAdapters, ...options });
