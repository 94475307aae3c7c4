import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encode } from 'fast-png';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type * as Session from '../cli/session.js';
import type * as Compile from '../src/autodiff/compile.js';
import { adapterAt } from '../node/adapter.js';
import { readNetwork } from '../cli/networks.js';
import { openDevice } from '../node/device.js';
import { readSafetensors, writeSafetensors } from '../node/files.js';
import { filesAt } from '../node/folder.js';
import { pipelineAt } from '../node/pipeline.js';
import { pictureAt } from '../node/pictures.js';
import type { Device } from '../src/gpu/device.js';
import { adapterFile, adapterOf } from '../src/flow/adapter.js';
import { studentOf } from '../src/flow/network.js';
import { captionTensors } from '../src/pipelines/caption-data.js';
import { readCaptions } from '../src/pipelines/captions.js';
import { decodeLatents, encodePictures } from '../src/pipelines/coder.js';
import { paradigmsOf } from '../src/experiments/latent.js';
import { generate } from '../src/pipelines/generate.js';
import { latentMask, preparedImage, preparedMask } from '../src/pipelines/preparation.js';
import { walkOf } from '../src/pipelines/walk.js';
import { normals } from '../src/tensor/philox.js';
import { hostStreams } from '../src/tensor/streams.js';
import { full } from './support/full.js';
import { openHostDevice } from './support/host-device.js';
import { runHere } from './support/command-line.js';
import { relative } from './support/parity.js';
import { writeTinyPipeline } from './support/tiny-pipeline.js';

// Kernels compile for minutes: unless all cases are asked for, the host computes in place of a device.
vi.mock('../cli/session.js', async (original) => {
  const [session, { full }, host] = await Promise.all([
    original<typeof Session>(),
    import('./support/full.js'),
    import('./support/host-device.js'),
  ]);
  return full ? session : { ...session, openSession: () => host.openHostDevice() };
});
vi.mock('../src/autodiff/compile.js', async (original) => {
  const [compiling, { full }, host] = await Promise.all([
    original<typeof Compile>(),
    import('./support/full.js'),
    import('./support/host-device.js'),
  ]);
  return full ? compiling : { ...compiling, compile: host.hostCompile };
});

const place = mkdtempSync(join(tmpdir(), 'latent-'));
const [painting, plain] = [join(place, 'inpainting'), join(place, 'plain')];
const [image, mask, captions] = ['image.png', 'mask.png', 'captions'].map((name) => join(place, name));

const png = (file: string, colour: (x: number, y: number) => number[]) => {
  const data = Array.from({ length: 64 }, (_, i) => colour(i % 8, Math.floor(i / 8))).flat();
  const channels = data.length / 64;
  writeFileSync(file, encode({ width: 8, height: 8, channels, depth: 8, data: Uint8Array.from(data) }));
};

beforeAll(async () => {
  process.env.XDG_CACHE_HOME = join(place, 'cache');
  await writeTinyPipeline(painting);
  await writeTinyPipeline(plain, { channels: 4 });
  png(image, (x, y) => [32 * x, 32 * y, 128]);
  png(mask, (x, y) => [x > 1 && x < 6 && y > 1 && y < 6 ? 255 : 0]);
  mkdirSync(captions);
  for (const name of ['a', 'b', 'c']) {
    png(join(captions, `${name}.png`), (x) => [16 * x, 0, 0]);
    writeFileSync(join(captions, `${name}.txt`), `the\nletter ${name}\n`);
  }
});

