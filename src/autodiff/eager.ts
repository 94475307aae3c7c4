import type { Device } from '../gpu/device.js';
import { Tensor } from '../tensor/tensor.js';
import { compile } from './compile.js';

/** Elements of a tensor: Float32Array of f32, Uint32Array of u32. */
export type Values = Float32Array | Uint32Array;

/**
 * The values of a tensor, or of several by name, computed on a device: compiled, run once, read back and given back, for
 * exploration and tests. What runs often is compiled once instead.
 */
export async function evaluate(device: Device, tensor: Tensor): Promise<Values>;
export async function evaluate<K extends string>(
  device: Device,
  outputs: Record<K, Tensor>,
): Promise<Record<K, Values>>;
export async function evaluate(device: Device, wanted: Tensor | Record<string, Tensor>) {
  const outputs = wanted instanceof Tensor ? { tensor: wanted } : wanted;
  const program = await compile(device, { outputs });
  try {
    program.run();
    const names = Object.keys(outputs);
    const values = await Promise.all(names.map((name) => program.read(name)));
    const results = Object.fromEntries(names.map((name, i) => [name, values[i]]));
    return wanted instanceof Tensor ? results.tensor : results;
  } finally {
    program.dispose();
  }
}
