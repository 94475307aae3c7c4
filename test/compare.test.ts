import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { folderStore } from '../node/folder.js';
import type { EqualSteps } from '../src/metrics/flow-map.js';
import { compareRuns, type ComparedRun } from '../trainers/compare.js';
import type { Evaluation } from '../trainers/evaluation/evaluation.js';
import { RunFiles } from '../trainers/run-files.js';
import { runHere } from './support/command-line.js';

const folder = mkdtempSync(join(tmpdir(), 'semiflow-compare-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => join(folder, name);

function evaluationOf(error: number, over: Partial<Evaluation['report']> = {}, frechet?: number): Evaluation {
  const worth: EqualSteps = { steps: 10 / error, relation: '=' };
  return {
    report: {
      samples: 64,
      seed: 0,
      truth: 'the exact flow of moons',
      operatorRmse: error,
      byJump: [],
      jumps: [1, 2, 4].map((jumps) => ({ jumps, rmse: error / jumps })),
      solvers: [],
      worthEulerSteps: worth,
      tangentRmse: error,
      drift: [{ hops: 2, drift: error / 100 }],
      ...over,
    },
    fit: null,
    quality: [
      {
        samples: '1 jump',
        by: 'flow map',
        steps: 1,
        slicedW2: error,
        mmd2: null,
        ...(frechet !== undefined && { features: { frechet } }),
      },
    ],
    tables:
      frechet === undefined
        ? []
        : [{ heading: '', table: { columns: [], rows: [] }, notes: ['few samples read high'] }],
  };
}
const run = (name: string, recipe: object, evaluation: Evaluation, over: Partial<ComparedRun> = {}): ComparedRun => ({
  name,
  folder: `runs/${name}`,
  recipe: { steps: 10, ...recipe },
  inputs: { teacher: 'a', data: 'b' },
  evaluation,
  seconds: 90,
  ...over,
});

describe('runs side by side', () => {
  it('are a row each, those that differ in their seed alone one row with an interval', () => {
    const runs = [
      run('a', { method: 'fmap', seed: 0 }, evaluationOf(1)),
      run('b', { method: 'fmap', seed: 1 }, evaluationOf(3)),
      run('c', { method: 'lmd', seed: 0 }, evaluationOf(2, {}, 7)),
    ];
    const { rows, table, notes, runs: told } = compareRuns(runs);
    expect(rows.map(({ name, seeds, random }) => [name, seeds, random.mean])).toEqual([
      ['a + b', 2, 2],
      ['c', 1, 2],
    ]);
    expect(rows[0].random.half).toBeGreaterThan(0);
    expect(rows.map(({ frechet }) => frechet?.mean)).toEqual([undefined, 7]);
    expect(table.columns).toContain('Fréchet, 1 jump');
    expect(table.rows.map((row) => row.slice(0, 5))).toEqual([
      ['a + b', 'fmap', 10, 2, 1.5],
      ['c', 'lmd', 10, 1, 1.5],
    ]);
    expect(notes).toEqual(['few samples read high']);
    expect(told.map(({ row }) => row)).toEqual(['a + b', 'a + b', 'c']);
  });

  it('are rows of their own where they are the same run made twice', () => {
    const runs = ['a', 'b', 'c'].map((name, i) => run(name, { seed: i % 2 }, evaluationOf(1)));
    expect(compareRuns(runs).rows.map(({ name }) => name)).toEqual(['a + b', 'c']);
  });

  it('are told apart by their folders where they have one name', () => {
    const runs = ['x', 'y'].map((place, i) =>
      run('run', { seed: 0, batch: i }, evaluationOf(1), { folder: `${place}/run` }),
    );
    expect(compareRuns(runs).rows.map(({ name }) => name)).toEqual(['x/run', 'y/run']);
  });

  it('say where figures are not comparable', () => {
    const first = run('a', {}, evaluationOf(1));
    const notesOf = (other: ComparedRun) => compareRuns([first, other]).notes.join('; ');
    expect(notesOf(run('b', { batch: 1 }, evaluationOf(1)))).toBe('');
    expect(notesOf(run('b', {}, evaluationOf(1), { inputs: { teacher: 'z', data: 'b' } }))).toMatch(
      /b was made from another teacher than a/,
    );
    expect(notesOf(run('b', {}, evaluationOf(1), { inputs: { data: 'z' } }))).toMatch(/another teacher.*another data/);
    for (const over of [{ samples: 8 }, { seed: 3 }, { truth: 'the teacher' }])
      expect(notesOf(run('b', {}, evaluationOf(1, over)))).toMatch(/their errors are not comparable/);
  });
});

describe('semiflow compare', () => {
  const made = async (name: string, seed: number, error: number | null, kind = 'flow-map') => {
    const recipe = { method: name.split('/')[0], steps: 10, seed };
    const files = await RunFiles.create(folderStore(at(name)), { kind, recipe, inputs: { teacher: 'a' } });
    await files.log([{ step: 10, loss: 1, gradientNorm: 1, seconds: 120 }]);
    if (error !== null) await files.write('evaluation.json', JSON.stringify(evaluationOf(error)));
    return at(name);
  };

  it('prints a table or JSON, writes every format, and takes the folder of a study', async () => {
    await made('fmap/seed-0', 0, 1);
    await made('fmap/seed-1', 1, 2);
    await made('lmd/seed-0', 0, 3);
    const outputs = ['c.html', 'c.md', 'c.json', 'c.svg'].map(at);
    const { line, output } = await runHere(['compare', folder, ...outputs.flatMap((out) => ['--out', out])]);
    expect(line).toBe('');
    expect(output).toMatch(/method .*RMSE, random/);
    expect(output).toMatch(/ lmd /);
    expect(readFileSync(at('c.html'), 'utf8')).toContain('<svg');
    expect(readFileSync(at('c.md'), 'utf8')).toMatch(/^\| run/);
    expect(readFileSync(at('c.svg'), 'utf8')).toMatch(/^<svg/);
    const json = await runHere(['compare', at('fmap/seed-0'), at('lmd/seed-0'), at('fmap/seed-0'), '--json']);
    const told = JSON.parse(json.output) as { runs: { seconds: number }[]; rows: { random: { mean: number } }[] };
    expect(told.runs.map(({ seconds }) => seconds)).toEqual([120, 120]);
    expect(told.rows.map(({ random }) => random.mean)).toEqual([1, 3]);
    expect((JSON.parse(readFileSync(at('c.json'), 'utf8')) as typeof told).rows).toHaveLength(2);
  });

  it('refuses in one line what it cannot compare, before anything is written', async () => {
    const unfinished = await made('emd/seed-0', 0, null);
    const idle = await made('lmd/seed-9', 9, null);
    const other = await made('rf', 0, 1, 'teacher');
    const good = await made('ctm/seed-0', 0, 1);
    const damaged = await made('semigroup/seed-0', 0, 1);
    await folderStore(damaged).write('evaluation.json', '{"report": ');
    for (const [args, says] of [
      [[good, unfinished], /emd.seed-0 has no evaluation: `(npx )?semiflow train --resume \S*emd.seed-0` makes one$/],
      [
        [unfinished, good, idle],
        /emd.seed-0, \S*lmd.seed-9 have no evaluation: `(npx )?semiflow train --resume FOLDER`/,
      ],
      [[good, other], /is the training of a teacher/],
      [[good, damaged], /evaluation\.json is damaged/],
      [[good], /two runs and more/],
      [[good, at('nowhere')], /holds no run/],
      [[good, good, '--out', at('x.png')], /\.html or/],
      [[], /missing required argument/],
    ] as const) {
      const { line, exitCode } = await runHere([
        'compare',
        ...args,
        ...(args.length > 3 ? [] : ['--out', at('never.md')]),
      ]);
      expect(line).toMatch(says);
      expect(line).not.toMatch(/fault of semiflow/);
      expect(exitCode).toBe(2);
      expect(existsSync(at('never.md'))).toBe(false);
    }
  });
});
