import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { plan, type Block } from '../src/autodiff/plan.js';
import { compile } from '../src/autodiff/compile.js';
import { evaluate } from '../src/autodiff/eager.js';
import { openDevice } from '../node/device.js';
import { gradients } from '../src/autodiff/gradients.js';
import { Device } from '../src/gpu/device.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { sum } from '../src/ops/broadcast.js';
import { matmul } from '../src/ops/matmul.js';
import { gather } from '../src/ops/movement.js';
import { layerNorm, softmax } from '../src/ops/normalization.js';
import { assign } from '../src/ops/optimizer.js';
import { silu } from '../src/ops/activations.js';
import { add, mul, toFloat } from '../src/ops/pointwise.js';
import { random } from '../src/tensor/philox.js';
import { fromStorage, tensor, type Tensor } from '../src/tensor/tensor.js';
import { relativeError } from './support/compare.js';
import { interpret } from './support/interpreter.js';

const draw = random(7);
const numbers = (count: number) => Float32Array.from({ length: count }, () => 2 * draw.uniform() - 1);

describe('the memory plan', () => {
  it.each([1, 2, 3, 4, 5])('never lets two living blocks overlap, and wastes little: set %i', (seed) => {
    const { below } = random(seed);
    const blocks: Block[] = Array.from({ length: 200 }, () => {
      const first = below(100);
      return { bytes: 1 + below(5000), first, last: first + below(20), offset: -1 };
    });
    const { bytes, lowerBound } = plan(blocks, 32);
    for (const a of blocks) {
      expect(a.offset % 32).toBe(0);
      expect(a.offset).toBeGreaterThanOrEqual(0);
      expect(a.offset + a.bytes).toBeLessThanOrEqual(bytes);
      for (const b of blocks) {
        if (a === b || a.last < b.first || b.last < a.first) continue;
        expect(a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset).toBe(true);
      }
    }
    expect(bytes).toBeGreaterThanOrEqual(lowerBound);
    expect(bytes).toBeLessThan(1.3 * lowerBound);
  });
});

