import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeSafetensors } from '../node/files.js';
import { encodeNpy } from '../src/checkpoint/npy.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork, exportNetwork } from '../src/flow/network.js';
import { random } from '../src/tensor/philox.js';
import { changed } from './support/weights.js';

const folder = mkdtempSync(join(tmpdir(), 'semiflow-resume-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** How many kills all kinds of runs share; without it one kind gets five. */
const kills = Number(process.env.SEMIFLOW_KILLS ?? 0);
const program = resolve('bin/semiflow.js');

/** Runs the real program; with `lifetime` it is killed that many milliseconds after it says that it trains. */
function run(
  args: string[],
  { lifetime, cwd = '.' }: { lifetime?: number; cwd?: string } = {},
): Promise<number | null> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'], cwd });
    let armed = false;
    const watch = (text: Buffer) => {
      if (lifetime === undefined || armed || !/training in|going on/.test(text.toString())) return;
      armed = true;
      setTimeout(() => child.kill('SIGKILL'), lifetime);
    };
    child.stdout.on('data', watch);
    child.stderr.on('data', watch);
    child.on('exit', (code) => done(code));
  });
}

/**
 * Compares a run that is left alone with one that is killed `count` times and resumed, the last time from another folder.
 * @returns how many kills met a living run
 */
async function killAndCompare(command: string, flags: string[], place: string[], count: number): Promise<number> {
  const name = `${command}-${readdirSync(folder).length}`;
  const [alone, killed] = [join(folder, `${name}-alone`), join(folder, `${name}-killed`)];
  const at = (path: string) => place.map((flag) => flag.replace('RUN', path));
  expect(await run([command, ...flags, ...at(alone)])).toBe(0);
  const often = ['--save-every', '0.1'];
  const lifetime = () => 50 + 900 * Math.random();
  let met = Number((await run([command, ...flags, ...at(killed)], { lifetime: lifetime() })) === null);
  const evaluation = command === 'train' ? ['--no-evaluate'] : [];
  // A run that finished before its kill is resumed all the same: it must not change any more.
  for (let kill = 1; kill < count; kill++)
    met += Number(
      (await run([command, '--resume', killed, ...often, ...evaluation], { lifetime: lifetime() })) === null,
    );
  expect(await run([command, '--resume', killed, ...evaluation], { cwd: tmpdir() })).toBe(0);
  for (const file of readdirSync(alone).filter((file) => file.endsWith('safetensors')))
    expect(readFileSync(join(killed, file)).equals(readFileSync(join(alone, file))), file).toBe(true);
  expect(metricsOf(killed)).toEqual(metricsOf(alone));
  return met;
}

/** A run's metrics without what its steps took by the clock. */
const metricsOf = (folder: string): object[] =>
  readFileSync(join(folder, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => ({ ...(JSON.parse(line) as object), seconds: 0, stepsPerSecond: 0 }));

const short = ['--save-every', '0.1'];

it(
  'ends with the same bytes when killed at five moments and resumed as when left alone',
  { timeout: 600_000 },
  async () => {
    const recipe = ['--teacher', 'checkpoints/rf-checkerboard.safetensors', '--data', 'checkerboard'];
    const flags = [...recipe, '--steps', '150', '--batch', '64', ...short, '--no-evaluate'];
    expect(await killAndCompare('train', flags, ['--out', 'RUN'], 5)).toBeGreaterThan(0);
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

  const distilling = ['--steps', '300', '--batch', '16', '--method', 'lmd', ...short, '--no-evaluate'];
  const kinds: Record<string, [command: string, flags: string[], place: string[]]> = {
    'points in f32': ['train', ['--teacher', points, '--data', 'moons', ...distilling], ['--out', 'RUN']],
    'pictures in f16': [
      'train',
      ['--teacher', pictures, '--data', images, '--precision', 'f16', ...distilling],
      ['--out', 'RUN'],
    ],
    'a teacher': [
      'teacher',
      ['--data', 'moons', '--steps', '300', '--batch', '16', ...short],
      ['--run', 'RUN', '--out', join(folder, 'rf.safetensors')],
    ],
    'an adapter': [
      'train',
      ['--teacher', points, '--data', 'moons', '--lora-rank', '2', ...distilling],
      ['--out', 'RUN'],
    ],
    'no data': ['train', ['--teacher', points, '--pool', '256', '--pool-steps', '2', ...distilling], ['--out', 'RUN']],
  };
  it.each(Object.keys(kinds))('%s', { timeout: 24 * 3_600_000 }, async (kind) => {
    const [command, flags, place] = kinds[kind];
    let met = 0;
    let runs = 0;
    for (; met < kills / Object.keys(kinds).length; runs++) met += await killAndCompare(command, flags, place, 5);
    console.log(`${kind}: ${met} kills in ${runs} runs, the same bytes`);
  });
});
