// Makes of Noto's emoji (32 × 32 RGB, gzip of one byte a value, channel by channel, beside names.txt) what a latent
// pipeline is trained from: pictures with captions, some pictures that are held out, and a pipeline's folder with a tokenizer
// of the captions' words, a text encoder that is drawn and stays as it is, and a network and an autoencoder that are yet to
// be trained. `npx tsx bench/emoji-pipeline.ts DATA FOLDER`; docs/latent.md goes on from there.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { encode } from 'fast-png';
import { writeSafetensors } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import { tensorsOf } from '../src/flow/network.js';
import { clipText } from '../src/models/diffusers/clip-text.js';
import { ParameterLayout } from '../src/nn/parameters.js';

const [data, place] = process.argv.slice(2);
if (!place) throw new Error('usage: npx tsx bench/emoji-pipeline.ts DATA FOLDER');

const side = 32;
const tokensOfText = 12;
const width = 64;

type Names = Record<string, { char: string | null; category: string }>;
const emojilib = fileURLToPath(import.meta.resolve('emojilib/emojis.json'));
/** Words of a drawing, without the mark that asks for colours; of what has none those of its parts. */
const words = new Map(
  Object.entries(JSON.parse(await readFile(emojilib, 'utf8')) as Names).map(([name, { char, category }]) => [
    (char ?? '').replaceAll('\u{fe0f}', ''),
    `${name.replaceAll(/[_-]/g, ' ')}${category === 'flags' && !name.includes('flag') ? ' flag' : ''}`,
  ]),
);
const tones = ['light skin', 'medium light skin', 'medium skin', 'medium dark skin', 'dark skin'];
function caption(codes: readonly number[]): string | null {
  const tone = codes.find((code) => code >= 0x1f3fb && code <= 0x1f3ff);
  const plain = codes.filter((code) => code !== 0xfe0f && (code === tone ? codes.length === 1 : true));
  const whole = words.get(String.fromCodePoint(...plain));
  const parts = plain.map((code) => words.get(String.fromCodePoint(code))).filter((part) => part !== undefined);
  const name = whole ?? (parts.length ? parts.join(' ') : null);
  return name && tone !== undefined && codes.length > 1 ? `${name} ${tones[tone - 0x1f3fb]}` : name;
}

const pixels = gunzipSync(await readFile(join(data, 'emoji32_rgb_white.bin.gz')));
const names = (await readFile(join(data, 'names.txt'), 'utf8')).trim().split('\n');
const emoji = names.flatMap((name, i) => {
  const codes = name
    .replace(/^emoji_u/, '')
    .split('_')
    .map((code) => Number.parseInt(code, 16));
  const text = caption(codes);
  const plane = side * side;
  const at = (k: number) => pixels[3 * plane * i + plane * (k % 3) + Math.floor(k / 3)];
  const png = encode({
    width: side,
    height: side,
    channels: 3,
    data: Uint8Array.from({ length: 3 * plane }, (_, k) => at(k)),
  });
  // Variants of one drawing go to one side.
  return text === null ? [] : [{ name, text, png, heldOut: codes[0] % 10 === 3 }];
});
const store = folderStore(place);
for (const [folder, of] of [
  ['captions', emoji.filter(({ heldOut }) => !heldOut)],
  ['held-out', emoji.filter(({ heldOut }) => heldOut)],
] as const) {
  for (const { name, png } of of) await store.write(`${folder}/${name}.png`, png);
  const lines = of.map(({ name, text }) => JSON.stringify({ file_name: `${name}.png`, text }));
  await store.write(`${folder}/metadata.jsonl`, `${lines.join('\n')}\n`);
  console.log(`${join(place, folder)}: ${of.length} pictures with captions`);
}

