import { describe, expect, it } from 'vitest';
import { check, parseYaml } from '../cli/config.js';
import { memoryStore, readText } from '../src/files/store.js';
import type { EqualSteps } from '../src/metrics/flow-map.js';
import { studentQuantile } from '../src/metrics/estimate.js';
import type { Evaluation } from '../trainers/evaluation/evaluation.js';
import { runStudy, studyRuns, studySchema } from '../trainers/study.js';

const planOf = (text: string) => {
  const { tree, locate } = parseYaml(text, 'study.yaml');
  return check(studySchema, tree, (key) => `study.yaml${locate(key)}`);
};

describe('a plan of a study', () => {
  it.each([
    ['no recipes', 'seeds: [0]', /^study\.yaml.*recipes/],
    ['null for recipes', 'seeds: [0]\nrecipes:', /recipes/],
    ['recipes without one', 'seeds: [0]\nrecipes: {}', /one recipe at least/],
    ['recipes as a list', 'seeds: [0]\nrecipes: [a, b]', /recipes/],
    ['no seeds', 'recipes: {a: {}}', /seeds/],
    ['an empty list of seeds', 'seeds: []\nrecipes: {a: {}}', /one seed at least/],
    ['a seed twice', 'seeds: [3, 0, 3]\nrecipes: {a: {}}', /study\.yaml:1:\d+.*stands twice/],
    ['a seed that is none', 'seeds: [0.5]\nrecipes: {a: {}}', /seeds/],
    ['a seed beyond whole numbers', 'seeds: [9007199254740993]\nrecipes: {a: {}}', /seeds/],
    ['a name that climbs out', 'seeds: [0]\nrecipes: {../up: {}}', /letter or a digit/],
    ['the folder above as a name', 'seeds: [0]\nrecipes: {"..": {}}', /letter or a digit/],
    ['the folder itself as a name', 'seeds: [0]\nrecipes: {".": {}}', /letter or a digit/],
    ['a path as a name', 'seeds: [0]\nrecipes: {/tmp/a: {}}', /letter or a digit/],
    ['a backslash in a name', 'seeds: [0]\nrecipes: {"a\\\\..\\\\b": {}}', /letter or a digit/],
    ['an empty name', 'seeds: [0]\nrecipes: {"": {}}', /letter or a digit/],
    ['the name of a prototype', 'seeds: [0]\nrecipes: {__proto__: {}, a: {}}', /letter or a digit/],
    ['names that a disk may not tell apart', 'seeds: [0]\nrecipes: {a: {}, A: {}}', /differs in case/],
    ['a recipe that is none', 'seeds: [0]\nrecipes: {a: 3}', /recipes\.a/],
    ['an unknown key', 'seeds: [0]\nrecipes: {a: {}}\nseed: 1', /seed/],
    ['nothing', '', /seeds|recipes/],
  ])('with %s is refused in one line', (_, text, says) => {
    let message = '';
    expect(() => {
      try {
        planOf(text);
      } catch (error) {
        message = (error as Error).message;
        throw error;
      }
    }).toThrow(says);
    expect(message).not.toContain('\n');
  });

  it('becomes runs whose recipes override what is common', () => {
    const plan = planOf(
      'seeds: [1, 4]\ncommon: {steps: 5, optimizer: {rate: 1, beta1: 2}}\nrecipes: {a: {optimizer: {rate: 3}}, b.2: }',
    );
    expect(studyRuns(plan).map(({ path }) => path)).toEqual(['a/seed-1', 'a/seed-4', 'b.2/seed-1', 'b.2/seed-4']);
    expect(studyRuns(plan)[1].recipe).toEqual({ steps: 5, optimizer: { rate: 3, beta1: 2 }, seed: 4 });
  });
});

/** An evaluation whose errors are all one number. */
const evaluation = (error: number, worth: EqualSteps, quality = true): Evaluation => ({
  report: {
    samples: 1,
    seed: 0,
    truth: 'a table',
    operatorRmse: error,
    byJump: [],
    jumps: [1, 2].map((jumps) => ({ jumps, rmse: error / jumps })),
    solvers: [],
    worthEulerSteps: worth,
    tangentRmse: error,
    drift: [{ hops: 2, drift: 0 }],
  },
  fit: null,
  quality: quality ? [{ samples: '1 jump', by: 'flow map', steps: 1, slicedW2: error, mmd2: null }] : [],
  tables: [],
});

describe('a study', () => {
  const results: Record<string, Evaluation> = {
    'a/seed-0': evaluation(1, { steps: 3, relation: '=' }),
    'a/seed-1': evaluation(2, { steps: 96, relation: '>' }),
    'a/seed-2': evaluation(6, { steps: 96, relation: '>' }),
    'b/seed-0': evaluation(1, { steps: 1, relation: '<' }),
    'b/seed-1': evaluation(1, { steps: 7, relation: '=' }),
    'b/seed-2': evaluation(1, { steps: 9, relation: '=' }),
  };

  it('runs what is not done, stops where it is interrupted, and says bounds where only bounds are known', async () => {
    const plan = planOf('seeds: [0, 1, 2]\nrecipes: {a: {}, b: {}}');
    const store = memoryStore('a study');
    const ran: string[] = [];
    const run = (interruptAt?: string) =>
      runStudy(plan, {
        title: 'the study',
        store,
        text: 'seeds',
        carryOut: async ({ path }) => {
          if (path === interruptAt) return false;
          ran.push(path);
          await store.write(`${path}/evaluation.json`, JSON.stringify(results[path]));
          return true;
        },
      });
    expect(await run('b/seed-0')).toBeNull();
    expect(await readText(store, 'study.md')).toBeNull();
    const { rows, table } = (await run())!;
    expect(ran).toEqual(Object.keys(results));
    expect(rows[0].random.mean).toBe(3);
    expect(rows[0].random.half).toBeCloseTo(studentQuantile(0.95, 2) * Math.sqrt(7 / 3), 12);
    const cells = Object.fromEntries(table.table.rows.map((row) => [row[0], row.at(-1)]));
    expect(cells).toEqual({ a: '> 96 (3 … > 96)', b: '7 (< 1 … 9)' });
    // Nothing drifts, which a logarithmic axis cannot show.
    expect(await readText(store, 'study.html')).toContain('not drawn: ');
    expect(await readText(store, 'study.md')).toContain('± half of Student');
    await store.write('a/seed-1/evaluation.json', '{"report":');
    await expect(run()).rejects.toThrow('a study/a/seed-1/evaluation.json is damaged');
  });

  it('of one seed and no data has no interval', async () => {
    const store = memoryStore();
    const { table } = (await runStudy(planOf('seeds: [0]\nrecipes: {a: {}}'), {
      title: 'one',
      store,
      text: '',
      carryOut: async ({ path }) => {
        await store.write(`${path}/evaluation.json`, JSON.stringify(evaluation(2, { steps: 4, relation: '=' }, false)));
        return true;
      },
    }))!;
    expect(table.heading).toContain('one seed');
    expect(table.table.rows).toEqual([['a', '2.00', '2.00', '1.00', '0.00', '–', '4']]);
  });
});