describe.skipIf(!full)('a pipeline', () => {
  let device: Device;
  beforeAll(async () => {
    device = full ? await openDevice({ toggles: 'fast' }) : await openHostDevice();
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

    const law = await encodePictures(device, pipeline.vae, preparedImage(scene.image, [8, 8]), [4, 4]);
    const z = normals(64, 1, 0, hostStreams.pictureLatents);
    const known = law.mean.map((value, i) => value + law.deviation![i] * z[i]);
    const hidden = latentMask(preparedMask(scene.mask, [8, 8]), [8, 8], 2);
    const kept = one.latents.map((value, i) => (hidden[i % 16] ? 0 : value - known[i % 64]));
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
  it('are a list beside pictures, a text beside each, or prompts alone', async () => {
    const folder = join(place, 'listed');
    cpSync(captions, folder, { recursive: true });
    writeFileSync(join(folder, '._a.png'), 'left by a program');
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
    const listing = (content: string | Uint8Array) => {
      writeFileSync(list, content);
      return readCaptions(files);
    };
    expect(await listing('\ufeff{"file_name": ".\\\\a.png", "text": ["one", "two"], "id": 5}\r\n')).toEqual([
      { picture: 'a.png', text: 'one' },
      { picture: 'a.png', text: 'two' },
    ]);
    await expect(listing('{"text": "x"}\n')).rejects.toThrow(/metadata.jsonl:1 has no file_name/);
    await expect(listing('{"file_name": "a.png", "text": 5}\n')).rejects.toThrow(/:1 has no text, caption, prompt/);
    await expect(listing(' \n')).rejects.toThrow(/metadata.jsonl is empty/);
    // Another encoding would be other words.
    await expect(listing(Buffer.from('{"file_name": "a.png", "text": "café"}', 'latin1'))).rejects.toThrow(
      /metadata.jsonl is not in UTF-8/,
    );
    writeFileSync(list, ['a', 'b', 'c'].map((name) => `{"file_name": "${name}.png", "text": "${name}"}`).join('\n'));
    const prompts = join(place, 'prompts.txt');
    writeFileSync(prompts, 'a cat\n\n a dog \n');
    expect(await readCaptions((await filesAt(prompts))!)).toEqual([{ text: 'a cat' }, { text: 'a dog' }]);
  });
});

describe('data of captions', () => {
  it('are latents, text states and what a network of inpainting is told, of pictures or of what the teacher paints', async () => {
    const device = full ? await openDevice({ toggles: 'fast' }) : await openHostDevice();
    const pipeline = await pipelineAt(painting);
    const picture = await pictureAt(image);
    const shapesOf = (tensors: Awaited<ReturnType<typeof captionTensors>>) =>
      Object.fromEntries(Object.entries(tensors).map(([name, { shape }]) => [name, shape]));
    const common = { sides: [8, 8], negative: '', guidance: 1, seed: 0 } as const;
    const masks = () => Float32Array.from({ length: 64 }, (_, i) => Number(i % 8 < 4));
    const one = await captionTensors(device, pipeline, {
      ...common,
      texts: ['a', 'b'],
      picture: () => Promise.resolve(picture),
      masks,
    });
    expect(shapesOf(one)).toEqual({
      x: [2, 4, 4, 4],
      context: [2, 8, 8],
      'negative.context': [8, 8],
      channels: [2, 5, 4, 4],
    });
    // The mask is told first.
    expect([...(one.channels.data as Float32Array).subarray(0, 4)]).toEqual([1, 1, 0, 0]);
    const two = await captionTensors(device, pipeline, { ...common, texts: ['a', 'b', 'c'] });
    expect(shapesOf(two)).toEqual({
      x: [3, 4, 4, 4],
      context: [3, 8, 8],
      'negative.context': [8, 8],
      channels: [3, 5, 4, 4],
    });
    expect((two.context.data as Float32Array).subarray(0, 64)).toEqual(
      (one.context.data as Float32Array).subarray(0, 64),
    );
    expect((two.x.data as Float32Array).every(Number.isFinite)).toBe(true);
    device.dispose();
  });
});

describe('a network that is told the scale of guidance', () => {
  it('is asked once a step, whatever the scale and the negative text', async () => {
    const folder = join(place, 'told');
    await writeTinyPipeline(folder, { channels: 4, unet: { time_cond_proj_dim: 8 } });
    const device = full ? await openDevice({ toggles: 'fast' }) : await openHostDevice();
    const pipeline = await pipelineAt(folder);
    const painted = async (guidance: number, negative: string) => {
      let calls = 0;
      const onCall = () => void calls++;
      const options = {
        prompt: 'a cat',
        negative,
        guidance,
        steps: 2,
        seed: 3,
        sampler: { name: 'lcm' },
        onCall,
      } as const;
      const { latents } = await generate(device, pipeline, options);
      return { calls, latents };
    };
    const [low, high, away] = [await painted(1, ''), await painted(7.5, ''), await painted(7.5, 'dogs')];
    expect([low, high, away].map(({ calls }) => calls)).toEqual([2, 2, 2]);
    expect(relative(high.latents, low.latents)).toBeGreaterThan(1e-3);
    // It is not led away from another text.
    expect(away.latents).toEqual(high.latents);
    device.dispose();
  });
});

describe('the paradigms', () => {
  it('sample the adapters of others at timesteps, and those that were distilled here by jumps of the same kind', async () => {
    const teacher = await pipelineAt(plain);
    const flowMap = { ...teacher, network: studentOf(teacher.network) };
    const samplersOf = (endpoint: typeof teacher, trajectory: typeof teacher) =>
      paradigmsOf({ teacher, endpoint, trajectory, flowMap }).map(({ sampler }) => sampler.name);
    expect(samplersOf(teacher, teacher)).toEqual(['euler-ancestral', 'ddim', 'lcm', 'tcd', 'jump']);
    expect(samplersOf(flowMap, flowMap)).toEqual(['euler-ancestral', 'ddim', 'consistency', 'gamma', 'jump']);
    for (const { pipeline, sampler } of paradigmsOf({ teacher, endpoint: flowMap, trajectory: flowMap, flowMap }))
      expect(() =>
        walkOf(pipeline.network, pipeline.scheduler, { sampler, steps: 2, strength: 1, seed: 0 }),
      ).not.toThrow();
  });
});

describe('commands', () => {
  const out = (name: string) => join(place, name);
  const done = async (args: string[]) => {
    const { error, line } = await runHere(args);
    if (error) throw new Error(line, { cause: error });
  };

  it.skipIf(full)("say what takes the place of a folder's scheduler, and what of a text is left out", async () => {
    const folder = join(place, 'other');
    await writeTinyPipeline(folder, { channels: 4, scheduler: { _class_name: 'UniPCMultistepScheduler' } });
    const { output } = await runHere([
      'generate',
      '--pipeline',
      folder,
      '--prompt',
      'a cat on a mat',
      '--steps',
      '1',
      '--out',
      out('other.png'),
    ]);
    expect(output).toMatch(/the folder's UniPCMultistepScheduler is none of the samplers here: euler takes its place/);
    expect(output).toMatch(/the last 4 tokens of "a cat on a mat…" are left out: a text has 8 at most/);
  });

  it.skipIf(!full)('paint, write adapters for others, and compare', async () => {
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
    expect(await pictureAt(out('cats.png'))).toMatchObject({ width: 18, height: 8 });
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
    expect(tensors.get('images')!.shape).toEqual([1, 3, 8, 8]);
    expect(tensors.get('latents')!.shape).toEqual([1, 4, 4, 4]);

    // A flow map of the teacher with an adapter that changes something.
    const student = out('student.safetensors');
    const { network: teacher } = await pipelineAt(painting);
    const lora = { rank: 2, alpha: 4 };
    const map = studentOf(teacher);
    const adapter = adapterOf(map, lora, 1);
    const drawn = adapter.layout.weightsOf((from, to) => Promise.resolve(normals(to - from, 5, from, 0)));
    const { tensors: products, metadata } = adapterFile(map, adapter, lora, drawn);
    await writeSafetensors(student, products, metadata);

    // Adapters for others hold the products alone, and fold into the same weights.
    for (const style of ['kohya', 'peft']) {
      const file = out(`${style}.safetensors`);
      await done(['export', '--model', student, '--to', style, '--out', file]);
      const [own, theirs] = [
        await pipelineAt(painting, [await adapterAt(student)]),
        await pipelineAt(painting, [await adapterAt(file)]),
      ];
      expect(theirs.network.description.role).toBe('teacher');
      for (const { name } of theirs.network.layout.parameters) {
        const [ours, others] = [await own.network.weights.read(name), await theirs.network.weights.read(name)];
        expect(Math.max(...ours.map((value, i) => Math.abs(value - others[i]))), name).toBeLessThan(1e-6);
      }
    }

    const compare = (lcm: string, tcd: string, folder: string) =>
      done([
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
        lcm,
        '--tcd-lora',
        tcd,
        '--flow-map-lora',
        student,
        '--out',
        out(folder),
      ]);
    await compare(out('kohya.safetensors'), out('peft.safetensors'), 'experiment');
    // What was distilled here stands for LCM's and TCD's as well.
    await compare(student, student, 'own');
    for (const folder of ['experiment', 'own']) {
      const steps = JSON.parse(readFileSync(join(out(folder), 'steps.json'), 'utf8')) as {
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
      const drift = JSON.parse(readFileSync(join(out(folder), 'drift.json'), 'utf8')) as {
        summaries: { method: string }[];
      };
      expect(drift.summaries.map(({ method }) => method)).toEqual([
        'flow map',
        'endpoint jump (LCM)',
        'coupled jump (TCD)',
        'coupled, teacher',
      ]);
      for (const file of ['report.html', 'drift-1.png', 'drift-2.png', 'drift.csv', 'steps-1.png'])
        expect(existsSync(join(out(folder), file)), file).toBe(true);
    }
  });

  // Training compiles by itself.
  it.skipIf(!full)('distil what captions say, whose latents are computed once', async () => {
    const training = [
      'train',
      '--teacher',
      painting,
      '--data',
      captions,
      '--lora-rank',
      '2',
      '--batch',
      '5',
      '--steps',
      '2',
      '--no-evaluate',
    ];
    await done([...training, '--out', out('run')]);
    const kept = () => readdirSync(join(place, 'cache/semiflow/latents'));
    const [name] = kept();
    const held = await readSafetensors(join(place, 'cache/semiflow/latents', name));
    expect(Object.fromEntries([...held.tensors].map(([name, { shape }]) => [name, shape]))).toEqual({
      x: [3, 4, 4, 4],
      context: [3, 8, 8],
      'negative.context': [8, 8],
      channels: [3, 5, 4, 4],
    });
    // The same again is read; another text is another key.
    const before = readFileSync(join(place, 'cache/semiflow/latents', name));
    await done([...training, '--out', out('again')]);
    expect(kept()).toEqual([name]);
    expect(readFileSync(join(place, 'cache/semiflow/latents', name))).toEqual(before);
    const [first, again] = ['run', 'again'].map((run) => readFileSync(join(out(run), 'student.safetensors')));
    expect(again).toEqual(first);
  });

  // Without a device that computes, steps change nothing, and a run's state is none.
  it('train the network of a pipeline from nothing, and write it where the pipeline looks', async () => {
    const [own, unet] = [join(place, 'own'), join(place, 'own/unet/')];
    cpSync(painting, own, { recursive: true });
    const weights = join(unet, 'diffusion_pytorch_model.safetensors');
    rmSync(weights);
    const training = ['teacher', '--arch', own, '--data', captions, '--batch', '3'];
    await done([...training, '--steps', '2', '--out', unet]);
    const first = await pipelineAt(own);
    expect(first.network.description.architecture).toMatchObject({ in_channels: 9, block_out_channels: [4] });
    // Weights that are there are not replaced.
    const { line } = await runHere([...training, '--steps', '2', '--run', out('other'), '--out', unet]);
    expect(line).toMatch(/--out: .*diffusion_pytorch_model.safetensors is there already/);
    if (full) {
      const before = await first.network.weights.read('conv_in.weight');
      rmSync(weights);
      await done(['teacher', '--resume', join(place, 'own/runs/unet'), '--steps', '3']);
      expect(await (await pipelineAt(own)).network.weights.read('conv_in.weight')).not.toEqual(before);
    }
    // From its weights, as a folder that stands alone and says its path itself.
    await done([
      'teacher',
      '--init',
      painting,
      '--data',
      captions,
      '--batch',
      '3',
      '--steps',
      '1',
      '--out',
      out('alone/'),
    ]);
    expect((await readNetwork(out('alone'))).description.path).toEqual(first.network.description.path);
  });

  it.each([
    [['experiment', 'steps', '--pipeline', plain, '--prompt', 'a cat'], /--image: a pipeline paints in pictures/],
    [['experiment', 'steps', '--pipeline', plain, '--image', image], /--prompt: a pipeline paints to a text/],
    [['experiment', 'editing', '--pipeline', plain], /editing is not made of pipelines: steps and drift are/],
    [['train', '--teacher', plain, '--data', painting, '--lora-rank', '2'], /--data: .*inpainting holds no captions/],
    // Before anything is encoded.
    [
      ['train', '--teacher', plain, '--data', captions, '--lora-rank', '2', '--batch', '2', '--print-config'],
      /--batch: a batch of 2 cannot be shared by 5 objectives/,
    ],
    [['teacher', '--arch', plain, '--data', join(place, 'prompts.txt')], /--data: .*holds prompts alone/],
    [['teacher', '--arch', plain, '--prediction', 'v', '--data', 'moons'], /--prediction v stands beside .*plain/],
    [['teacher', '--data', 'moons', '--out', `${place}/`], /--out: a network of kind mlp is no class of diffusers/],
    [['teacher', '--init', plain, '--data', place, '--out', join(plain, 'unet/')], /--out: .* is there already/],
    [['plan', 'teacher', '--arch', plain, '--data', captions], /captions become latents/],
  ])('semiflow %j is refused', async (args, message) => {
    const { line, exitCode } = await runHere(args);
    expect(line).toMatch(message);
    expect(exitCode).toBe(2);
  });
});
