// Makes a folder of Stable Diffusion 1.5's size with random weights in half, as diffusers would save it: what real weights
// take in memory and time, without them. `npx tsx bench/stable-diffusion-folder.ts FOLDER [inpainting]`
import { Float16Array } from '@petamoriken/float16';
import { folderStore } from '../node/folder.js';
import { streamSafetensors, type StreamedTensor } from '../src/checkpoint/safetensors.js';
import { buildModel } from '../src/models/index.js';
import { random } from '../src/tensor/philox.js';
import { sizeOf } from '../src/tensor/shape.js';

const [place, kind] = process.argv.slice(2);
if (!place) throw new Error('usage: npx tsx bench/stable-diffusion-folder.ts FOLDER [inpainting]');

const config = {
  _class_name: 'UNet2DConditionModel',
  _diffusers_version: '0.6.0',
  act_fn: 'silu',
  attention_head_dim: 8,
  block_out_channels: [320, 640, 1280, 1280],
  cross_attention_dim: 768,
  in_channels: kind === 'inpainting' ? 9 : 4,
  out_channels: 4,
  sample_size: 64,
};
const scheduler = {
  _class_name: 'PNDMScheduler',
  _diffusers_version: '0.6.0',
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  num_train_timesteps: 1000,
  skip_prk_steps: true,
  steps_offset: 1,
};
const index = {
  _class_name: 'StableDiffusionPipeline',
  _diffusers_version: '0.6.0',
  unet: ['diffusers', 'UNet2DConditionModel'],
  scheduler: ['diffusers', 'PNDMScheduler'],
  vae: [null, null],
};

/** So many random numbers, which repeat in every tensor from another place: none is drawn 860 million times. */
const draw = random(1);
const unit = Float32Array.from({ length: 65521 }, () => 2 * draw.uniform() - 1);

/** Norms of one, and matrices that keep the variance of what goes through them. */
function tensorOf(name: string, shape: readonly number[], offset: number): StreamedTensor {
  const norm = /norm\w*\.weight$/.test(name);
  const spread = norm ? 0.05 : name.endsWith('.bias') ? 0.01 : Math.sqrt(3 / sizeOf(shape.slice(1)));
  const halves = new Uint16Array(new Float16Array(unit.map((value) => value * spread + Number(norm))).buffer);
  return {
    dtype: 'F16',
    shape,
    parts: async function* () {
      for (let left = sizeOf(shape), from = offset % halves.length; left > 0; from = 0) {
        const part = halves.subarray(from, Math.min(halves.length, from + left));
        left -= part.length;
        yield part;
      }
    },
  };
}

const { _class_name: _, _diffusers_version: __, ...sizes } = config;
const { parameters } = buildModel({ kind: 'unet-2d-condition', ...sizes });
const tensors = Object.fromEntries(parameters.map(({ name, shape }, i) => [name, tensorOf(name, shape, 7919 * i)]));
const store = folderStore(place);
const json = (value: object) => `${JSON.stringify(value, null, 2)}\n`;
await store.write('model_index.json', json(index));
await store.write('unet/config.json', json(config));
await store.write('scheduler/scheduler_config.json', json(scheduler));
await store.write('unet/diffusion_pytorch_model.fp16.safetensors', streamSafetensors(tensors));
console.log(`${place}: ${parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0)} random weights in half`);
