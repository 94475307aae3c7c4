import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readSafetensors, writeSafetensors } from '../src/checkpoint/file.js';

const folder = mkdtempSync(join(tmpdir(), 'semiflow-cli-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const file = (name: string, content?: string | Uint8Array) => {
  const path = join(folder, name);
  if (content !== undefined) writeFileSync(path, content);
  return path;
};
const teacher = 'checkpoints/rf-checkerboard.safetensors';

function semiflow(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['bin/semiflow.js', ...args], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  const complaints = stderr.split('\n').filter((line) => line && !line.startsWith('Warning: max'));
  return { status, stdout, complaints };
}

const bytes = readFileSync(teacher);
/** The second tensor claims to start where the first does. */
let seen = 0;
const overlapping = Buffer.from(
  bytes
    .toString('latin1')
    .replace(/(?<="data_offsets":\[)\d+(?=,)/g, (digits) => (seen++ === 1 ? '0'.padStart(digits.length, ' ') : digits)),
  'latin1',
);

describe('bad input gets one line, exit code 2, and leaves nothing behind', () => {
  const config = file('typo.yaml', 'steps: 100\noptimizer:\n  rate: 0.001\n  weihgtDecay: 1\n');
  const wrongKind = file('kind.yaml', 'steps: 100\nlambda:\n  lmd: much\n');
  const arch = file(
    'arch.yaml',
    'architecture: {kind: mlp, dim: 3, width: 128, depth: 4, activation: silu, time: features}\ntime: noise-at-1\nprediction: velocity\n',
  );
  const typo = file(
    'arch-typo.yaml',
    'architecture: {kind: mlp, dim: 2, widht: 128, depth: 4, activation: silu, time: features}\ntime: noise-at-1\nprediction: velocity\n',
  );
  const images = file('images-idx3-ubyte', 'not an IDX file at all');
  const out = join(folder, 'never');
  it.each([
    ['a missing file', ['train', '--teacher', join(folder, 'none.safetensors'), '--out', out], /none\.safetensors/],
    [
      'a truncated file',
      ['train', '--teacher', file('short.safetensors', bytes.subarray(0, bytes.length - 4)), '--out', out],
      /short\.safetensors/,
    ],
    [
      'an overlapping file',
      ['train', '--teacher', file('over.safetensors', overlapping), '--out', out],
      /over\.safetensors/,
    ],
    ['text instead of weights', ['info', file('text.safetensors', 'hello, this is only text')], /text\.safetensors/],
    [
      'a config typo, with its line',
      ['train', '--teacher', teacher, '--config', config, '--out', out],
      /typo\.yaml:4:\d+.*weihgtDecay/,
    ],
    [
      'a wrong kind of value',
      ['train', '--teacher', teacher, '--config', wrongKind, '--out', out],
      /kind\.yaml:3:\d+.*lambda\.lmd/,
    ],
    ['a wrong flag value', ['train', '--teacher', teacher, '--steps', 'many', '--out', out], /--steps/],
    ['another architecture', ['train', '--teacher', teacher, '--arch', arch, '--out', out], /shape/],
    [
      'an unknown key in a description',
      ['train', '--teacher', teacher, '--arch', typo, '--out', out],
      /arch-typo\.yaml.*wid/,
    ],
    [
      'data that is not what it claims',
      ['teacher', '--data', images, '--out', file('t.safetensors')],
      /images-idx3-ubyte/,
    ],
    ['no such data', ['teacher', '--data', 'chekerboard', '--out', file('t.safetensors')], /chekerboard/],
    [
      'a folder that cannot be made',
      ['train', '--teacher', teacher, '--data', 'moons', '--steps', '1', '--out', '/proc/none/run'],
      /\/proc\/none\/run/,
    ],
    ['a teacher where a flow map is wanted', ['eval', '--model', teacher, '--teacher', teacher], /flow map/],
    ['no teacher', ['train'], /--teacher/],
    ['a folder without a run', ['train', '--resume', folder], /holds no run/],
    ['an adapter that is not there', ['doctor', '--adapter', 'voodoo3'], /voodoo3/],
    ['samples to nowhere', ['sample', '--model', teacher, '--out', join(folder, 'x.gif')], /x\.gif|\.png/],
    ['a count that is none', ['sample', '--model', teacher, '--nfe', '0', '--out', file('x.npy')], /--nfe/],
  ])('%s', (_, args, says) => {
    const { status, complaints } = semiflow(...args);
    expect(complaints.join('\n')).toMatch(says);
    expect(complaints).toHaveLength(1);
    expect(status).toBe(2);
    expect(existsSync(out)).toBe(false);
    expect(existsSync(join(folder, 't.safetensors'))).toBe(false);
  });
});

describe('what the commands do', () => {
  it('prints the resolved recipe without a device', () => {
    const { status, stdout } = semiflow('train', '--teacher', teacher, '--lambda-emd', '0.25', '--print-config');
    expect(status).toBe(0);
    expect(stdout).toMatch(/emd: 0\.25/);
    expect(semiflow('train', '--teacher', teacher, '--checkpoint-blocks', '--print-config').stdout).toMatch(
      /checkpointBlocks: true/,
    );
  });

  it('imports a description into a foreign file and keeps its tensors', async () => {
    const foreign = file('foreign.safetensors');
    const own = await readSafetensors(teacher);
    const tensors = Object.fromEntries(
      await Promise.all(
        [...own.tensors].map(
          async ([name, { shape }]) => [name, { dtype: 'F32' as const, shape, data: await own.readF32(name) }] as const,
        ),
      ),
    );
    await writeSafetensors(foreign, tensors);
    const yaml = file(
      'own.yaml',
      'architecture: {kind: mlp, dim: 2, width: 128, depth: 4, activation: silu, time: features}\ntime: noise-at-1\nprediction: velocity\n',
    );
    expect(semiflow('info', foreign).stdout).toMatch(/does not say what it is/);
    expect(semiflow('import', '--arch', yaml, foreign, file('baked.safetensors')).status).toBe(0);
    expect(semiflow('info', file('baked.safetensors')).stdout).toMatch(/a teacher/);
    const baked = await readSafetensors(file('baked.safetensors'));
    for (const name of own.tensors.keys()) expect(await baked.readF32(name)).toEqual(await own.readF32(name));
  });

  it('velocity and one Euler step of samples agree', async () => {
    const x = Float32Array.of(0.3, -0.2, 1, 2, -1, 0.5);
    await writeSafetensors(file('x.safetensors'), { x: { dtype: 'F32', shape: [3, 2], data: x } });
    expect(
      semiflow(
        'velocity',
        '--model',
        teacher,
        '--input',
        file('x.safetensors'),
        '--t',
        '1',
        '--out',
        file('v.safetensors'),
      ).complaints,
    ).toEqual([]);
    const v = await (await readSafetensors(file('v.safetensors'))).readF32('v');
    expect(v).toHaveLength(6);
    expect(v.every(Number.isFinite)).toBe(true);
    // At t = 1 the velocity is x minus the mean of the data, which is 0 for the checkerboard.
    v.forEach((value, i) => expect(Math.abs(value - x[i])).toBeLessThan(0.3));
  });

  it('samples to a picture and to arrays, the same for the same seed', async () => {
    for (const name of ['a.png', 'a.npy', 'a.safetensors', 'b.safetensors']) {
      expect(
        semiflow('sample', '--model', teacher, '--nfe', '4', '--n', '16', '--seed', '3', '--out', file(name))
          .complaints,
      ).toEqual([]);
    }
    expect(readFileSync(file('a.png')).subarray(1, 4).toString()).toBe('PNG');
    expect(readFileSync(file('a.npy')).subarray(1, 6).toString()).toBe('NUMPY');
    expect(readFileSync(file('a.safetensors'))).toEqual(readFileSync(file('b.safetensors')));
  });

  it('doctor proves that the adapter computes', () => {
    const { status, stdout } = semiflow('doctor');
    expect(stdout).toMatch(/computes\s+yes/);
    expect(status).toBe(0);
  });
});
