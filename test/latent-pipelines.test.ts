import { existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { adapterAt } from '../node/adapter.js';
import { openDevice } from '../node/device.js';
import { readSafetensors } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import { pipelineAt } from '../node/pipeline.js';
import type { SafetensorsFile } from '../src/checkpoint/safetensors.js';
import type { Picture } from '../src/data/picture.js';
import { lanczos } from '../src/data/lanczos.js';
import { samplerOfClass, samplers } from '../src/flow/samplers.js';
import { memoryStore } from '../src/files/store.js';
import type { Device } from '../src/gpu/device.js';
import { decodeLatents, encodePictures } from '../src/pipelines/coder.js';
import { generate } from '../src/pipelines/generate.js';
import type { NoisePurpose } from '../src/pipelines/painter.js';
import { latentMask, prepared } from '../src/pipelines/preparation.js';
import { networkFor } from '../src/pipelines/pipeline.js';
import { encodeTexts } from '../src/pipelines/text.js';
import { openTokenizer } from '../src/pipelines/tokenizer.js';
import { putBack, walkOf } from '../src/pipelines/walk.js';
import { normals } from '../src/tensor/philox.js';
import { full } from './support/full.js';
import { runHere } from './support/command-line.js';
import { relative } from './support/parity.js';

const fixtures = '../shared/fixtures/diffusers';
const found = existsSync(fixtures);
if (!found) console.log(`skipped: the recorded pipelines are not here (${fixtures})`);
const tiny = `${fixtures}/sd-inpaint-tiny`;
const json = <T>(path: string) => JSON.parse(readFileSync(`${fixtures}/${path}`, 'utf8')) as T;

async function pictureIn(io: SafetensorsFile, name: string): Promise<Picture> {
  const [height, width, channels = 1] = io.tensors.get(name)!.shape;
  return { height, width, channels: channels as 1 | 3, pixels: (await io.read(name)) as Uint8Array };
}

describe.skipIf(!found)('a tokenizer', () => {
  const { vocabularies, vocabulary_folders: folders = {} } = found
    ? json<{
        vocabularies: Record<
          string,
          { prompt: string; ids?: number[]; padded_slow?: number[]; ids_differ?: Record<string, number[]> }[]
        >;
        vocabulary_folders?: Record<string, string>;
      }>('clip-tokenizer/cases.json')
    : { vocabularies: {} };
  it.each(Object.keys(vocabularies))('gives the recorded tokens of %s', async (name) => {
    const [, place] = /^fixtures\/diffusers\/(\S+)/.exec(folders[name]!)!;
    const tokenizer = await openTokenizer(folderStore(join(fixtures, place)), 77);
    for (const { prompt, ids, padded_slow: padded, ids_differ: others } of vocabularies[name]) {
      const { tokens, cut } = tokenizer.encode(prompt);
      expect(tokens.length).toBe(77);
      // Where implementations differ, those of the library behind newer releases.
      const whole = others?.fast ?? ids!;
      const wanted = whole.length > 77 ? [...whole.slice(0, 76), whole[whole.length - 1]] : whole;
      expect(cut, prompt).toBe(whole.length - wanted.length);
      expect([...tokens].slice(0, wanted.length), prompt).toEqual(wanted);
      if (padded && !others) expect([...tokens], prompt).toEqual(padded);
    }
  });

  it.each([
    // Stable Diffusion 2's, which is filled up with "!".
    [{ pad_token: '<|endoftext|>' }, { pad_token: '!' }, '!'],
    [{ pad_token: '<|endoftext|>' }, { pad_token: { content: '!' } }, '!'],
    [{ pad_token: '!' }, {}, '!'],
    [{ pad_token: '<|endoftext|>', added_tokens_decoder: { 0: {} } }, { pad_token: '!' }, '<|endoftext|>'],
    [{ added_tokens_decoder: { 0: {} } }, { pad_token: '!' }, '!'],
    [{}, {}, '<|endoftext|>'],
  ])('%j beside %j fills texts up with %s', async (config, special, filler) => {
    const vocabulary = ['!', 'a', 'a</w>', '<|startoftext|>', '<|endoftext|>'];
    const store = memoryStore();
    await store.write('vocab.json', JSON.stringify(Object.fromEntries(vocabulary.map((token, i) => [token, i]))));
    await store.write('merges.txt', '#version: 0.2\n');
    await store.write('tokenizer_config.json', JSON.stringify(config));
    await store.write('special_tokens_map.json', JSON.stringify(special));
    const { tokens } = (await openTokenizer(store, 6)).encode('A');
    expect([...tokens]).toEqual([3, 2, 4, ...Array.from({ length: 3 }, () => vocabulary.indexOf(filler))]);
  });

  it('says what a folder lacks', async () => {
    await expect(openTokenizer(folderStore(`${tiny}/unet`), 77)).rejects.toThrow(/holds no tokenizer: .*merges.txt/);
  });
});

describe.skipIf(!found)('a picture and its mask', () => {
  it('are prepared as recorded, to the byte', async () => {
    const io = await readSafetensors(`${fixtures}/preprocess/io.safetensors`);
    const names = [...io.tensors.keys()].flatMap((name) => /^(.*)\.image_u8$/.exec(name)?.[1] ?? []);
    expect(names.length).toBeGreaterThan(0);
    for (const name of names) {
      const [image, mask] = [await pictureIn(io, `${name}.image_u8`), await pictureIn(io, `${name}.mask_u8`)];
      const [, , height, width] = io.tensors.get(`${name}.image`)!.shape;
      for (const [picture, kind] of [
        [image, 'image'],
        [mask, 'mask'],
      ] as const) {
        const recorded = await pictureIn(io, `${name}.${kind}_resized_u8`);
        expect(lanczos(picture, [height, width]).pixels, `${name} ${kind}`).toEqual(recorded.pixels);
      }
      const scene = prepared(image, mask, [height, width]);
      const latent = io.tensors.get(`${name}.mask_latent`)!.shape;
      const made = {
        image: scene.image,
        mask: scene.mask,
        masked_image: scene.masked,
        mask_latent: latentMask(scene.mask, [height, width], height / latent[2]),
      };
      for (const [kind, values] of Object.entries(made)) {
        const recorded = await io.readF32(`${name}.${kind}`);
        expect(Math.max(...values.map((value, i) => Math.abs(value - recorded[i]))), `${name} ${kind}`).toBeLessThan(
          1e-6,
        );
      }
    }
  });
});

interface Run {
  call: {
    prompt: string;
    negative_prompt?: string;
    guidance_scale: number;
    num_inference_steps: number;
    strength?: number;
    eta?: number;
  };
  directory: string;
  lora: string | null;
  height: number;
  width: number;
  scheduler: string;
  scheduler_config: Record<string, unknown>;
  noise_order: { tensor: string; drawn_by: string }[];
  variant: string | null;
}

const runFolder = `${fixtures}/sd-inpaint-runs`;
const runs = found
  ? readdirSync(runFolder).flatMap((name) => (name.endsWith('.json') ? [name.replace(/\.json$/, '')] : []))
  : [];

/** A run, its tensors, its pipeline and how it was sampled. */
async function recordedRun(name: string) {
  const run = json<Run>(`sd-inpaint-runs/${name}.json`);
  const io = await readSafetensors(`${runFolder}/${name}.safetensors`);
  const { call, lora, variant } = run;
  const path = join(runFolder, run.directory) + (variant ? `#${variant}` : '');
  const opened = await pipelineAt(path, lora ? [await adapterAt(join(runFolder, lora))] : []);
  const pipeline = { ...opened, scheduler: run.scheduler_config };
  const sampler = samplerOfClass(run.scheduler)!;
  const { option } = samplers[sampler];
  // Noise by what it is for, in the order in which pipelines draw it.
  const { strength = 1, eta = 0 } = call;
  const further = pipeline.network.model.conditions.channels;
  const order = strength < 1 || !further ? ['picture', 'latents', 'masked picture'] : ['latents', 'masked picture'];
  const noise = new Map<string, Float32Array>();
  for (const [i, { tensor }] of run.noise_order.entries())
    noise.set(order[i] ?? String(i - order.length), await io.readF32(tensor));
  const scene = { image: await pictureIn(io, 'image_u8'), mask: await pictureIn(io, 'mask_u8') };
  return {
    run,
    io,
    pipeline,
    noise,
    strength,
    scene,
    sampler: { name: sampler, ...(option && { [option.name]: eta }) },
  };
}

describe.skipIf(!found)('a recorded run', () => {
  it.each(runs)('%s is led the same way by what its network said', async (name) => {
    const { run, io, pipeline, noise, strength, scene, sampler } = await recordedRun(name);
    const { guidance_scale: guidance, num_inference_steps: steps } = run.call;
    const network = networkFor(pipeline, [run.height, run.width]);
    const size = network.model.sampleShape.reduce((product, extent) => product * extent, 1);
    const { mask } = prepared(scene.image, scene.mask, [run.height, run.width]);
    const { factor } = pipeline.vae.parts;
    const latentOf = async (encoding: number, purpose: string) => {
      const moments = await io.readF32(`vae_encode.${encoding}.moments`);
      const half = moments.length / 2;
      return noise.get(purpose)!.map((z, i) => 0.18215 * (moments[i] + Math.exp(moments[half + i] / 2) * z));
    };
    const after = await io.readF32('latents_after_step');
    let at = 0;
    const walk = walkOf(network, pipeline.scheduler, { sampler, steps, strength, seed: 0 })({
      sampleSize: size,
      follow: () => Promise.reject(new Error('no step of a scheduler is one of the straight path')),
      output: async (x, timestep) => {
        const shown = await io.readF32(`unet.${at}.sample`);
        expect(relative(x, shown.subarray(0, size)), `input ${at}`).toBeLessThan(5e-5);
        expect(timestep, `timestep ${at}`).toBeCloseTo((await io.readF32(`unet.${at}.timestep`))[0], 2);
        if (network.model.conditions.channels) {
          const told = [...latentMask(mask, [run.height, run.width], factor)];
          told.push(...(await latentOf(strength < 1 ? 1 : 0, 'masked picture')));
          expect(relative(Float32Array.from(told), shown.subarray(size, size + told.length))).toBeLessThan(5e-5);
        }
        const said = await io.readF32(`unet.${at}.out`);
        const [free, given] = [said.subarray(0, size), said.subarray(-size)];
        return guidance > 1 ? free.map((value, k) => value + guidance * (given[k] - value)) : given.slice();
      },
    });
    if (strength < 1) walk.state = walk.mixed(0, await latentOf(0, 'picture'), noise.get('latents')!);
    else walk.begin(noise.get('latents')!);
    const kept = network.model.conditions.channels
      ? null
      : {
          latents: await latentOf(0, 'picture'),
          noise: noise.get('latents')!,
          hidden: latentMask(mask, [run.height, run.width], factor),
          size,
          plane: size / network.model.sampleShape[0],
        };
    for (at = 0; at < walk.steps; at++) {
      await walk.go(at, (step) => noise.get(String(step))!);
      if (kept) putBack(walk, at, kept);
      expect(relative(Float32Array.from(walk.state), after.subarray(at * size, (at + 1) * size)), `${at}`).toBeLessThan(
        5e-5,
      );
    }
    expect(at * size).toBe(after.length);
  });
});

// A device compiles these networks for minutes; their kernels, and the networks on the host, have tests of their own.
describe.skipIf(!found || !full)('a recorded pipeline', () => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice({ toggles: 'fast' });
  });
  afterAll(() => device?.dispose());

  it.each(runs)('%s', async (name) => {
    const { run, io, pipeline, noise, strength, scene, sampler } = await recordedRun(name);
    const { call } = run;
    const texts = await encodeTexts(device, pipeline, [call.negative_prompt ?? '', call.prompt]);
    const context = await io.readF32('encoder_hidden_states');
    const states = texts.states.flatMap((values) => [...values]).slice(-context.length);
    expect(relative(Float32Array.from(states), context)).toBeLessThan(1e-4);

    const seen: { timestep: number; latents: Float32Array; input: Float32Array; output: Float32Array }[] = [];
    const made = await generate(device, pipeline, {
      prompt: call.prompt,
      negative: call.negative_prompt,
      sides: [run.height, run.width],
      steps: call.num_inference_steps,
      guidance: call.guidance_scale,
      sampler,
      seed: 0,
      inpaint: { ...scene, strength },
      noise: (purpose: NoisePurpose) => noise.get(String(purpose))!,
      onCall: ({ timestep, input, output }, latents) =>
        seen.push({ timestep, latents: Float32Array.from(latents), input: input!, output: output! }),
    });

    expect(seen.length).toBe(io.tensors.get('latents_after_step')!.shape[0]);
    const after = await io.readF32('latents_after_step');
    for (const [i, { timestep, latents, input, output }] of seen.entries()) {
      const [[wanted], shown, said] = await Promise.all(
        ['timestep', 'sample', 'out'].map((part) => io.readF32(`unet.${i}.${part}`)),
      );
      expect(timestep).toBeCloseTo(wanted, 2);
      const size = input.length;
      expect(relative(input, shown.subarray(0, size)), `input ${i}`).toBeLessThan(2e-4);
      // With guidance the batch is first without the text, then with it.
      const [free, given] = [said.subarray(0, size), said.subarray(-size)];
      const guided = free.map((value, k) => value + call.guidance_scale * (given[k] - value));
      const led = call.guidance_scale > 1 ? guided : given;
      expect(relative(output, led), `output ${i}`).toBeLessThan(1e-3);
      expect(
        relative(latents, after.subarray(i * latents.length, (i + 1) * latents.length)),
        `latents ${i}`,
      ).toBeLessThan(2e-4);
    }
    const decoded = await io.readF32('decoded');
    expect(Math.max(...made.images.map((value, i) => Math.abs(value - decoded[i])))).toBeLessThan(5e-4);
    const bytes = await io.read('images_u8');
    const area = run.height * run.width;
    const away = made.images.map((value, i) => {
      const byte = Math.round(255 * Math.min(1, Math.max(0, value / 2 + 0.5)));
      return Math.abs(byte - Number(bytes[(i % area) * 3 + Math.floor(i / area)]));
    });
    expect(Math.max(...away)).toBeLessThanOrEqual(1);
  });

  it('encodes and decodes in tiles without a seam', async () => {
    const { vae } = await pipelineAt(tiny);
    // A smooth picture, over which every tile sees what the whole does.
    const [height, width] = [24, 40];
    const latents = Float32Array.from({ length: 4 * height * width }, (_, i) => Math.sin((i % width) / 9) / 2);
    const [whole, tiled] = [
      await decodeLatents(device, vae, latents, [height, width]),
      await decodeLatents(device, vae, latents, [height, width], { tile: 16 }),
    ];
    // No jump between neighbours that the whole does not have as well.
    const jump = (values: Float32Array) =>
      values.subarray(1).reduce((most, value, i) => Math.max(most, Math.abs(value - values[i])), 0);
    expect(jump(tiled)).toBeLessThan(1.5 * jump(whole));
    const picture = normals(3 * 8 * height * 8 * width, 1, 0, 0);
    const law = await encodePictures(device, vae, picture, [height, width], { tile: 64 });
    expect(law).toEqual(await encodePictures(device, vae, picture, [height, width]));
  });
});

