import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeSafetensors } from '../../node/files.js';
import { tensorsOf } from '../../src/flow/network.js';
import { folderClasses } from '../../src/models/diffusers/index.js';
import { ParameterLayout, type Parameter } from '../../src/nn/parameters.js';

const once = { twoTime: false, guided: false, checkpointBlocks: false };

/** How a pipeline differs from the smallest. */
export interface TinyOptions {
  /** Of the network: 4 paints from noise, 9 in a picture. */
  channels?: 4 | 9;
  /** The scheduler's configuration. */
  scheduler?: Record<string, unknown>;
  /** Further options of its network. */
  unet?: Record<string, unknown>;
}

/** Letters, which as bytes are all that a prompt of letters and spaces needs. */
const letters = 'abcdefghijklmnopqrstuvwxyz';

/**
 * Writes a pipeline as diffusers saves one, with random weights, whose networks have as few kernels as can be: one level of
 * everything, pictures of 8 × 8, texts of 8 tokens.
 */
export async function writeTinyPipeline(
  folder: string,
  { channels = 9, scheduler = {}, unet = {} }: TinyOptions = {},
): Promise<void> {
  const write = (path: string, content: object | string) => {
    const file = join(folder, path);
    mkdirSync(join(file, '..'), { recursive: true });
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  };
  const network = async (name: string, className: string, config: Record<string, unknown>, file: string) => {
    write(`${name}/config.json`, {
      [name === 'text_encoder' ? 'architectures' : '_class_name']: name === 'text_encoder' ? [className] : className,
      ...config,
    });
    const known = folderClasses[className];
    const of = 'backbone' in known ? known.backbone : known.component;
    const sizes = of.schema.parse(config) as Record<string, unknown>;
    const parameters: readonly Parameter[] =
      'backbone' in known ? known.backbone.build(sizes, once).parameters : known.component.build(sizes).parameters;
    const layout = new ParameterLayout(parameters);
    await writeSafetensors(join(folder, name, file), tensorsOf(layout, layout.drawn(1)));
  };
  write('model_index.json', {
    _class_name: 'StableDiffusionInpaintPipeline',
    scheduler: ['diffusers', 'DDIMScheduler'],
    text_encoder: ['transformers', 'CLIPTextModel'],
    tokenizer: ['transformers', 'CLIPTokenizer'],
    unet: ['diffusers', 'UNet2DConditionModel'],
    vae: ['diffusers', 'AutoencoderKL'],
  });
  write('scheduler/scheduler_config.json', {
    _class_name: 'DDIMScheduler',
    beta_start: 0.00085,
    beta_end: 0.012,
    beta_schedule: 'scaled_linear',
    clip_sample: false,
    set_alpha_to_one: false,
    steps_offset: 1,
    ...scheduler,
  });
  const tokens = ['<|startoftext|>', '<|endoftext|>', ...letters, ...[...letters].map((letter) => `${letter}</w>`)];
  write('tokenizer/vocab.json', Object.fromEntries(tokens.map((token, i) => [token, i])));
  write('tokenizer/merges.txt', '#version: 0.2\n');
  write('tokenizer/tokenizer_config.json', { model_max_length: 8, pad_token: '<|endoftext|>' });
  await network(
    'text_encoder',
    'CLIPTextModel',
    {
      vocab_size: tokens.length,
      hidden_size: 8,
      intermediate_size: 8,
      num_hidden_layers: 1,
      num_attention_heads: 1,
      max_position_embeddings: 8,
    },
    'model.safetensors',
  );
  await network(
    'vae',
    'AutoencoderKL',
    {
      block_out_channels: [4, 4],
      layers_per_block: 1,
      down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D'],
      up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D'],
      norm_num_groups: 2,
      mid_block_add_attention: false,
    },
    'diffusion_pytorch_model.safetensors',
  );
  await network(
    'unet',
    'UNet2DConditionModel',
    {
      sample_size: 4,
      in_channels: channels,
      block_out_channels: [4],
      down_block_types: ['CrossAttnDownBlock2D'],
      up_block_types: ['UpBlock2D'],
      mid_block_type: null,
      layers_per_block: 1,
      cross_attention_dim: 8,
      attention_head_dim: 1,
      norm_num_groups: 2,
      ...unet,
    },
    'diffusion_pytorch_model.safetensors',
  );
}
