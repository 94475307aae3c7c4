import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readSafetensors, writeSafetensors } from '../node/files.js';

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
    timeout: 280_000,
  });
  const complaints = stderr.split('\n').filter(Boolean);
  return { status, stdout, complaints };
}

describe('what only a device can tell', () => {
  it.each([
    [
      'a folder that cannot be made',
      ['train', '--teacher', teacher, '--data', 'moons', '--steps', '1', '--out', '/proc/none/run'],
      /\/proc\/none\/run/,
    ],
    ['an adapter that is not there', ['doctor', '--adapter', 'voodoo3'], /voodoo3/],
  ])('%s', (_, args, says) => {
    const { status, complaints } = semiflow(...args);
    expect(complaints.join('\n')).toMatch(says);
    expect(complaints).toHaveLength(1);
    expect(status).toBe(2);
  });

  it('a driver that is not there, in every command that computes, before anything is written', () => {
    const env = { ...process.env, VK_DRIVER_FILES: '/none' };
    const out = file('undriven.npy');
    const { status, stderr } = spawnSync(
      process.execPath,
      ['bin/semiflow.js', 'sample', '--model', teacher, '--out', out],
      { encoding: 'utf8', env },
    );
    expect(stderr).toBe('semiflow: VK_DRIVER_FILES=/none names no Vulkan driver: unset it\n');
    expect(status).toBe(1);
    expect(existsSync(out)).toBe(false);
  });

  it('ends quietly when nobody reads on', () => {
    for (const command of ['--help', 'train --help', 'doctor', `info ${teacher} ${teacher} ${teacher}`]) {
      const { stdout, stderr } = spawnSync('bash', ['-c', `node bin/semiflow.js ${command} | head -1`], {
        encoding: 'utf8',
      });
      expect(stdout.trim().split('\n')).toHaveLength(1);
      expect(stderr.split('\n').filter(Boolean)).toEqual([]);
    }
  });
});

