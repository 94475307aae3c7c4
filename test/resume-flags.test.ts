import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type * as Session from '../cli/session.js';
import { parse, stringify } from 'yaml';
import { openDevice } from '../node/device.js';
import { readSafetensors, writeSafetensors } from '../node/files.js';
import type { Device } from '../src/gpu/device.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork, exportNetwork } from '../src/flow/network.js';
import { runHere } from './support/command-line.js';

// One device for all commands: each would compile the same kernels anew.
let device: Device;
vi.mock('../cli/session.js', async (original) => ({
  ...(await original<typeof Session>()),
  openSession: () => Promise.resolve({ __proto__: device, dispose: () => {} }),
}));
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
  expect(made.output).toMatch(/^not evaluated: `(npx )?semiflow train --resume run` does that$/m);
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

  it('a configuration says nothing of this machine, and a run can be moved with what it names', async () => {
    for (const run of ['run', 'rf']) {
      const text = readFileSync(file(`${run}/config.yaml`), 'utf8');
      expect(text).not.toContain(folder);
      expect(text).not.toMatch(/: \/|: [A-Z]:/);
    }
    mkdirSync(file('moved'));
    for (const name of ['run', 'teacher.safetensors', 'moved.safetensors'])
      cpSync(file(name), file(`moved/${name}`), { recursive: true });
    const before = process.cwd();
    process.chdir(tmpdir());
    const { output, line } = await runHere(['train', '--resume', file('moved/run'), '--print-config']);
    expect(line).toBe('');
    expect(dirname((parse(output) as { teacher: string }).teacher)).toBe(file('moved'));
    const again = await runHere(['train', '--config', file('moved/run/config.yaml'), '--print-config']);
    expect(again.output).toBe(output);
    process.chdir(before);
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
    const { line, output } = await runHere(['demo', '--out', file('run')]);
    expect(line).toMatch(/holds a run already/);
    // Before anything is computed.
    expect(output).not.toMatch(/flow-matching loss/);
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

describe('teacher --init', () => {
  // So small a step that weights stay as they are, to the bit.
  const still = ['--data', 'checkerboard', '--steps', '1', '--batch', '8', '--learning-rate', '1e-30'];
  const teach = (name: string, ...flags: string[]) =>
    runHere(['teacher', ...still, '--run', file(name), '--out', file(`${name}.safetensors`), ...flags]);
  const arena = async (run: string, name: string) =>
    (await readSafetensors(file(`${run}/state.safetensors`))).readF32(`teacher.${name}`);
  const inputsOf = (run: string) =>
    (JSON.parse(readFileSync(file(`${run}/run.json`), 'utf8')) as { inputs: Record<string, string> }).inputs;

  it('goes on from the weights of a file with a fresh optimizer', async () => {
    expect((await teach('from-file', '--init', file('teacher.safetensors'))).line).toBe('');
    const [before, after] = [
      await readSafetensors(file('teacher.safetensors')),
      await readSafetensors(file('from-file.safetensors')),
    ];
    for (const name of before.tensors.keys()) {
      // An average of equal numbers differs by its rounding.
      const [given, kept] = [await before.readF32(name), await after.readF32(name)];
      given.forEach((value, i) => expect(kept[i]).toBeCloseTo(value, 6));
    }
    expect((await arena('from-file', 'progress'))[2]).toBe(1);
    expect(after.metadata.semiflow).toContain('checkerboard');
  });

  it("goes on from a run with the run's optimizer", async () => {
    expect((await teach('from-run', '--init', file('rf'))).line).toBe('');
    expect(await arena('from-run', 'parameters')).toEqual(await arena('rf', 'parameters'));
    expect((await arena('from-run', 'progress'))[2]).toBe(4);
    // The same weights, batch and noise, and other moments: what is left of the run's is .9 and .99 of them.
    expect((await teach('from-weights', '--init', file('from-run.safetensors'))).line).toBe('');
    for (const [moment, decay] of [
      ['firstMoment', 0.9],
      ['secondMoment', 0.99],
    ] as const) {
      const [before, kept] = [await arena('rf', moment), await arena('from-run', moment)];
      const fresh = await arena('from-weights', moment);
      expect(Math.max(...before.map(Math.abs))).toBeGreaterThan(0);
      before.forEach((value, i) => expect(kept[i] - fresh[i]).toBeCloseTo(decay * value, 5));
    }
  });

  it('is part of what the run is, and resumes with it alone', async () => {
    expect(Object.keys(inputsOf('rf'))).toEqual(['data']);
    expect(inputsOf('from-file').init).toMatch(/^[0-9a-f]{64}$/);
    expect(inputsOf('from-run').init).not.toBe(inputsOf('from-file').init);
    const again = (name: string, ...flags: string[]) =>
      runHere(['teacher', '--resume', file(name), '--steps', '3', ...flags]);
    for (const [name, init, says] of [
      ['from-file', 'other.safetensors', /--init: the init is not what this run/],
      ['from-run', 'other.safetensors', /other\.safetensors: "net\.0\.weight" has shape/],
      ['rf', 'other.safetensors', /--init cannot go with --resume/],
    ] as const) {
      const { line, exitCode } = await again(name, '--init', file(init));
      expect(line).toMatch(says);
      expect(exitCode).toBe(2);
    }
    copyFileSync(file('teacher.safetensors'), file('teacher-moved.safetensors'));
    expect((await again('from-file')).line).toBe('');
    expect((await again('from-file', '--init', file('teacher-moved.safetensors'))).line).toBe('');
    expect((await again('from-run')).line).toBe('');
  });

  it('refuses in a line what does not fit', async () => {
    for (const [flags, says] of [
      [['--init', file('none.safetensors')], /none\.safetensors/],
      [['--init', file('run/student.safetensors')], /is a flow map, not a teacher/],
      [['--init', file('run')], /training of a flow-map, not of a teacher/],
      [['--init', folder], /is a folder without config\.json/],
      [
        ['--init', 'checkpoints/rf-fashion-mnist.safetensors'],
        /--data: checkerboard holds samples of shape \[2\], the network takes \[1,28,28\]/,
      ],
      [['--init', file('teacher.safetensors'), '--model', 'mlp'], /--model cannot go with --init/],
      [['--init', file('teacher.safetensors'), '--prediction', 'v'], /--prediction cannot go with --init/],
      [['--init', file('rf'), '--arch', 'x.yaml'], /leave --arch out/],
      [['--init', file('rf'), '--precision', 'f16'], /--precision: the optimizer that is to go on has no loss scale/],
    ] as const) {
      const { line, exitCode } = await teach('refused', ...flags);
      expect(line).toMatch(says);
      expect(exitCode).toBe(2);
      expect(existsSync(file('refused'))).toBe(false);
    }
    const { line } = await teach('from-file', '--init', file('from-file.safetensors'));
    expect(line).toMatch(/is the input itself/);
  });
});

describe('train --student', () => {
  const flags = ['--teacher', file('teacher.safetensors'), '--data', 'moons', '--batch', '8', '--no-evaluate'];
  const map = file('run/student.safetensors');
  const go = (name: string, ...more: string[]) =>
    runHere(['train', ...flags, '--method', 'lmd', '--steps', '1', '--out', file(name), ...more]);

  it('goes on from a flow map, which the run remembers', async () => {
    expect((await go('from-map', '--student', map, '--learning-rate', '1e-30')).line).toBe('');
    const [before, after] = [await readSafetensors(map), await readSafetensors(file('from-map/student.safetensors'))];
    for (const name of before.tensors.keys()) {
      const [given, kept] = [await before.readF32(name), await after.readF32(name)];
      given.forEach((value, i) => expect(kept[i]).toBeCloseTo(value, 6));
    }
    const again = (...more: string[]) =>
      runHere(['train', '--resume', file('from-map'), '--steps', '2', '--no-evaluate', ...more]);
    expect((await again('--student', file('from-map/student.safetensors'))).line).toMatch(/--student: the student is/);
    expect((await again()).line).toBe('');
  });

  it('refuses in a line what does not fit', async () => {
    for (const [more, says] of [
      [['--student', file('teacher.safetensors')], /--student: .* is a teacher: what goes on learning is a flow map/],
      [['--student', map, '--init', 'scratch'], /--student: .* cannot start from scratch/],
      [['--student', map, '--lora-rank', '2'], /--student: an adapter would be one of/],
      [['--student', 'checkpoints/flow-map-fashion-mnist.safetensors'], /the flow map to start from has no tensor/],
      [['--student', file('none.safetensors')], /none\.safetensors/],
    ] as const) {
      const { line, exitCode } = await go('refused', ...more);
      expect(line).toMatch(says);
      expect(exitCode).toBe(2);
      expect(existsSync(file('refused'))).toBe(false);
    }
  });
});
