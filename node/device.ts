import * as eager from '../src/autodiff/eager.js';
import type { Device, DeviceOptions } from '../src/gpu/device.js';
import { dawnAdapters } from './dawn.js';

/** `openDevice` with the adapters that Dawn finds on this machine. */
export const openDevice = (options: DeviceOptions = {}): Promise<Device> =>
  eager.openDevice({ source: dawnAdapters, ...options });