describe.skipIf(!found)('commands of pipelines', () => {
  const out = join(mkdtempSync(join(tmpdir(), 'pipelines-')), 'out.png');
  const given = ['--pipeline', tiny, '--prompt', 'a cat', '--out', out];
  const without = (flag: string) => given.filter((_, i) => given[i] !== flag && given[i - 1] !== flag);
  it.each([
    [['generate', ...without('--pipeline'), '--pipeline', `${tiny}/unet`], /no folder of a whole pipeline/],
    [['generate', ...without('--pipeline'), '--pipeline', '/nowhere'], /--pipeline: \/nowhere is no folder/],
    [['generate', ...given, '--size', '100'], /--size: 100x100: sides are multiples of 8/],
    [['generate', ...given, '--sampler', 'fast'], /--sampler fast: choose one of .*euler/],
    [['generate', ...given, '--sampler', 'jump'], /--sampler: jump is for flow maps/],
    [['generate', ...given, '--sampler', 'dopri5'], /--sampler: dopri5 chooses its own steps/],
    [['generate', ...given, '--eta', '0.3'], /--eta does not belong to --sampler pndm/],
    [['generate', ...given, '--steps', '0'], /--steps takes a whole number/],
    [['generate', ...given, '--sampler', 'LCMScheduler', '--steps', '60'], /--steps: 60 steps, and .* at 50 timesteps/],
    [['generate', ...given, '--weights', 'fp16'], /holds no fp16 weights/],
    [['generate', ...given, '--vae-tile', '100'], /--vae-tile takes a multiple of 8/],
    [['generate', ...given, '--lora', `${tiny}/unet/config.json`], /config.json/],
    [['inpaint', ...given, '--image', '/nowhere.png', '--mask', '/nowhere.png'], /nowhere.png: there is no such file/],
    [['generate', ...without('--out'), '--out', '/nowhere/x.png'], /there is no folder/],
  ])('semiflow %j', async (args, message) => {
    const { line, exitCode } = await runHere(args);
    expect(line).toMatch(message);
    expect(exitCode).toBe(2);
    expect(existsSync(out)).toBe(false);
  });
});