/** Pairs by how often they stand side by side, most frequent first, as long as a pair is seen twice (Sennrich et al., 2016). */
function mergesOf(texts: readonly string[]): string[][] {
  const counts = new Map<string, number>();
  for (const word of texts.flatMap((text) => text.toLowerCase().match(/\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu) ?? []))
    counts.set(word, (counts.get(word) ?? 0) + 1);
  const split = [...counts].map(([word, count]) => {
    const letters = [...word];
    return { parts: [...letters.slice(0, -1), `${letters.at(-1)}</w>`], count };
  });
  const merges: string[][] = [];
  for (;;) {
    const pairs = new Map<string, number>();
    for (const { parts, count } of split)
      for (let i = 1; i < parts.length; i++) {
        const pair = `${parts[i - 1]} ${parts[i]}`;
        pairs.set(pair, (pairs.get(pair) ?? 0) + count);
      }
    const [best, seen] = [...pairs].reduce((most, pair) => (pair[1] > most[1] ? pair : most), ['', 1]);
    if (seen < 2) return merges;
    const [left, right] = best.split(' ');
    merges.push([left, right]);
    for (const each of split)
      each.parts = each.parts.reduce<string[]>(
        (joined, part) =>
          part === right && joined.at(-1) === left ? [...joined.slice(0, -1), left + right] : [...joined, part],
        [],
      );
  }
}

const printable = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i));
const merges = mergesOf(emoji.map(({ text }) => text));
const vocabulary = [
  ...printable,
  ...printable.map((letter) => `${letter}</w>`),
  ...merges.map((pair) => pair.join('')),
  '<|startoftext|>',
  '<|endoftext|>',
];
const json = (value: object) => `${JSON.stringify(value, null, 2)}\n`;
const pipeline = folderStore(join(place, 'pipeline'));
await pipeline.write(
  'model_index.json',
  json({
    _class_name: 'StableDiffusionInpaintPipeline',
    scheduler: ['diffusers', 'DDIMScheduler'],
    text_encoder: ['transformers', 'CLIPTextModel'],
    tokenizer: ['transformers', 'CLIPTokenizer'],
    unet: ['diffusers', 'UNet2DConditionModel'],
    vae: ['diffusers', 'AutoencoderKL'],
  }),
);
await pipeline.write('tokenizer/vocab.json', json(Object.fromEntries(vocabulary.map((token, i) => [token, i]))));
await pipeline.write('tokenizer/merges.txt', `#version: 0.2\n${merges.map((pair) => pair.join(' ')).join('\n')}\n`);
await pipeline.write(
  'tokenizer/tokenizer_config.json',
  json({ model_max_length: tokensOfText, pad_token: '<|endoftext|>', tokenizer_class: 'CLIPTokenizer' }),
);
await pipeline.write(
  'scheduler/scheduler_config.json',
  json({
    _class_name: 'DDIMScheduler',
    beta_start: 0.00085,
    beta_end: 0.012,
    beta_schedule: 'scaled_linear',
    clip_sample: false,
    num_train_timesteps: 1000,
    prediction_type: 'v_prediction',
    set_alpha_to_one: false,
    steps_offset: 1,
  }),
);
await pipeline.write(
  'unet/config.json',
  json({
    _class_name: 'UNet2DConditionModel',
    sample_size: side / 4,
    in_channels: 9,
    out_channels: 4,
    block_out_channels: [64],
    down_block_types: ['CrossAttnDownBlock2D'],
    up_block_types: ['CrossAttnUpBlock2D'],
    layers_per_block: 1,
    attention_head_dim: 4,
    cross_attention_dim: width,
    norm_num_groups: 8,
  }),
);

await store.write(
  'vae.yaml',
  `block_out_channels: [16, 32, 32]
down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D, DownEncoderBlock2D]
up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D, UpDecoderBlock2D]
layers_per_block: 1
norm_num_groups: 4
mid_block_add_attention: false
`,
);

// Nobody trains the text encoder: a token is a vector that was drawn, and a layer adds a little of those before it.
const text = {
  vocab_size: vocabulary.length,
  hidden_size: width,
  intermediate_size: 2 * width,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  max_position_embeddings: tokensOfText,
  eos_token_id: vocabulary.length - 1,
};
await pipeline.write('text_encoder/config.json', json({ architectures: ['CLIPTextModel'], ...text }));
const layout = new ParameterLayout(clipText.build(clipText.schema.parse(text)).parameters);
const weights = layout.drawn(0);
const read = async (name: string) => {
  const values = await weights.read(name);
  // Initial embeddings are so small that what the layer adds would bury them.
  return name.includes('token_embedding') ? values.map((value) => 50 * value) : values;
};
const drawn = tensorsOf(layout, { ...weights, read });
await writeSafetensors(join(place, 'pipeline/text_encoder/model.safetensors'), drawn);
console.log(`${join(place, 'pipeline')}: ${vocabulary.length} tokens, texts of up to ${tokensOfText}`);
