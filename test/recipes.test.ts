import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import * as z from 'zod';
import { parseRecipe, parseYaml, resolveConfig, type KnobGroup } from '../cli/config.js';
import { classificationKnobs, distillationKnobs, teacherKnobs } from '../cli/knobs.js';
import { UserError } from '../src/errors.js';
import { together } from '../src/flow/questions.js';
import { add, mul } from '../src/ops/pointwise.js';
import {
  classificationDefaults,
  classificationSchema,
  distillationDefaults,
  distillationSchema,
  lambdaOf,
  teacherDefaults,
  teacherSchema,
  type DistillationConfig,
} from '../trainers/config.js';
import { checkRecipe, learnsFromData, methodNames, methodRecipe } from '../trainers/methods.js';
import { objectives, registerObjective } from '../trainers/objectives/index.js';
import type { Objective } from '../trainers/objectives/objective.js';

/** One from outside: the velocity and the target network's jump, half each. */
const halfway: Objective = registerObjective({
  name: 'halfWay',
  summary: 'the mean of the velocity and the jump, for a test',
  solver: 'rk4',
  solverSteps: 2,
  needsTeacher: true,
  smallDivisor: 'limit',
  *target({ x, t, s, teacher, target }) {
    const [v, u] = yield* together(teacher(x, t), target(x, t, s));
    return mul(add(v, u), 0.5);
  },
});

/** Names that every object has without being asked. */
const inherited = ['toString', 'constructor', '__proto__', 'hasOwnProperty', 'valueOf'];
const defaults = distillationDefaults([2], 'velocity');

const leaves = (schema: unknown, path = ''): string[] => {
  const bare = schema instanceof z.ZodDefault ? schema.unwrap() : schema;
  if (!(bare instanceof z.ZodObject)) return [path];
  return Object.entries(bare.shape).flatMap(([key, below]) => leaves(below, path ? `${path}.${key}` : key));
};

describe('a flag for every knob', () => {
  it.each([
    // Methods are chosen by a flag of the command's own.
    ['train', distillationSchema(), distillationKnobs(), ['method']],
    ['teacher', teacherSchema, teacherKnobs, []],
    ['classifier', classificationSchema, classificationKnobs, []],
  ] as [string, z.ZodType, KnobGroup[], string[]][])(
    '%s: each leaf of the schema has exactly one',
    (_, schema, groups, others) => {
      const knobs = groups.flatMap((group) => group.knobs);
      for (const leaf of leaves(schema)) {
        const found = knobs.filter(({ path }) => `${leaf}.`.startsWith(`${path}.`));
        expect(found.length, leaf).toBe(others.includes(leaf) ? 0 : 1);
      }
      expect(new Set(knobs.map(({ flag }) => flag)).size).toBe(knobs.length);
      for (const { path } of knobs) expect(leaves(schema).some((leaf) => `${leaf}.`.startsWith(`${path}.`))).toBe(true);
    },
  );
});

describe('an objective from outside', () => {
  it('has its weight, solver, steps, flags and help as those that are built in', () => {
    expect(objectives().at(-1)).toBe(halfway);
    expect(defaults.lambda.halfWay).toBe(0);
    expect(defaults.solver).toMatchObject({ halfWay: 'rk4', halfWaySteps: 2, lmd: 'euler', trajectorySteps: 3 });
    const knobs = distillationKnobs().flatMap((group) => group.knobs);
    expect(knobs.find(({ path }) => path === 'lambda.halfWay')).toMatchObject({
      flag: 'lambda-half-way',
      help: halfway.summary,
    });
    const flags = { lambdaHalfWay: '0.5', solverHalfWay: 'heun', halfWaySteps: '4' };
    const recipe = resolveConfig(distillationSchema(), defaults, distillationKnobs(), flags);
    expect([recipe.lambda.halfWay, recipe.solver.halfWay, recipe.solver.halfWaySteps]).toEqual([0.5, 'heun', 4]);
  });
  it('is refused by what it says of itself', () => {
    const alone = { ...defaults, lambda: lambdaOf({ halfWay: 1 }) };
    expect(() => checkRecipe(alone, true)).not.toThrow();
    expect(() => checkRecipe({ ...alone, velocity: 'data' }, true)).toThrow(/halfWay asks for the velocity/);
    const half = { ...alone, precision: 'f16' as const };
    expect(() => checkRecipe(half, true)).not.toThrow();
    expect(() => checkRecipe({ ...half, tangent: { ...half.tangent, form: 'limit' } }, true)).toThrow(
      /halfWay divides/,
    );
  });
  it.each([
    [{ ...halfway }, /named halfWay already/],
    [{ ...halfway, name: 'Half way' }, /Half way: name/],
    [{ ...halfway, name: 'manySteps' }, /ends with Steps/],
    [{ ...halfway, name: 'loss' }, /loss/],
    [{ ...halfway, name: 'other', solver: 'toString' }, /other: solver/],
    [{ ...halfway, name: 'other', target: 3 }, /other: target: a function/],
    [{ ...halfway, name: 'other', sumary: '' }, /sumary/],
    [{ name: 'other', target: halfway.target }, /other: summary/],
    [null, /an objective/],
  ] as [Objective, RegExp][])('%j is refused in a line', (objective, says) => {
    expect(() => registerObjective(objective)).toThrow(says);
    expect(() => registerObjective(objective)).toThrow(UserError);
    expect(objectives().at(-1)).toBe(halfway);
  });
});