describe('what the commands do', () => {
  it('checks the semigroup law: the flow map passes where the consistency student fails', () => {
    const check = (model: string) =>
      semiflow(
        'check',
        '--model',
        `checkpoints/${model}-fashion-mnist.safetensors`,
        '--samples',
        '32',
        '--out',
        file(`${model}.svg`),
      );
    const passed = check('flow-map');
    expect(passed.stdout).toMatch(/passed: within 0\.01/);
    expect(passed.status).toBe(0);
    const failed = check('consistency');
    expect(failed.stdout).toMatch(/failed: over 0\.01/);
    expect(failed.status).toBe(1);
    expect(readFileSync(file('flow-map.svg'), 'utf8').match(/"rect mark"/g)).toHaveLength(36);
  }, 300_000);

  describe('what one command writes the next one reads', () => {
    const map = 'checkpoints/flow-map-fashion-mnist.safetensors';
    const run = (...args: string[]) => {
      const { status, complaints } = semiflow(...args);
      expect(complaints).toEqual([]);
      expect(status).toBe(0);
    };
    const jump = (model: string, from: string, to: string, ...flags: string[]) =>
      run('jump', '--model', model, '--input', file(from), '--out', file(to), ...flags);
    const read = async (name: string, tensor = 'x') => (await readSafetensors(file(name))).readF32(tensor);

    it('a jump from the noise of samples gives the samples, class by class', async () => {
      run('sample', '--model', map, '--n', '13', '--seed', '8', '--out', file('drawn.safetensors'));
      jump(map, 'drawn.safetensors', 'again.safetensors', '--from', 'noise', '--t', '1', '--s', '0');
      expect(await read('again.safetensors')).toEqual(await read('drawn.safetensors'));
      expect(await read('again.safetensors', 'labels')).toEqual(await read('drawn.safetensors', 'labels'));
      // Other classes are other samples: the labels were not passed over.
      const { tensors } = await readSafetensors(file('drawn.safetensors'));
      expect(new Set(await read('drawn.safetensors', 'labels')).size).toBe(10);
      expect([...tensors.keys()].sort()).toEqual(['labels', 'noise', 'x']);
    }, 300_000);

    it('two jumps in a row are two steps of the sampler, without a class too', async () => {
      const times = ['--times', '1,0.5,0', '--label', 'none', '--n', '5'];
      run('sample', '--model', map, ...times, '--out', file('steps.safetensors'));
      expect(new Set(await read('steps.safetensors', 'labels'))).toEqual(new Set([-1]));
      jump(map, 'steps.safetensors', 'half.safetensors', '--from', 'noise', '--t', '1', '--s', '0.5');
      // Where the first jump ended is where the second one starts: the file says it.
      jump(map, 'half.safetensors', 'whole.safetensors', '--s', '0');
      expect(await read('whole.safetensors')).toEqual(await read('steps.safetensors'));
    }, 300_000);

    it('noise that invert found is jumped from as it lies', async () => {
      run('sample', '--model', map, '--n', '3', '--out', file('three.safetensors'));
      run('invert', '--model', map, '--input', file('three.safetensors'), '--out', file('found.safetensors'));
      expect(await read('found.safetensors', 't')).toEqual(Float32Array.of(1, 1, 1));
      jump(map, 'found.safetensors', 'back.safetensors', '--s', '0');
      const [there, back] = [await read('three.safetensors'), await read('back.safetensors')];
      const rms = Math.sqrt(there.reduce((sum, value, i) => sum + (value - back[i]) ** 2, 0) / there.length);
      expect(rms).toBeGreaterThan(0);
      // As far as two forward jumps of this map are from the identity (docs/experiments.md).
      expect(rms).toBeLessThan(0.7);
    }, 300_000);

    it('a teacher is sampled in 50 steps and inverted by as many, unless told otherwise', async () => {
      run('sample', '--model', teacher, '--n', '64', '--out', file('fine.safetensors'));
      run('invert', '--model', teacher, '--input', file('fine.safetensors'), '--out', file('start.safetensors'));
      const [noise, found] = [await read('fine.safetensors', 'noise'), await read('start.safetensors')];
      const rms = Math.sqrt(noise.reduce((sum, value, i) => sum + (value - found[i]) ** 2, 0) / noise.length);
      expect(rms).toBeLessThan(0.1);
    });

    it('refuses tensors that it would pass over', async () => {
      const x = { dtype: 'F32' as const, shape: [2, 2], data: new Float32Array(4) };
      for (const name of ['y', 'T']) {
        await writeSafetensors(file('odd.safetensors'), { x, [name]: { ...x, shape: [4] } });
        const { status, complaints } = semiflow(
          'velocity',
          '--model',
          teacher,
          '--input',
          file('odd.safetensors'),
          '--t',
          '1',
          '--out',
          file('no.safetensors'),
        );
        expect(status).toBe(2);
        expect(complaints).toHaveLength(1);
        expect(complaints[0]).toMatch(new RegExp(`holds ${name}, which would be passed over`));
        expect(existsSync(file('no.safetensors'))).toBe(false);
      }
    });
  });

  it('runs an experiment, writes everything, and does not repeat it', () => {
    const out = file('drift');
    const run = (...flags: string[]) => semiflow('experiment', 'drift', '--images', '16', '--out', out, ...flags);
    const first = run();
    expect(first.complaints).toEqual([]);
    for (const name of ['drift.json', 'drift.csv', 'drift.md', 'drift-1.png', 'report.html'])
      expect(existsSync(join(out, name))).toBe(true);
    const rows = readFileSync(join(out, 'drift.csv'), 'utf8').trim().split('\n');
    expect(rows).toHaveLength(1 + 4 * 4 * 16);
    const html = readFileSync(join(out, 'report.html'), 'utf8');
    expect(html).toMatch(/Expected: .*Seen: /s);
    const page = html.replace(/\s+/g, ' ');
    const second = run();
    expect(second.stdout).not.toMatch(/drift: flow map/);
    expect(readFileSync(join(out, 'report.html'), 'utf8').replace(/\s+/g, ' ')).toBe(page);
    expect(run('--seed', '1').complaints[0]).toMatch(/other settings/);
  }, 300_000);

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
