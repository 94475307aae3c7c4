import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encode } from 'fast-png';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { adapterAt } from '../node/adapter.js';
import { openDevice } from '../node/device.js';
import { readSafetensors } from '../node/files.js';
import { filesAt, pipelineAt } from '../node/folder.js';
import { pictureAt } from '../node/pictures.js';
import type { Device } from '../src/gpu/device.js';
import { readCaptions } from '../src/pipelines/captions.js';
import { decodeLatents, encodePictures } from '../src/pipelines/coder.js';
import { generate } from '../src/pipelines/generate.js';
import { latentMask, preparedImage, preparedMask } from '../src/pipelines/preparation.js';
import { normals } from '../src/tensor/philox.js';
import { hostStreams } from '../src/tensor/streams.js';
import { runHere } from './support/command-line.js';
import { relative } from './support/parity.js';
import { writeTinyPipeline } from './support/tiny-pipeline.js';

const place = mkdtempSync(join(tmpdir(), 'latent-'));
const [painting, plain] = [join(place, 'inpainting'), join(place, 'plain')];
const [image, mask] = [join(place, 'image.png'), join(place, 'mask.png')];

const png = (file: string, colour: (x: number, y: number) => number[]) => {
  const data = Array.from({ length: 256 }, (_, i) => colour(i % 16, Math.floor(i / 16))).flat();
  const channels = data.length / 256;
  writeFileSync(file, encode({ width: 16, height: 16, channels, depth: 8, data: Uint8Array.from(data) }));
};

beforeAll(async () => {
  process.env.XDG_CACHE_HOME = join(place, 'cache');
  await writeTinyPipeline(painting);
  await writeTinyPipeline(plain, { channels: 4 });
  png(image, (x, y) => [16 * x, 16 * y, 128]);
  png(mask, (x, y) => [x > 4 && x < 12 && y > 4 && y < 12 ? 255 : 0]);
});

describe('a pipeline', () => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice({ toggles: 'fast' });
  });
  afterAll(() => device?.dispose());

  it('keeps what is known, whatever its network is told, and says the same in one call of guidance or two', async () => {
    const pipeline = await pipelineAt(plain);
    const scene = { image: await pictureAt(image), mask: await pictureAt(mask) };
    const options = {
      prompt: 'a cat',
      negative: 'dogs',
      guidance: 3,
      steps: 3,
      seed: 1,
      count: 2,
      inpaint: scene,
    } as const;
    const one = await generate(device, pipeline, { ...options, calls: 1 });
    const two = await generate(device, pipeline, { ...options, calls: 2 });
    expect(relative(two.latents, one.latents)).toBeLessThan(1e-5);
    // Samples of one seed do not depend on how many there are.
    const alone = await generate(device, pipeline, { ...options, count: 1 });
    expect(relative(one.latents.subarray(0, alone.latents.length), alone.latents)).toBeLessThan(1e-5);

    const law = await encodePictures(device, pipeline.vae, preparedImage(scene.image, [16, 16]), [8, 8]);
    const z = normals(256, 1, 0, hostStreams.pictureLatents);
    const known = law.mean.map((value, i) => value + law.deviation![i] * z[i]);
    const hidden = latentMask(preparedMask(scene.mask, [16, 16]), [16, 16], 2);
    const kept = one.latents.map((value, i) => (hidden[i % 64] ? 0 : value - known[i % 256]));
    expect(Math.max(...kept.map(Math.abs))).toBeLessThan(1e-5);
    expect(hidden).toContain(1);
  });

  it('decodes and encodes in tiles as it does at once, where every tile sees enough', async () => {
    const { vae } = await pipelineAt(plain);
    const latents = normals(4 * 12 * 20, 3, 0, 0);
    const whole = await decodeLatents(device, vae, latents, [12, 20]);
    for (const tile of [12, 20, 64]) {
      const tiled = await decodeLatents(device, vae, latents, [12, 20], { tile });
      expect(tiled.length).toBe(whole.length);
      if (tile >= 20) expect(tiled).toEqual(whole);
    }
    // Flat latents are flat in every tile, and stay so where tiles fade into each other.
    const flat = new Float32Array(latents.length).fill(0.5);
    const inTiles = await decodeLatents(device, vae, flat, [12, 20], { tile: 8 });
    expect(inTiles.every(Number.isFinite)).toBe(true);
  });
});