describe('methods', () => {
  const kinds = [defaults, distillationDefaults([1, 28, 28], 'data', true)];
  const cases = methodNames.flatMap((name) => kinds.map((kind) => [name, kind] as const));
  it.each(cases)('%s is a recipe, and what is printed of it reads back as the same', (name, kind) => {
    for (const hasTeacher of [true, false]) {
      if (!hasTeacher && !learnsFromData(name, kind)) {
        expect(() => methodRecipe(name, kind, false)).toThrow(/needs a teacher; without one there are/);
        continue;
      }
      const recipe = methodRecipe(name, kind, hasTeacher);
      expect(distillationSchema().parse(recipe)).toEqual(recipe);
      expect(() => checkRecipe(recipe, hasTeacher)).not.toThrow();
      expect(recipe.method).toBe(name);
      const file = { name: 'printed.yaml', text: stringify(recipe) };
      const other = methodRecipe(name, distillationDefaults([3], 'noise'), true);
      expect(resolveConfig(distillationSchema(), other, distillationKnobs(), {}, file)).toEqual(recipe);
      // As a run's own config.yaml has it.
      const saved = { name: 'config.yaml', text: stringify({ teacher: 'a.safetensors', recipe }) };
      expect(resolveConfig(distillationSchema(), other, distillationKnobs(), {}, saved)).toEqual(recipe);
      expect(parseRecipe(saved).made.teacher).toBe('a.safetensors');
    }
  });
  it.each([...inherited, '', 'fmap '])('"%s" is none', (name) => {
    expect(() => methodRecipe(name, defaults, true)).toThrow(/is none: choose one of fmap/);
    expect(() => lambdaOf(Object.fromEntries([[name, 1]]))).toThrow(/is no objective/);
  });
  it('guidance has no one to guide where the data leads', () => {
    const recipe = { ...methodRecipe('meanflow', defaults, false), guidance: { from: 2, to: 2 } };
    expect(() => checkRecipe(recipe, false)).toThrow(/guidance/);
  });
});

