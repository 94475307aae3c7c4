import { create, globals } from 'webgpu';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compile } from '../src/autodiff/compile.js';
import { openDevice } from '../node/device.js';
import { gradients } from '../src/autodiff/gradients.js';
import { Device } from '../src/gpu/device.js';
import { subgroupMatrix } from '../src/gpu/profile.js';
import { attention } from '../src/ops/attention.js';
import { conv2d } from '../src/ops/convolution.js';
import { matmul } from '../src/ops/matmul.js';
import { sum } from '../src/ops/broadcast.js';
import { silu } from '../src/ops/activations.js';
import { add, mul } from '../src/ops/pointwise.js';
import { tensor, type Tensor } from '../src/tensor/tensor.js';

const filled = (...shape: number[]) => tensor(new Float32Array(shape.reduce((a, b) => a * b)), shape);

/**
 * No adapter with tensor cores may be at hand: Dawn's null backend computes nothing, but checks types, bindings,
 * workgroup memory and uniformity of what a GPU would be given.
 */
describe('the tensor family on the null backend', () => {
  let device: Device;
  const errors: string[] = [];
  beforeAll(async () => {
    Object.assign(globalThis, globals);
    const gpu = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
    (globalThis as { semiflowNull?: GPU }).semiflowNull = gpu;
    const adapter = (await gpu.requestAdapter())!;
    const requiredFeatures = ['subgroups', 'shader-f16', subgroupMatrix] as GPUFeatureName[];
    device = new Device(
      await adapter.requestDevice({ requiredFeatures }),
      {
        vendor: 'null',
        architecture: '',
        description: 'null backend',
        software: false,
        family: 'tensor',
        subgroupSize: 32,
        f16: true,
        half: false,
        maxBindings: 8,
        maxBindingBytes: 2 ** 27,
        maxBufferBytes: 2 ** 28,
        bindingAlignment: 256,
        workgroupBytes: 2 ** 15,
      },
      'checked',
      (message) => errors.push(message),
    );
  });
  afterAll(() => device.dispose());

  const cases: Record<string, () => { y: Tensor; inputs: Tensor[] }> = {
    'matmul with epilogue': () => {
      const [a, b, bias] = [filled(70, 36), filled(36, 52), filled(52)];
      return { y: silu(add(matmul(a, b), bias)), inputs: [a, b, bias] };
    },
    'matmul, both transposed': () => {
      const [a, b] = [filled(33, 70), filled(52, 33)];
      return { y: matmul(a, b, { transposeA: true, transposeB: true }), inputs: [a, b] };
    },
    'batched matmul': () => {
      const [a, b] = [filled(3, 65, 8), filled(3, 8, 66)];
      return { y: matmul(a, b), inputs: [a, b] };
    },
    'sum of two products': () => {
      const [a, b, c, d] = [filled(70, 36), filled(36, 52), filled(70, 8), filled(8, 52)];
      return { y: add(matmul(a, b), matmul(c, d)), inputs: [a, b, c, d] };
    },
    attention: () => {
      const [q, k, v] = [filled(2, 36, 24), filled(2, 36, 24), filled(2, 36, 24)];
      return { y: attention(q, k, v, 3), inputs: [q, k, v] };
    },
    'strided convolution': () => {
      const [x, w] = [filled(2, 8, 8, 12), filled(3, 3, 12, 20)];
      return { y: conv2d(x, w, undefined, { stride: 2, padding: 1 }), inputs: [x, w] };
    },
  };

  it.each(Object.keys(cases))('%s, forward and backward, is a valid program', async (name) => {
    const { y, inputs } = cases[name]();
    const slopes = gradients(sum(mul(y, y)), inputs);
    const outputs = { y, ...Object.fromEntries(slopes.map((slope, i) => [`g${i}`, slope])) };
    const program = await compile(device, { outputs, half: true });
    const labels = program.dispatches.map(({ label }) => label);
    expect(labels.filter((label) => label === 'matmul-tensor').length).toBeGreaterThanOrEqual(3);
    expect(labels).not.toContain('matmul-tiled');
    program.run();
    await device.finished();
    expect(errors).toEqual([]);
  });

  it('multiplies in f32 where f16 was not asked for', async () => {
    const program = await compile(device, { outputs: { y: matmul(filled(8, 8), filled(8, 8)) } });
    expect(program.dispatches.map(({ label }) => label)).toContain('matmul-tiled');
  });
});

describe('the tensor family where it cannot run', () => {
  it('is refused in one line', async () => {
    const device = await openDevice();
    const lacking = !device.gpu.features.has(subgroupMatrix as GPUFeatureName);
    device.dispose();
    if (lacking) await expect(openDevice({ family: 'tensor' })).rejects.toThrow(/needs subgroup matrices/);
  });
});
