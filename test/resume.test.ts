import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeSafetensors } from '../node/files.js';
import { encodeNpy } from '../src/checkpoint/npy.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork, exportNetwork } from '../src/flow/network.js';
import { random } from '../src/tensor/philox.js';
import { kills, killAndCompare, oftenSaved, single, type Compared } from './support/kills.js';
import { changed } from './support/weights.js';

const folder = mkdtempSync(join(tmpdir(), 'semiflow-resume-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it(
  'ends with the same bytes when killed at five moments and resumed as when left alone',
  { timeout: 600_000 },
  async () => {
    const recipe = ['--teacher', 'checkpoints/rf-checkerboard.safetensors', '--data', 'checkerboard'];
    const flags = [...recipe, '--steps', '150', '--batch', '64', ...oftenSaved, '--no-evaluate', '--out', 'RUN'];
    const { met } = await killAndCompare({ launcher: single, command: 'train', flags }, folder, 5);
    expect(met.length).toBeGreaterThan(0);
  },
);

describe.skipIf(!kills)(`${kills} kills (SEMIFLOW_KILLS)`, () => {
  const [points, pictures, images] = ['points.safetensors', 'pictures.safetensors', 'images.npy'].map((name) =>
    join(folder, name),
  );
  beforeAll(async () => {
    const mlp = { kind: 'mlp', dim: 2, width: 16, depth: 2, activation: 'silu', time: 'features' };
    const sit = {
      kind: 'sit',
      inputSize: 4,
      patchSize: 2,
      inChannels: 1,
      hiddenSize: 16,
      depth: 1,
      numHeads: 2,
      mlpRatio: 2,
      numClasses: 0,
      learnSigma: false,
    };
    const draw = random(1);
    for (const [path, architecture] of [
      [points, mlp],
      [pictures, sit],
    ] as const) {
      const network = createNetwork(parseDescription({ architecture, prediction: 'velocity' }, 'test'), 1);
      const { tensors, metadata } = exportNetwork(changed(network, (value) => value + 0.1 * draw.normal()));
      await writeSafetensors(path, tensors, metadata);
    }
    writeFileSync(
      images,
      encodeNpy(
        Float32Array.from({ length: 64 * 16 }, () => 2 * draw.uniform() - 1),
        [64, 4, 4],
      ),
    );
  });

  const distilling = ['--steps', '300', '--batch', '16', '--method', 'lmd', ...oftenSaved, '--no-evaluate'];
  const ofTeacher = (teacher: string, data: string, ...more: string[]) => {
    const flags = ['--teacher', teacher, '--data', data, ...more, ...distilling, '--out', 'RUN'];
    return { launcher: single, command: 'train', flags } as const;
  };
  const taught = ['--data', 'moons', '--steps', '300', '--batch', '16', ...oftenSaved, '--run', 'RUN'];
  const kinds: Record<string, Compared> = {
    'points in f32': ofTeacher(points, 'moons'),
    'pictures in f16': ofTeacher(pictures, images, '--precision', 'f16'),
    'a teacher': {
      launcher: single,
      command: 'teacher',
      flags: [...taught, '--out', join(folder, 'rf.safetensors')],
    },
    'an adapter': ofTeacher(points, 'moons', '--lora-rank', '2'),
    'no data': {
      launcher: single,
      command: 'train',
      flags: ['--teacher', points, '--pool', '256', '--pool-steps', '2', ...distilling, '--out', 'RUN'],
    },
  };
  it.each(Object.keys(kinds))('%s', { timeout: 24 * 3_600_000 }, async (kind) => {
    let met = 0;
    let runs = 0;
    for (; met < kills / Object.keys(kinds).length; runs++)
      met += (await killAndCompare(kinds[kind], folder, 5)).met.length;
    console.log(`${kind}: ${met} kills in ${runs} runs, the same bytes`);
  });
});