describe('programs in memory', () => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice({ toggles: 'checked' });
  });
  afterAll(() => device.dispose());

  /** Two layers with normalisation, softmax and gradients: much that lives for different times. */
  function network(): Record<string, Tensor> {
    const [x, w1, w2] = [
      tensor(numbers(15 * 12), [15, 12]),
      tensor(numbers(12 * 20), [12, 20]),
      tensor(numbers(20 * 9), [20, 9]),
    ];
    const y = softmax(matmul(layerNorm(silu(matmul(x, w1))), w2));
    const [g1, g2] = gradients(sum(mul(y, tensor(numbers(y.size), y.shape))), [w1, w2]);
    return { y, g1, g2 };
  }

  it('reads nothing that this run has not written', async () => {
    const outputs = network();
    const arenas: GPUBuffer[] = [];
    const spy = Object.create(device, {
      createBuffer: {
        value: (...args: Parameters<Device['createBuffer']>) =>
          arenas.push(device.createBuffer(...args)) && arenas.at(-1)!,
      },
    }) as Device;
    const program = await compile(spy, { outputs });
    const arena = arenas.find(({ label }) => label === 'the memory of a program')!;
    device.gpu.queue.writeBuffer(arena, 0, new Float32Array(arena.size / 4).fill(NaN));
    program.run();
    const expected = interpret(Object.values(outputs));
    for (const [i, name] of Object.keys(outputs).entries()) {
      expect(relativeError(await program.read(name), expected[i])).toBeLessThan(1e-5);
    }
    program.dispose();
  });

  it('replays to the same bits', async () => {
    const program = await compile(device, { outputs: network() });
    const seen: string[] = [];
    for (let run = 0; run < 3; run++) {
      program.run();
      seen.push(Buffer.from((await program.read('g1')).buffer).toString('hex'));
    }
    expect(new Set(seen).size).toBe(1);
    program.dispose();
  });

  it('says what the plan takes before anything is allocated', async () => {
    const plans: { bytes: number; lowerBound: number; kernels: number }[] = [];
    const program = await compile(device, { outputs: network(), onPlan: (memory) => plans.push(memory) });
    expect(plans).toHaveLength(1);
    expect(plans[0].kernels).toBe(program.dispatches.length);
    expect(plans[0].bytes).toBeGreaterThanOrEqual(plans[0].lowerBound);
    program.dispose();
  });

  it('keeps what is assigned between runs, and reads it before it is overwritten', async () => {
    const state = new TensorStorage('state', 'f32', 7, Float32Array.from([1, 2, 3, 4, 5, 6, 7]));
    const value = fromStorage(state);
    const program = await compile(device, {
      outputs: { before: sum(value) },
      effects: [assign(state, add(mul(value, 2), 1))],
    });
    program.run();
    program.run();
    expect(Array.from(await device.read(state))).toEqual([7, 11, 15, 19, 23, 27, 31]);
    expect((await program.read('before'))[0]).toBe(2 * 28 + 7);
    program.dispose();
  });

  it('reads bytes of a resident data set as they are', async () => {
    const bytes = Uint8Array.from({ length: 77 }, (_, i) => (i * 37) % 256);
    const images = fromStorage(new TensorStorage('images', 'u8', 77, bytes), [11, 7]);
    const rows = [10, 0, 3, 3];
    const { pixels } = await evaluate(device, { pixels: toFloat(gather(images, tensor(Uint32Array.from(rows)))) });
    expect(Array.from(pixels)).toEqual(rows.flatMap((row) => Array.from(bytes.subarray(row * 7, row * 7 + 7))));
  });

  it('runs more workgroups than one dimension of a dispatch holds', async () => {
    const count = 70_001;
    const x = tensor(numbers(count * 4), [count, 1, 4]);
    const w = tensor(numbers(count * 16), [count, 4, 4]);
    const { y } = await evaluate(device, { y: matmul(x, w) });
    const [expected] = interpret([matmul(x, w)]);
    expect(relativeError(y, expected)).toBeLessThan(1e-6);
    const tiled = await openDevice({ toggles: 'checked', family: 'tiled' });
    const rows = tensor(numbers(count * 3), [count, 3]);
    const { p } = await evaluate(tiled, { p: softmax(rows) });
    expect(relativeError(p, interpret([softmax(rows)])[0])).toBeLessThan(1e-6);
    tiled.dispose();
  });
});

describe('a device that fails', () => {
  it('says so once, and what reads from it throws', async () => {
    const messages: string[] = [];
    const device = await openDevice({ toggles: 'checked', onFailure: (message) => messages.push(message) });
    device.gpu.createBuffer({ size: 16, usage: 0xffff });
    await expect(device.finished()).rejects.toThrow(/GPU: /);
    expect(messages).toHaveLength(1);
    device.dispose();
  });

  it('reports a loss that was not asked for', async () => {
    const messages: string[] = [];
    const device = await openDevice({ toggles: 'checked', onFailure: (message) => messages.push(message) });
    device.gpu.destroy();
    await device.gpu.lost;
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(messages.join()).toMatch(/device was lost/);
  });
});

describe('a device opened with less than its adapter has', () => {
  it('has exactly those limits, and kernels count their bindings by them', async () => {
    const limits = {
      maxBufferSize: 256 * 2 ** 20,
      maxStorageBufferBindingSize: 128 * 2 ** 20,
      maxStorageBuffersPerShaderStage: 8,
    };
    const device = await openDevice({ toggles: 'checked', limits });
    expect(device.limits).toMatchObject(limits);
    expect(device.profile.maxBindings).toBe(8);
    expect(device.profile.maxBindingBytes).toBe(128 * 2 ** 20);
    device.dispose();
  });
});
