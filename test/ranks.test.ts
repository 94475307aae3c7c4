import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { mpiVersion, ranksHere, startedAs } from '../node/mpi.js';

const there = spawnSync('mpirun', ['--version']).status === 0;
if (!there) console.log('5 tests of several ranks are left out: there is no mpirun (Debian, Ubuntu: openmpi-bin)');

const folder = mkdtempSync(join(tmpdir(), 'semiflow-ranks-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => join(folder, name);

const semiflow = [process.execPath, 'bin/semiflow.js'];
const mpirun = ['mpirun', '--oversubscribe', '--allow-run-as-root'];

interface Ended {
  code: number | null;
  out: string;
  err: string;
}

/** Runs a command line to its end. @param watch is called ten times a second with its process id */
function run([command, ...args]: readonly string[], watch?: (pid: number) => void): Promise<Ended> {
  return new Promise((done) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const watching = watch && setInterval(() => watch(child.pid!), 100);
    let [out, err] = ['', ''];
    child.stdout.on('data', (text: Buffer) => (out += text.toString()));
    child.stderr.on('data', (text: Buffer) => (err += text.toString()));
    // What the driver says of its own limits is of no interest here.
    const said = () => err.replace(/^Warning: maxDynamic.*\n/gm, '');
    child.on('close', (code) => {
      clearInterval(watching);
      done({ code, out, err: said() });
    });
  });
}
const ranks = (count: number, args: readonly string[]) => [...mpirun, '-n', String(count), ...semiflow, ...args];

/** What a run measured of its steps, but for what they took by the clock. */
const losses = (run: string): number[][] =>
  readFileSync(join(run, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => {
      const { seconds: _, stepsPerSecond: _1, ...metrics } = JSON.parse(line) as Record<string, number>;
      return Object.values(metrics);
    });

const architecture = at('small.yaml');
writeFileSync(
  architecture,
  'architecture: { kind: mlp, dim: 2, width: 16, depth: 1, activation: silu, time: features }\nprediction: velocity\n',
);
const teacher = (name: string, steps: number) => {
  const places = `--run ${at(name)} --out ${at(`${name}.safetensors`)}`;
  return `teacher --data moons --arch ${architecture} --batch 30 --steps ${steps} --log-every 1 ${places}`.split(' ');
};

it('knows by what it was started, and refuses what is no Open MPI', () => {
  expect(startedAs({})).toBeNull();
  expect(startedAs({ OMPI_COMM_WORLD_RANK: '2', OMPI_COMM_WORLD_SIZE: '4' })).toEqual({ rank: 2, size: 4 });
  expect(startedAs({ PMIX_RANK: '1', SLURM_STEP_NUM_TASKS: '2' })).toEqual({ rank: 1, size: 2 });
  expect(startedAs({ PMIX_RANK: '0' })).toEqual({ rank: 0, size: 0 });
  expect(() => startedAs({ PMI_RANK: '0' })).toThrow(/--mpi=pmix/);
  expect([{}, { OMPI_COMM_WORLD_LOCAL_SIZE: '4' }].map((env) => ranksHere(env))).toEqual([1, 4]);
});

describe.skipIf(!there)('under mpirun', { timeout: 120_000 }, () => {
  it('is the Open MPI that doctor names', async () => {
    expect(await mpiVersion()).toMatch(/^Open MPI v\d/);
  });

  it('two ranks train what one does, print and write once', async () => {
    const two = await run(ranks(2, [...teacher('two', 6), '--accumulate', '2']));
    expect(two.err).toBe('');
    expect(two.code).toBe(0);
    expect(two.out.match(/training in/g)).toHaveLength(1);
    const one = await run([...semiflow, ...teacher('one', 6)]);
    expect(one.code).toBe(0);
    expect(
      readdirSync(at('two'))
        .sort()
        .map((name) => name.replace(/\d+/, '')),
    ).toEqual(
      readdirSync(at('one'))
        .sort()
        .map((name) => name.replace(/\d+/, '')),
    );
    const [a, b] = [losses(at('two')), losses(at('one'))];
    expect(a.length).toBe(6);
    a.flat().forEach((value, i) => expect(value).toBeCloseTo(b.flat()[i], 5));
  });

  it('two ranks draw the samples of one', async () => {
    const model = 'checkpoints/flow-map-checkerboard.safetensors';
    const sample = (out: string) => `sample --model ${model} --n 33 --nfe 2 --out ${at(out)}`.split(' ');
    for (const [out, command] of [
      ['two.npy', ranks(2, sample('two.npy'))],
      ['one.npy', [...semiflow, ...sample('one.npy')]],
    ] as const) {
      expect(await run(command), out).toMatchObject({ code: 0, err: '' });
    }
    const [two, one] = ['two.npy', 'one.npy'].map((name) => {
      const bytes = readFileSync(at(name));
      return new Float32Array(
        bytes.buffer.slice(bytes.byteOffset + bytes.length - 33 * 8, bytes.byteOffset + bytes.length),
      );
    });
    two.forEach((value, i) => expect(value).toBeCloseTo(one[i], 4));
  });

  it('a rank that is killed ends all of them within seconds, and one goes on where two were', async () => {
    let killed = 0;
    const ended = await run(ranks(2, [...teacher('killed', 1_000_000), '--save-every', '0']), (pid) => {
      if (killed || !existsSync(at('killed/state.safetensors'))) return;
      const [victim] = execFileSync('pgrep', ['-P', String(pid)], { encoding: 'utf8' })
        .trim()
        .split('\n')
        .slice(-1);
      process.kill(Number(victim), 'SIGKILL');
      killed = performance.now();
    });
    expect(killed).toBeGreaterThan(0);
    expect((performance.now() - killed) / 1000).toBeLessThan(10);
    expect(ended.code).not.toBe(0);
    expect(ended.err).toMatch(/process rank 1 .*signal 9/);
    const saved = losses(at('killed')).length;
    const resumed = await run([...semiflow, 'teacher', '--resume', at('killed'), '--steps', String(saved + 20)]);
    expect(resumed).toMatchObject({ code: 0, err: '' });
  });

  it('ranks that would not do the same are refused in one line that names the rank', async () => {
    const other = ['-n', '1', ...semiflow, ...teacher('other', 6)];
    const ended = await run([...mpirun, ...other, ':', ...other, '--learning-rate', '0.5']);
    expect(ended.code).toBe(2);
    const said = ended.err.split('\n').filter((line) => line.startsWith('semiflow:'));
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(/rank 1 has another optimizer\.rate than rank 0 \(0\.5, not/);
    expect(existsSync(at('other'))).toBe(false);
  });
});
