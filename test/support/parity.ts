import { expect } from 'vitest';
import { compile } from '../../src/autodiff/compile.js';
import { evaluate } from '../../src/autodiff/eager.js';
import { gradients } from '../../src/autodiff/gradients.js';
import { readSafetensors } from '../../node/files.js';
import type { SafetensorsFile } from '../../src/checkpoint/safetensors.js';
import type { Device } from '../../src/gpu/device.js';
import { TensorStorage } from '../../src/gpu/storage.js';
import { buildModel, type Architecture } from '../../src/models/index.js';
import type { Model } from '../../src/models/model.js';
import { ParameterLayout } from '../../src/nn/parameters.js';
import { sum } from '../../src/ops/broadcast.js';
import { permute } from '../../src/ops/movement.js';
import { mul } from '../../src/ops/pointwise.js';
import { fileWeights } from '../../src/flow/network.js';
import { tensor, type Tensor } from '../../src/tensor/tensor.js';

export async function bindFile(model: Model, path: string) {
  const layout = new ParameterLayout(model.parameters);
  const arena = await layout.collect(await fileWeights(await readSafetensors(path), layout));
  return { layout, parameters: layout.bind(new TensorStorage('weights', 'f32', layout.length, arena)) };
}

/** max |a - b| over max |b|. */
export function relative(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [difference, scale] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    difference = Math.max(difference, Math.abs(a[i] - b[i]));
    scale = Math.max(scale, Math.abs(b[i]));
  }
  expect(a.length).toBe(b.length);
  return scale ? difference / scale : difference;
}

export async function load(io: SafetensorsFile, name: string): Promise<Tensor> {
  return tensor(await io.readF32(name), [...io.tensors.get(name)!.shape]);
}
export const labelsOf = (values: Float32Array, none: number) =>
  tensor(Uint32Array.from(values, (y) => (y < 0 ? none : y)));

/** A tensor in the order of axes that files have. */
export const inFileOrder = (x: Tensor, order?: readonly number[]) =>
  order
    ? permute(
        x,
        order.map((_, axis) => order.indexOf(axis)),
      )
    : x;

/** A model with recorded weights against PyTorch's outputs and gradients. */
export async function parity(
  folder: string,
  architecture: Architecture,
  device: Device,
  checkpointBlocks = false,
): Promise<void> {
  const model = buildModel(architecture, { checkpointBlocks });
  const { layout, parameters } = await bindFile(model, `${folder}/weights.safetensors`);
  const io = await readSafetensors(`${folder}/io.safetensors`);
  const [x, time, g] = [await load(io, 'x'), await load(io, 't'), await load(io, 'cotangent')];
  const labels = model.classes ? labelsOf(await io.readF32('y'), model.classes) : undefined;
  const out = model.apply(parameters, { x, time, labels });
  const trained = layout.parameters.filter(({ frozen }) => !frozen);
  const slopes = gradients(sum(mul(out, g)), [x, ...trained.map((p) => parameters(p.name))]);
  const orders = [undefined, ...trained.map(({ order }) => order)];
  const names = ['grad.x', ...trained.map((p) => `grad.param.${p.name}`)];
  const results: Record<string, ArrayLike<number>> = await evaluate(device, {
    out,
    ...Object.fromEntries(names.map((key, i) => [key, inFileOrder(slopes[i], orders[i])])),
  });
  expect(relative(results.out, await io.readF32('out'))).toBeLessThan(2e-5);
  const recorded = [...io.tensors.keys()].filter((key) => key.startsWith('grad.'));
  expect(new Set(names)).toEqual(new Set(recorded));
  const references = await Promise.all(names.map((key) => io.readF32(key)));
  const magnitude = (values: ArrayLike<number>) =>
    Array.from(values).reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  // A bias before a norm of one channel has gradient 0: what either side finds there is rounding, and must be tiny.
  const nothing = 1e-6 * Math.max(...references.map(magnitude));
  names.forEach((key, i) => {
    if (magnitude(references[i]) < nothing) expect(magnitude(results[key]), key).toBeLessThan(nothing);
    else expect(relative(results[key], references[i]), key).toBeLessThan(1e-4);
  });
}

/** Weights and activations in half: the output within 2e-2. */
export async function halfParity(folder: string, architecture: Architecture, device: Device): Promise<void> {
  const model = buildModel(architecture);
  const layout = new ParameterLayout(model.parameters);
  const path = `${folder}/weights.safetensors`;
  const arena = await layout.collect(await fileWeights(await readSafetensors(path), layout));
  const parameters = layout.bind(new TensorStorage('weights', 'f16', layout.length, arena));
  const io = await readSafetensors(`${folder}/io.safetensors`);
  const [x, time] = [await load(io, 'x'), await load(io, 't')];
  const labels = model.classes ? labelsOf(await io.readF32('y'), model.classes) : undefined;
  const program = await compile(device, {
    outputs: { out: model.apply(parameters, { x, time, labels }) },
    half: true,
  });
  program.run();
  const error = relative(await program.read('out'), await io.readF32('out'));
  program.dispose();
  expect(error).toBeLessThan(2e-2);
  expect(error).toBeGreaterThan(1e-5);
}
