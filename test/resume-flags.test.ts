import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { parse, stringify } from 'yaml';
import { openDevice } from '../node/device.js';
import { readSafetensors, writeSafetensors } from '../node/files.js';
import type { Device } from '../src/gpu/device.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork, exportNetwork } from '../src/flow/network.js';
import { runHere } from './support/command-line.js';

// One device for all commands: each would compile the same kernels anew.
let device: Device;
vi.mock('../cli/session.js', () => ({ openSession: () => Promise.resolve({ __proto__: device, dispose: () => {} }) }));
// What is drawn and measured of a finished run has tests of its own.
vi.mock('../cli/run-report.js', () => ({ finishReport: async () => null }));

const folder = mkdtempSync(join(tmpdir(), 'semiflow-resume-'));
const file = (name: string) => join(folder, name);
const home = process.cwd();
beforeAll(async () => {
  device = await openDevice({ toggles: 'checked' });
  const architecture = { kind: 'mlp', dim: 2, width: 8, depth: 1, activation: 'silu', time: 'features' };
  for (const [name, seed] of [
    ['teacher.safetensors', 1],
    ['other.safetensors', 2],
  ] as const) {
    const network = createNetwork(parseDescription({ architecture, prediction: 'velocity' }, 'test'), seed);
    const { tensors, metadata } = exportNetwork(network);
    await writeSafetensors(file(name), tensors, metadata);
  }
  // A run that starts where its files are named by relative paths.
  process.chdir(folder);
  const flags = ['--teacher', 'teacher.safetensors', '--data', 'moons', '--method', 'lmd', '--batch', '8'];
  const made = await runHere(['train', ...flags, '--steps', '6', '--out', 'run', '--no-evaluate']);
  expect(made.line).toBe('');
  const teacher = await runHere([
    'teacher',
    '--data',
    'moons',
    '--steps',
    '3',
    '--batch',
    '8',
    '--run',
    'rf',
    '--out',
    'rf.safetensors',
  ]);
  expect(teacher.line).toBe('');
  process.chdir(home);
}, 600_000);
afterAll(() => {
  process.chdir(home);
  device.dispose();
  rmSync(folder, { recursive: true, force: true });
});

const resume = (...flags: string[]) => runHere(['train', '--resume', file('run'), '--no-evaluate', ...flags]);
const contents = () =>
  ['student.safetensors', 'state.safetensors', 'metrics.jsonl'].map((name) => readFileSync(file(`run/${name}`)));

