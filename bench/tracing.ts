// What a default step of distillation is made of, without an adapter: passes of networks, dispatches, kernels to compile and
// seconds of tracing, for a transformer and a UNet: `npm run bench -- --tracing`.
import { create, globals } from 'webgpu';
import { Device } from '../src/gpu/device.js';
import type { Profile } from '../src/gpu/profile.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork } from '../src/flow/network.js';
import type { Architecture } from '../src/models/index.js';
import { textTable } from '../src/report/table.js';
import { sizeOf } from '../src/tensor/shape.js';
import { distillationDefaults } from '../trainers/config.js';
import { distil } from '../trainers/runs.js';
import { unet } from './architectures.js';

const sit: Architecture = {
  kind: 'sit',
  inputSize: 32,
  patchSize: 4,
  inChannels: 3,
  hiddenSize: 192,
  depth: 12,
  numHeads: 3,
  mlpRatio: 4,
  numClasses: 0,
  learnSigma: false,
};

/** As software Vulkan is. */
const profile: Profile = {
  vendor: 'none',
  architecture: '',
  description: 'Dawn without an adapter',
  // Its kernels are run once when they are compiled; these cannot be.
  software: false,
  family: 'plain',
  subgroupSize: 8,
  f16: true,
  half: false,
  maxBindings: 10,
  maxBindingBytes: 2 ** 27,
  maxBufferBytes: 2 ** 28,
  bindingAlignment: 256,
  workgroupBytes: 2 ** 15,
};
Object.assign(globalThis, globals);
const gpu = create(['backend=null']);
Object.assign(globalThis, { semiflowNull: gpu });

/** Kernels by name and by text, as far as asked for: nothing is compiled, so that all that takes time is ours. */
async function countingDevice() {
  const device = await (await gpu.requestAdapter())!.requestDevice();
  const [kernels, dispatches] = [new Map<string, number>(), new Map<string, number>()];
  const count = (counts: Map<string, number>, name: string) => counts.set(name, (counts.get(name) ?? 0) + 1);
  Object.assign(device, {
    createShaderModule: ({ label }: GPUShaderModuleDescriptor) => ({ label }),
    createComputePipelineAsync: async ({ label }: GPUComputePipelineDescriptor) => {
      count(kernels, label!);
      return { getBindGroupLayout: () => label };
    },
    createBindGroup: ({ layout }: { layout: unknown }) => {
      count(dispatches, layout as string);
      return {};
    },
  });
  return { device: new Device(device, profile, 'fast'), kernels, dispatches };
}

const total = (counts: ReadonlyMap<string, number>, name = /./) =>
  [...counts].reduce((sum, [label, count]) => sum + (name.test(label) ? count : 0), 0);
const rows: (string | number)[][] = [];
for (const [name, architecture, attentions] of [
  ['SiT 192 × 12, 32×32 patch 4', sit, 12],
  // One in the encoder, one in the middle, two in the decoder.
  ['ADM UNet, 64 channels', unet, 4],
] as const) {
  const { device, kernels, dispatches } = await countingDevice();
  // Weights of zeros: drawing them is no part of tracing.
  const drawn = createNetwork(parseDescription({ architecture, prediction: 'velocity' }, name), 0);
  const sizes = new Map(drawn.layout.parameters.map((parameter) => [parameter.name, sizeOf(parameter.shape)]));
  const weights = { dtype: 'f32' as const, read: async (key: string) => new Float32Array(sizes.get(key)!) };
  const teacher = { ...drawn, weights };
  const count = 64;
  const shape = teacher.model.sampleShape;
  const data = { name: 'data', shape, count, values: new Float32Array(count * 3072), range: [0, 1] as const };
  const recipe = { ...distillationDefaults(shape, 'velocity'), batch: 5 };
  const start = process.cpuUsage();
  const training = await distil({ device, teacher, data }, recipe);
  const { user, system } = process.cpuUsage(start);
  const passes = total(dispatches, /^attention(-subgroup)?$/) / attentions;
  rows.push([name, passes, total(dispatches), total(dispatches, /^matmul/), total(kernels), (user + system) / 1e6]);
  const kinds = [...kernels].sort((a, b) => b[1] - a[1]).map(([kernel, texts]) => `${kernel} ${texts}`);
  console.log(`${name}: kernels to compile: ${kinds.join(', ')}`);
  training.dispose();
}
const columns = ['batch of 5', 'passes', 'dispatches', 'of them matmul', 'kernels', 'tracing, s of a processor'];
console.log(`\n${textTable({ columns, rows })}`);
process.exit(0);