describe('what a configuration says', () => {
  const [schema, groups] = [distillationSchema(), distillationKnobs()];
  const resolve = (flags: Record<string, unknown>, text?: string): DistillationConfig =>
    resolveConfig(schema, defaults, groups, flags, text === undefined ? undefined : { name: 'f.yaml', text });
  const numbers = [
    '1e300',
    '-1e300',
    '1e-300',
    '9007199254740993',
    '-1',
    '0',
    '1',
    '0.5',
    '12345678901234567890',
    '1e999',
  ];
  const knobs = groups.flatMap((group) => group.knobs);
  it.each(knobs.map(({ flag, path, range }) => [flag, path, range] as const))(
    '--%s takes no number that would be another one in use, and no word that is none',
    (flag, path, range) => {
      const camel = flag.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
      for (const text of [...numbers, ...inherited, '', ' ', '0x10', '1..2..3', '1 2', 'NaN', 'Infinity']) {
        let recipe: DistillationConfig;
        try {
          recipe = resolve({ [camel]: text });
        } catch (error) {
          expect(error).toBeInstanceOf(UserError);
          expect((error as Error).message).toContain(`--${flag}`);
          continue;
        }
        const value = path.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], recipe);
        for (const number of range ? Object.values(value as object) : [value]) {
          expect(number, text).toBe(Number(text));
          expect(Number.isSafeInteger(number) || Number.isFinite(Math.fround(number as number))).toBe(true);
          // What becomes 0 may be 0.
          if (Math.fround(number as number) === 0) expect(() => resolve({ [camel]: '0' })).not.toThrow();
        }
      }
    },
  );
  it.each([
    ['stps: 1\n', 'f.yaml:1:1: stps'],
    ['steps: 10\n\nlambda:\n  lmd: 1\n  emdd:\n    deep:\n      er: 1\n', 'f.yaml:5:3: lambda.emdd'],
    ['ema: {target: {decay: 0.5, lawx: decay}}\n', 'f.yaml:1:28: ema.target.lawx'],
    ['"toString": 1\n', 'f.yaml:1:1: toString'],
    ['steps: 5\n__proto__:\n  steps: 7\n', 'f.yaml:2:1: __proto__'],
    ['times:\n  constructor: 1\n', 'f.yaml:2:3: times.constructor'],
    ['steps: 5\nseed: 9007199254740993\n', 'f.yaml:2:7: seed'],
    ['optimizer:\n  rate: 1e300\n', 'f.yaml:2:9: optimizer.rate'],
    ['lambda: 3\n', 'f.yaml:1:9: lambda'],
    ['teacher: a\nrecipe:\n  steps: 5\n  stps: 1\n', 'f.yaml:4:3: stps'],
    ['teacher: 3\nrecipe: {steps: 5}\n', 'f.yaml:1:10: teacher'],
    ['recipe: 3\n', 'f.yaml:1:9: recipe'],
    ['- 1\n', 'f.yaml: a mapping'],
    ['a: *b\n', 'f.yaml:'],
    ['steps: 1\nsteps: 2\n', 'f.yaml:2:1'],
    ['steps: [\n', 'f.yaml:'],
  ])('%j is refused where it stands', (text, where) => {
    expect(() => resolve({}, text)).toThrow(UserError);
    expect(() => resolve({}, text)).toThrow(where);
  });
  it('takes keys of its own alone', () => {
    expect(parseYaml('steps: 5', 'f').tree).toEqual({ steps: 5 });
    expect(resolve({}, 'steps: 5\nema:\n  target:\n    decay: 0.5\n').ema.target).toEqual({
      ...defaults.ema.target,
      decay: 0.5,
    });
    expect(teacherSchema.parse(teacherDefaults([1, 28, 28]))).toEqual(teacherDefaults([1, 28, 28]));
    expect(classificationSchema.parse(classificationDefaults)).toEqual(classificationDefaults);
  });
});

describe('on the command line', () => {
  const folder = mkdtempSync(join(tmpdir(), 'semiflow-recipes-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const printed = (...flags: string[]) => {
    const args = ['bin/semiflow.js', 'train', ...flags, '--print-config'];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 100_000 });
    expect(status, stderr).toBe(0);
    return stdout;
  };
  const teacher = ['--teacher', 'checkpoints/rf-checkerboard.safetensors'];

  it('a method is printed before there is a teacher or data', () => {
    const text = printed('--method', 'meanflow');
    expect(text).toMatch(/^# of points/);
    expect(distillationSchema().parse(parseYaml(text, 'printed').tree)).toMatchObject({
      method: 'meanflow',
      velocity: 'data',
    });
  });
  it('an objective of a module anywhere has its flags, and a run that is made of it says so', () => {
    // That of the documentation.
    const [, text] = /```ts\n(.*?)```/s.exec(
      readFileSync('docs/recipes.md', 'utf8').split("## An objective of one's own")[1],
    )!;
    const module = join(folder, 'halves.ts');
    writeFileSync(module, text);
    const shown = printed(...teacher, '--objective', module, '--lambda-halves', '0.25');
    expect(parseYaml(shown, 'printed').tree).toMatchObject({
      objectives: [module],
      recipe: { lambda: { halves: 0.25, lmd: 0.1875 } },
    });
    // What is printed names teacher and module, and so does a run's own configuration.
    const config = join(folder, 'config.yaml');
    writeFileSync(config, shown);
    expect(printed('--config', config)).toBe(shown);
  });
});