describe('beside --resume', () => {
  it('nothing that contradicts the run is taken, and nothing changes', async () => {
    const before = contents();
    for (const [flags, says] of [
      [['--steps', '5'], /6 steps are done already/],
      [['--seed', '1'], /--seed.*started with 0/],
      [['--batch', '9'], /--batch.*started with 8/],
      [['--method', 'emd'], /--method.*started with lmd/],
      [['--learning-rate', '0.1'], /--learning-rate.*started with/],
      [['--learning-rate', 'abc'], /--learning-rate.*abc/],
      [['--config', 'nope.yaml'], /nope\.yaml/],
      [['--data', 'checkerboard'], /--data: the data is not what this run/],
      [['--teacher', file('other.safetensors')], /--teacher: the teacher is not what this run/],
      [['--out', 'elsewhere'], /--out cannot go with --resume/],
      [['--model', 'mlp'], /--model cannot go with --resume/],
    ] as const) {
      const { line, exitCode } = await resume(...flags);
      expect(line).toMatch(says);
      expect(exitCode).toBe(2);
    }
    expect(contents()).toEqual(before);
  });

  it('a file in another place with the same content is the same, from any folder', async () => {
    copyFileSync(file('teacher.safetensors'), file('moved.safetensors'));
    process.chdir(tmpdir());
    const before = contents();
    expect((await resume()).line).toBe('');
    expect((await resume('--teacher', file('moved.safetensors'), '--seed', '0')).line).toBe('');
    process.chdir(home);
    expect(contents()).toEqual(before);
  });

  it('the configuration is held to what the run was started with', async () => {
    const path = file('run/config.yaml');
    const good = readFileSync(path, 'utf8');
    const saved = parse(good) as { recipe: Record<string, unknown>; teacher: string };
    for (const [text, says] of [
      [stringify({ ...saved, recipe: { ...saved.recipe, seed: 5 } }), /seed is 5, but this run was started with 0/],
      [stringify({ ...saved, recipe: { ...saved.recipe, batch: 'many' } }), /config\.yaml:\d+:\d+.*batch/],
      [stringify({ ...saved, recipe: undefined }), /config\.yaml/],
      [stringify({ ...saved, teacher: file('none.safetensors') }), /none\.safetensors/],
      ['recipe: [', /config\.yaml:1/],
      ['- 1', /config\.yaml/],
      ['', /config\.yaml/],
    ] as const) {
      writeFileSync(path, text);
      const { line, exitCode } = await resume();
      expect(line).toMatch(says);
      expect(exitCode).toBe(2);
    }
    rmSync(path);
    mkdirSync(path);
    expect((await resume()).line).toMatch(/config\.yaml is missing/);
    rmSync(path, { recursive: true });
    writeFileSync(path, good);
  });

  it('a run of another kind says what it is', async () => {
    expect((await runHere(['train', '--resume', file('rf')])).line).toMatch(/training of a teacher, not of a flow-map/);
    expect((await runHere(['teacher', '--resume', file('run')])).line).toMatch(
      /training of a flow-map, not of a teacher/,
    );
    expect((await runHere(['classifier', '--resume', folder])).line).toMatch(/holds no run/);
    expect((await runHere(['teacher', '--resume', file('rf'), '--prediction', 'v'])).line).toMatch(
      /--prediction cannot/,
    );
  });

  it('metrics that are a folder stop nothing, and more steps go on', async () => {
    rmSync(file('run/metrics.jsonl'));
    mkdirSync(file('run/metrics.jsonl'));
    expect((await resume('--steps', '8')).line).toBe('');
    rmSync(file('run/metrics.jsonl'), { recursive: true });
    expect((await resume()).line).toBe('');
    expect((await readSafetensors(file('run/state.safetensors'))).metadata.step).toBe('8');
  });
});

describe('no command destroys what it did not write', () => {
  it('a folder with files of the same names, or of an older run', async () => {
    for (const command of ['demo', 'train']) {
      const precious = file(`precious-${command}`);
      mkdirSync(precious);
      writeFileSync(join(precious, 'config.yaml'), 'a: 1');
      writeFileSync(join(precious, 'thesis.txt'), 'x');
      const flags = command === 'train' ? ['--teacher', file('teacher.safetensors'), '--data', 'moons'] : [];
      const { line, exitCode } = await runHere([command, ...flags, '--out', precious]);
      expect(line).toMatch(/holds a config\.yaml that no run wrote/);
      expect(exitCode).toBe(2);
      expect(readFileSync(join(precious, 'thesis.txt'), 'utf8')).toBe('x');
      expect(readFileSync(join(precious, 'config.yaml'), 'utf8')).toBe('a: 1');
      expect(existsSync(join(precious, 'run.json'))).toBe(false);
    }
  });

  it('nor does the demo replace a run that is none of its own', async () => {
    const before = contents();
    expect((await runHere(['demo', '--out', file('run')])).line).toMatch(/holds a run already/);
    expect(contents()).toEqual(before);
  });
});

describe('before the first step', () => {
  it('a weight that is no number is named', async () => {
    const source = await readSafetensors(file('teacher.safetensors'));
    const names = [...source.tensors.keys()];
    for (const bad of [names[0], names.at(-1)!]) {
      const tensors = Object.fromEntries(
        await Promise.all(
          names.map(async (name) => {
            const data = await source.readF32(name);
            if (name === bad) data[0] = NaN;
            return [name, { dtype: 'F32' as const, shape: source.tensors.get(name)!.shape, data }] as const;
          }),
        ),
      );
      await writeSafetensors(file('nan.safetensors'), tensors, source.metadata);
      for (const data of [['--data', 'moons'], []]) {
        const out = file('nan-run');
        const { line, exitCode } = await runHere([
          'train',
          '--teacher',
          file('nan.safetensors'),
          ...data,
          '--out',
          out,
        ]);
        expect(line).toContain(`"${bad}" holds NaN`);
        expect(exitCode).toBe(2);
        expect(existsSync(out)).toBe(false);
      }
    }
  });
});
