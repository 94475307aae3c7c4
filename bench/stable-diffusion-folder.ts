// Makes a folder of Stable Diffusion 1.5's size with random weights in half, as diffusers would save it: a whole pipeline,
// whose tokenizer knows bytes and merges none. What real weights take in memory and time, without them.
// `npx tsx bench/stable-diffusion-folder.ts FOLDER [inpainting]`
import { Float16Array } from '@petamoriken/float16';
import { folderStore } from '../node/folder.js';
import { streamSafetensors, type StreamedTensor } from '../src/checkpoint/safetensors.js';
import { autoencoderKl } from '../src/models/diffusers/autoencoder-kl.js';
import { clipText } from '../src/models/diffusers/clip-text.js';
import { buildModel } from '../src/models/index.js';
import type { Parameter } from '../src/nn/parameters.js';
import { random } from '../src/tensor/philox.js';
import { sizeOf } from '../src/tensor/shape.js';

const [place, kind] = process.argv.slice(2);
if (!place) throw new Error('usage: npx tsx bench/stable-diffusion-folder.ts FOLDER [inpainting]');

const unet = {
  act_fn: 'silu',
  attention_head_dim: 8,
  block_out_channels: [320, 640, 1280, 1280],
  cross_attention_dim: 768,
  in_channels: kind === 'inpainting' ? 9 : 4,
  out_channels: 4,
  sample_size: 64,
};
const widths = [128, 256, 512, 512];
const vae = {
  block_out_channels: widths,
  down_block_types: widths.map(() => 'DownEncoderBlock2D'),
  up_block_types: widths.map(() => 'UpDecoderBlock2D'),
  layers_per_block: 2,
  sample_size: 512,
};
const text = {
  vocab_size: 49408,
  hidden_size: 768,
  intermediate_size: 3072,
  num_hidden_layers: 12,
  num_attention_heads: 12,
  max_position_embeddings: 77,
  eos_token_id: 2,
};
const scheduler = {
  _class_name: 'PNDMScheduler',
  _diffusers_version: '0.6.0',
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  num_train_timesteps: 1000,
  set_alpha_to_one: false,
  skip_prk_steps: true,
  steps_offset: 1,
};
const index = {
  _class_name: kind === 'inpainting' ? 'StableDiffusionInpaintPipeline' : 'StableDiffusionPipeline',
  _diffusers_version: '0.6.0',
  scheduler: ['diffusers', 'PNDMScheduler'],
  text_encoder: ['transformers', 'CLIPTextModel'],
  tokenizer: ['transformers', 'CLIPTokenizer'],
  unet: ['diffusers', 'UNet2DConditionModel'],
  vae: ['diffusers', 'AutoencoderKL'],
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

const store = folderStore(place);
const json = (value: object) => `${JSON.stringify(value, null, 2)}\n`;
const tensorsOf = (parameters: readonly Parameter[]) =>
  streamSafetensors(
    Object.fromEntries(parameters.map(({ name, shape }, i) => [name, tensorOf(name, shape, 7919 * i)])),
  );
async function component(name: string, config: object, parameters: readonly Parameter[], file: string): Promise<void> {
  await store.write(`${name}/config.json`, json(config));
  await store.write(`${name}/${file}.fp16.safetensors`, tensorsOf(parameters));
  console.log(
    `${place}/${name}: ${parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0)} random weights in half`,
  );
}

await store.write('model_index.json', json(index));
await store.write('scheduler/scheduler_config.json', json(scheduler));
await component(
  'unet',
  { _class_name: 'UNet2DConditionModel', _diffusers_version: '0.6.0', ...unet },
  buildModel({ kind: 'unet-2d-condition', ...unet }).parameters,
  'diffusion_pytorch_model',
);
await component(
  'vae',
  { _class_name: 'AutoencoderKL', _diffusers_version: '0.6.0', ...vae },
  autoencoderKl.build(autoencoderKl.schema.parse(vae)).parameters,
  'diffusion_pytorch_model',
);
await component(
  'text_encoder',
  { architectures: ['CLIPTextModel'], ...text },
  clipText.build(clipText.schema.parse(text)).parameters,
  'model',
);
// Each byte by the letter that CLIP has for it, within a word and at its end.
const bytes = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i));
const special = ['<|startoftext|>', '<|endoftext|>'];
const vocabulary = [...bytes, ...bytes.map((letter) => `${letter}</w>`), ...special];
await store.write('tokenizer/vocab.json', json(Object.fromEntries(vocabulary.map((token, i) => [token, i]))));
await store.write('tokenizer/merges.txt', '#version: 0.2\n');
await store.write('tokenizer/tokenizer_config.json', json({ model_max_length: 77, pad_token: special[1] }));
