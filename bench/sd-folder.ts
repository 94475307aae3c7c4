// `node --import tsx bench/sd-folder.ts FOLDER` makes a folder as diffusers saves one, with a U-Net of the size of Stable
// Diffusion 1.5 and random weights in half: for what large networks take of time and memory.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeSafetensors } from '../node/files.js';
import type { StreamedTensor } from '../src/checkpoint/safetensors.js';
import { buildModel } from '../src/models/index.js';
import { sizeOf } from '../src/tensor/shape.js';

const folder = process.argv[2];
if (!folder) throw new Error('sd-folder FOLDER');
const unet = {
  sample_size: 64,
  in_channels: 4,
  out_channels: 4,
  block_out_channels: [320, 640, 1280, 1280],
  layers_per_block: 2,
  cross_attention_dim: 768,
  attention_head_dim: 8,
};
const scheduler = {
  _class_name: 'PNDMScheduler',
  beta_schedule: 'scaled_linear',
  beta_start: 0.00085,
  beta_end: 0.012,
  num_train_timesteps: 1000,
  prediction_type: 'epsilon',
};
const model = buildModel({ kind: 'unet-2d-condition', ...unet } as never);

/** Random halves of a spread that keeps activations near 1: the same sixteen patterns of bits over and over are enough. */
const random = (shape: readonly number[]): StreamedTensor => ({
  dtype: 'F16',
  shape,
  parts: async function* () {
    const [inputs, size] = [sizeOf(shape.slice(1)), sizeOf(shape)];
    const exponent = Math.max(1, 15 - Math.ceil(Math.log2(Math.max(2, inputs)) / 2));
    let state = 2463534242 ^ size;
    yield Uint16Array.from({ length: size }, () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      // A norm's scale and all biases have one axis: small numbers of either sign do.
      return ((state & 1) << 15) | ((exponent - ((state >>> 1) & 1)) << 10) | ((state >>> 2) & 1023);
    });
  },
});
await mkdir(join(folder, 'unet'), { recursive: true });
await mkdir(join(folder, 'scheduler'), { recursive: true });
await writeFile(
  join(folder, 'model_index.json'),
  JSON.stringify({
    _class_name: 'StableDiffusionPipeline',
    unet: ['diffusers', 'UNet2DConditionModel'],
    scheduler: ['diffusers', scheduler._class_name],
  }),
);
await writeFile(join(folder, 'scheduler/scheduler_config.json'), JSON.stringify(scheduler));
await writeFile(join(folder, 'unet/config.json'), JSON.stringify({ _class_name: 'UNet2DConditionModel', ...unet }));
const tensors = Object.fromEntries(model.parameters.map(({ name, shape }) => [name, random(shape)]));
await writeSafetensors(join(folder, 'unet/diffusion_pytorch_model.fp16.safetensors'), tensors);
const count = model.parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
console.log(`${folder}: ${(count / 1e6).toFixed(1)} million weights`);