describe('captions', () => {
  const folder = join(place, 'captions');
  it('are a list beside pictures, a text beside each, or prompts alone', async () => {
    mkdirSync(folder, { recursive: true });
    for (const name of ['a', 'b', 'c']) {
      png(join(folder, `${name}.png`), (x) => [16 * x, 0, 0]);
      writeFileSync(join(folder, `${name}.txt`), `the\nletter ${name}\n`);
    }
    const files = (await filesAt(folder))!;
    expect(await readCaptions(files)).toEqual(
      ['a', 'b', 'c'].map((name) => ({ picture: `${name}.png`, text: `the letter ${name}` })),
    );
    const list = join(folder, 'metadata.jsonl');
    writeFileSync(list, '{"file_name": "b.png", "text": "second"}\n\n{"file_name": "a.png", "caption": "first"}\n');
    expect(await readCaptions(files)).toEqual([
      { picture: 'b.png', text: 'second' },
      { picture: 'a.png', text: 'first' },
    ]);
    writeFileSync(list, '{"file_name": "z.png", "text": "none"}\n');
    await expect(readCaptions(files)).rejects.toThrow(/metadata.jsonl:1 names z.png, which is not there/);
    writeFileSync(list, '{"file_name": "a.png"}\n');
    await expect(readCaptions(files)).rejects.toThrow(/metadata.jsonl:1 has no text, caption, prompt/);
    writeFileSync(list, 'a.png\n');
    await expect(readCaptions(files)).rejects.toThrow(/metadata.jsonl:1 is no JSON object/);
    writeFileSync(list, ['a', 'b', 'c'].map((name) => `{"file_name": "${name}.png", "text": "${name}"}`).join('\n'));
    const prompts = join(place, 'prompts.txt');
    writeFileSync(prompts, 'a cat\n\n a dog \n');
    expect(await readCaptions((await filesAt(prompts))!)).toEqual([{ text: 'a cat' }, { text: 'a dog' }]);
  });
});

