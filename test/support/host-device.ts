import type * as Compile from '../../src/autodiff/compile.js';
import type { Device } from '../../src/gpu/device.js';
import type { HostArray, TensorStorage } from '../../src/gpu/storage.js';
import type { Tensor } from '../../src/tensor/tensor.js';
import { interpret } from './interpreter.js';
import { openNullDevice } from './null-device.js';
import { changes } from './random-graph.js';

/** What the storages of a device that computes on the host hold. */
const held = new WeakMap<Device, Map<TensorStorage, Float64Array>>();

/**
 * A device whose programs are computed on the host in float64, where `compile` is `hostCompile`: nothing is compiled, so small
 * networks take no time.
 */
export async function openHostDevice(): Promise<Device> {
  const device = await openNullDevice({ toggles: 'fast' });
  const storages = new Map<TensorStorage, Float64Array>();
  held.set(device, storages);
  const valuesOf = (storage: TensorStorage) => {
    const known = storages.get(storage) ?? Float64Array.from(storage.initial ?? new Float64Array(storage.length));
    storages.set(storage, known);
    return known;
  };
  const typed = ({ dtype }: TensorStorage, values: Float64Array): HostArray =>
    dtype === 'u32' ? Uint32Array.from(values) : Float32Array.from(values);
  return Object.assign(device, {
    write: (storage: TensorStorage, values: HostArray, offset = 0) => valuesOf(storage).set(values, offset),
    read: (storage: TensorStorage) => Promise.resolve(typed(storage, valuesOf(storage))),
  });
}

/** In place of `compile`, for such a device: a program that interprets its graph. */
export async function hostCompile(
  device: Device,
  { outputs = {}, effects = [] }: Pick<Compile.CompileOptions, 'outputs' | 'effects'>,
) {
  const storages = held.get(device)!;
  for (const { storage } of storagesOf([...Object.values(outputs), ...effects])) {
    if (storages.has(storage)) continue;
    const values = Float64Array.from(storage.initial ?? new Float64Array(storage.length));
    await storage.filler?.((part, offset) => Promise.resolve(values.set(part, offset)));
    storages.set(storage, values);
  }
  const read = new Map<string, HostArray>();
  return {
    memory: { bytes: 0, lowerBound: 0 },
    run: () => {
      const names = Object.keys(outputs);
      const inputs = effects.flatMap((effect) => effect.inputs);
      const done = new Map<Tensor, Float64Array>();
      const results = interpret([...Object.values(outputs), ...inputs], storages, done);
      names.forEach((name, i) =>
        read.set(name, outputs[name].dtype === 'u32' ? Uint32Array.from(results[i]) : Float32Array.from(results[i])),
      );
      for (const effect of effects)
        for (const [storage, values] of changes(
          effect,
          effect.inputs.map((input) => done.get(input)!),
          (storage) => storages.get(storage)!,
        ))
          // In f32, as a device holds it.
          storages.set(storage, Float64Array.from(values, Math.fround));
    },
    read: (name: string) => Promise.resolve(read.get(name)!),
    dispose: () => {},
  };
}

/** The storages that graphs read. */
function storagesOf(outputs: readonly Tensor[]): Tensor<'storage'>['attributes'][] {
  const seen = new Set<Tensor>();
  const found: Tensor<'storage'>['attributes'][] = [];
  const stack = [...outputs];
  for (let node = stack.pop(); node; node = stack.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    if (node.op === 'storage') found.push((node as Tensor<'storage'>).attributes);
    stack.push(...node.inputs);
  }
  return found;
}
