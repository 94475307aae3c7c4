import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { mpiVersion, ranksHere, startedAs } from '../node/mpi.js';
import {
  killAndCompare,
  kills,
  metricsOf,
  oftenSaved,
  run,
  single,
  type Launcher,
  type Outcome,
} from './support/kills.js';

const there = spawnSync('mpirun', ['--version']).status === 0;
if (!there) console.log('6 tests of several ranks are left out: there is no mpirun (Debian, Ubuntu: openmpi-bin)');

const folder = mkdtempSync(join(tmpdir(), 'semiflow-ranks-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => join(folder, name);

const mpirun = ['mpirun', '--oversubscribe', '--allow-run-as-root'];
/** Ranks under mpirun, a random one of which is killed. */
const together = (count: number): Launcher => ({
  start: [...mpirun, '-n', String(count), ...single.start],
  kill: ({ pid }) => {
    const { stdout } = spawnSync('pgrep', ['-P', String(pid)], { encoding: 'utf8' });
    const living = stdout.trim().split('\n').filter(Boolean);
    const victim = living[Math.floor(Math.random() * living.length)];
    if (victim) process.kill(Number(victim), 'SIGKILL');
  },
});
/** The lines that are semiflow's own. */
const ownLines = (err: string) => err.split('\n').filter((line) => line.startsWith('semiflow:'));

/** Whether two runs measured the same, but for rounding. */
function expectClose(run: string, other: string, tolerance = 1e-5) {
  const [a, b] = [metricsOf(run), metricsOf(other)];
  expect(a.length).toBe(b.length);
  a.forEach((line, i) =>
    Object.entries(line).forEach(([name, value]) =>
      expect(Math.abs(value - b[i][name]), `${name} of line ${i}`).toBeLessThan(
        tolerance * Math.max(1, Math.abs(value)),
      ),
    ),
  );
}

const architecture = at('small.yaml');
writeFileSync(
  architecture,
  'architecture: { kind: mlp, dim: 2, width: 16, depth: 1, activation: silu, time: features }\nprediction: velocity\n',
);
const learning = (steps: number) =>
  `teacher --data moons --arch ${architecture} --batch 30 --steps ${steps}`.split(' ');
const into = (name: string) => ['--run', at(name), '--out', at(`${name}.safetensors`)];

it('knows by what it was started, and refuses what is no Open MPI', () => {
  expect(startedAs({})).toBeNull();
  expect(startedAs({ OMPI_COMM_WORLD_RANK: '2', OMPI_COMM_WORLD_SIZE: '4' })).toEqual({ rank: 2, size: 4 });
  expect(startedAs({ PMIX_RANK: '1', SLURM_STEP_NUM_TASKS: '2' })).toEqual({ rank: 1, size: 2 });
  expect(startedAs({ PMIX_RANK: '0' })).toEqual({ rank: 0, size: 0 });
  expect(() => startedAs({ PMI_RANK: '0' })).toThrow(/--mpi=pmix/);
  expect([{}, { OMPI_COMM_WORLD_LOCAL_SIZE: '4' }].map((env) => ranksHere(env))).toEqual([1, 4]);
});

describe.skipIf(!there)('under mpirun', { timeout: 600_000 }, () => {
  it('is the Open MPI that doctor names', async () => {
    expect(await mpiVersion()).toMatch(/^Open MPI v\d/);
  });

  it('two ranks train what one does, print and write once', async () => {
    const two = await run(together(2), [...learning(6), '--log-every', '1', ...into('two'), '--accumulate', '2']);
    expect(two).toMatchObject({ code: 0, err: '' });
    expect(two.out.match(/training in/g)).toHaveLength(1);
    expect(await run(single, [...learning(6), '--log-every', '1', ...into('one')])).toMatchObject({ code: 0 });
    const [a, b] = ['two', 'one'].map((name) => readdirSync(at(name)).map((file) => file.replace(/\d+/, '')));
    expect(a.sort()).toEqual(b.sort());
    expect(metricsOf(at('two'))).toHaveLength(6);
    expectClose(at('two'), at('one'));
  });

  it('two ranks draw the samples of one', async () => {
    const model = 'checkpoints/flow-map-checkerboard.safetensors';
    const drawn: Float32Array[] = [];
    for (const [out, launcher] of [
      ['two.npy', together(2)],
      ['one.npy', single],
    ] as const) {
      const args = `sample --model ${model} --n 33 --nfe 2 --out ${at(out)}`.split(' ');
      expect(await run(launcher, args), out).toMatchObject({ code: 0, err: '' });
      const bytes = readFileSync(at(out));
      drawn.push(
        new Float32Array(bytes.buffer.slice(bytes.byteOffset + bytes.length - 33 * 8, bytes.byteOffset + bytes.length)),
      );
    }
    drawn[0].forEach((value, i) => expect(value).toBeCloseTo(drawn[1][i], 4));
  });

  /** Whether the death of one rank ended all, within seconds. */
  function expectEnded({ err, secondsAfterKill }: Outcome) {
    expect(secondsAfterKill).toBeLessThan(20);
    expect(err).toMatch(/process rank \d .*signal 9/);
  }

  it('any rank that is killed ends all of them, and resumed they come to the same bytes; others go on to rounding', async () => {
    const others = kills ? [1, 3] : [1];
    const flags = [...learning(600).slice(1), ...oftenSaved, '--run', 'RUN', '--out', at('moons.safetensors')];
    const onKilled = (killed: string) =>
      others.forEach((count) => cpSync(killed, at(`killed-${count}`), { recursive: true }));
    const { alone, met } = await killAndCompare(
      { launcher: together(2), command: 'teacher', flags, onKilled },
      folder,
      1,
    );
    expect(met).toHaveLength(1);
    met.forEach(expectEnded);
    for (const count of others) {
      const launcher = count > 1 ? together(count) : single;
      const resumed = await run(launcher, ['teacher', '--resume', at(`killed-${count}`)]);
      expect(resumed).toMatchObject({ code: 0, err: '' });
      expectClose(at(`killed-${count}`), alone, 1e-3);
    }
  });

  it.skipIf(!kills)(`the same bytes after ${kills} kills (SEMIFLOW_KILLS)`, { timeout: 24 * 3_600_000 }, async () => {
    const recipe = ['--teacher', 'checkpoints/rf-checkerboard.safetensors', '--data', 'checkerboard', '--batch', '64'];
    const flags = [...recipe, '--steps', '300', ...oftenSaved, '--no-evaluate', '--out', 'RUN'];
    let killed = 0;
    for (let i = 0; killed < kills; i++) {
      const count = 2 + (i % 2);
      const compared = { launcher: together(count), command: 'train', flags } as const;
      const { met } = await killAndCompare(compared, folder, Math.min(10, kills - killed));
      met.forEach(expectEnded);
      killed += met.length;
      const seconds = met.map(({ secondsAfterKill }) => secondsAfterKill!.toFixed(1));
      console.log(`${killed} kills, of ${count} ranks now: all ended after ${seconds.join(', ')} s; the same bytes`);
    }
  });

  it('ranks that would not do the same are refused in one line that names the rank', async () => {
    const other = ['-n', '1', ...single.start, ...learning(6), ...into('other')];
    const launcher = { ...single, start: [...mpirun, ...other, ':', ...other] };
    const ended = await run(launcher, ['--learning-rate', '0.5']);
    expect(ended.code).toBe(2);
    expect(ownLines(ended.err)).toHaveLength(1);
    expect(ownLines(ended.err)[0]).toMatch(/rank 1 has another optimizer\.rate than rank 0 \(0\.5, not/);
    expect(existsSync(at('other'))).toBe(false);
  });

  it('what fails on one rank is told by that one alone', async () => {
    const module = at('broken.mjs');
    writeFileSync(
      module,
      `export default {
        name: 'broken',
        summary: 'none on rank 1',
        *target({ x, t, teacher }) {
          if (process.env.OMPI_COMM_WORLD_RANK === '1') throw new Error('no target');
          return yield* teacher(x, t);
        },
      };`,
    );
    const recipe = `--teacher checkpoints/rf-checkerboard.safetensors --data moons --objective ${module} --lambda-broken 1`;
    const ended = await run(together(2), ['train', ...recipe.split(' '), '--batch', '16', '--out', at('broken')]);
    expect(ended.code).toBe(1);
    expect(ownLines(ended.err)).toHaveLength(1);
    expect(ownLines(ended.err)[0]).toMatch(/^semiflow: rank 1 of 2: .*no target/);
  });
});