describe('commands', () => {
  const out = (name: string) => join(place, name);
  const done = async (args: string[]) => {
    const { error, line } = await runHere(args);
    if (error) throw new Error(line, { cause: error });
  };

  it('paint, distil, write adapters for others, and compare', async () => {
    await done([
      'generate',
      '--pipeline',
      plain,
      '--prompt',
      'a cat',
      '--steps',
      '2',
      '--n',
      '2',
      '--out',
      out('cats.png'),
    ]);
    expect(await pictureAt(out('cats.png'))).toMatchObject({ width: 34, height: 16 });
    const scene = ['--image', image, '--mask', mask, '--prompt', 'a cat'];
    await done([
      'inpaint',
      '--pipeline',
      painting,
      ...scene,
      '--sampler',
      'LCMScheduler',
      '--steps',
      '2',
      '--out',
      out('cat.safetensors'),
    ]);
    const { tensors } = await readSafetensors(out('cat.safetensors'));
    expect(tensors.get('images')!.shape).toEqual([1, 3, 16, 16]);
    expect(tensors.get('latents')!.shape).toEqual([1, 4, 8, 8]);

    const training = [
      'train',
      '--teacher',
      painting,
      '--data',
      join(place, 'captions'),
      '--lora-rank',
      '2',
      '--batch',
      '4',
      '--steps',
      '2',
      '--no-evaluate',
    ];
    await done([...training, '--out', out('run')]);
    const kept = () => readdirSync(join(place, 'cache/semiflow/latents'));
    const [first] = kept();
    const held = await readSafetensors(join(place, 'cache/semiflow/latents', first));
    expect(Object.fromEntries([...held.tensors].map(([name, { shape }]) => [name, shape]))).toEqual({
      x: [3, 4, 8, 8],
      context: [3, 8, 8],
      'negative.context': [8, 8],
      channels: [3, 5, 8, 8],
    });
    // The same again is read; another text is another key.
    const before = readFileSync(join(place, 'cache/semiflow/latents', first));
    await done([...training, '--out', out('again')]);
    expect(kept()).toEqual([first]);
    expect(readFileSync(join(place, 'cache/semiflow/latents', first))).toEqual(before);
    const student = join(out('run'), 'student.safetensors');
    expect(readFileSync(join(out('again'), 'student.safetensors'))).toEqual(readFileSync(student));

    // Adapters for others hold the products alone, and fold into the same weights.
    for (const style of ['kohya', 'peft']) {
      const file = out(`${style}.safetensors`);
      await done(['export', '--model', student, '--to', style, '--out', file]);
      const [own, theirs] = [
        await pipelineAt(painting, [await adapterAt(student)]),
        await pipelineAt(painting, [await adapterAt(file)]),
      ];
      expect(theirs.network.description.role).toBe('teacher');
      for (const { name } of theirs.network.layout.parameters)
        expect(
          relative(await theirs.network.weights.read(name), await own.network.weights.read(name)),
          name,
        ).toBeLessThan(1e-6);
    }

    await done([
      'experiment',
      'all',
      '--pipeline',
      painting,
      ...scene,
      '--seeds',
      '2',
      '--guidance',
      '2',
      '--lcm-lora',
      out('kohya.safetensors'),
      '--tcd-lora',
      out('peft.safetensors'),
      '--flow-map-lora',
      student,
      '--out',
      out('experiment'),
    ]);
    const steps = JSON.parse(readFileSync(join(out('experiment'), 'steps.json'), 'utf8')) as {
      method: string;
      rows: { budget: number; toFine: { value: number } }[];
    }[];
    expect(steps.map(({ method }) => method)).toEqual([
      'SDE (Euler ancestral)',
      'ODE (DDIM)',
      'endpoint jump (LCM)',
      'two-time jump (TCD)',
      'flow map',
    ]);
    for (const { rows } of steps) {
      expect(rows.map(({ budget }) => budget)).toEqual([2, 4, 8, 16, 30]);
      expect(rows.every(({ toFine }) => Number.isFinite(toFine.value))).toBe(true);
    }
    const drift = JSON.parse(readFileSync(join(out('experiment'), 'drift.json'), 'utf8')) as {
      summaries: { method: string }[];
    };
    expect(drift.summaries.map(({ method }) => method)).toEqual([
      'flow map',
      'endpoint jump (LCM)',
      'coupled jump (TCD)',
      'coupled, teacher',
    ]);
    for (const file of ['report.html', 'steps-1.png', 'steps-2.png', 'drift-1.png', 'drift-2.png', 'drift.csv'])
      expect(existsSync(join(out('experiment'), file)), file).toBe(true);
  });

  it.each([
    [['experiment', 'steps', '--pipeline', plain, '--prompt', 'a cat'], /--image: a pipeline paints in pictures/],
    [['experiment', 'steps', '--pipeline', plain, '--image', image], /--prompt: a pipeline paints to a text/],
    [['experiment', 'editing', '--pipeline', plain], /editing is not made of pipelines: steps and drift are/],
    [['train', '--teacher', plain, '--data', place, '--lora-rank', '2'], /inpainting|captions|text beside/],
  ])('semiflow %j is refused', async (args, message) => {
    const { line, exitCode } = await runHere(args);
    expect(line).toMatch(message);
    expect(exitCode).toBe(2);
  });
});
