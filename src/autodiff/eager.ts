import { requestDevice, type Device, type DeviceOptions } from '../gpu/device.js';
import { Tensor } from '../tensor/tensor.js';
import { compile } from './compile.js';

/** Opens a device and makes it the one on which `tensor.data()` evaluates. */
export async function openDevice(options: DeviceOptions = {}): Promise<Device> {
  const device = await requestDevice(options);
  Tensor.evaluator = async (tensor) => (await evaluate(device, { tensor })).tensor as Float32Array | Uint32Array;
  return device;
}

/** Compiles, runs once and reads back: for exploration and tests; what runs often is compiled once instead. */
export async function evaluate<K extends string>(device: Device, outputs: Record<K, Tensor>) {
  const program = await compile(device, { outputs });
  program.run();
  const results = {} as Record<K, Float32Array | Uint32Array>;
  for (const name of Object.keys(outputs) as K[])
    results[name] = (await program.read(name)) as Float32Array | Uint32Array;
  program.destroy();
  return results;
}
