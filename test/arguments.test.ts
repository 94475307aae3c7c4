import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CommanderError, type Command, type Option } from 'commander';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { numberBetween, parseNumber, sampleCount, wholeNumber } from '../cli/arguments.js';
import { failureOf } from '../cli/failures.js';
import { createProgram, flagOf } from '../cli/program.js';
import { DivergenceError, SemiflowError, UserError } from '../src/errors.js';

// A flag that is wrong is found before a device is opened: a command that comes so far has taken it.
vi.mock('../cli/session.js', () => ({
  openSession: () => Promise.reject(new Error('a device was asked for')),
}));

const folder = mkdtempSync(join(tmpdir(), 'semiflow-flags-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const out = (name: string) => join(folder, name);

describe('numbers', () => {
  it.each(['', ' ', ' 5', '5 ', '0x10', '0b1', '1_000', '1,5', 'NaN', 'Infinity', '1e999', '.', 'e5', '--1', '1..2'])(
    '"%s" is none',
    (text) => {
      expect(parseNumber(text)).toBeUndefined();
      expect(() => wholeNumber('--n', text, { least: 0 })).toThrow(UserError);
      expect(() => numberBetween('--t', text, -1e300, 1e300)).toThrow(UserError);
    },
  );

  it.each([
    ['12', 12],
    ['+3', 3],
    ['-0', 0],
    ['1e3', 1000],
    ['.5', 0.5],
    ['5.', 5],
    ['-2.5e-3', -0.0025],
  ])('"%s" is one', (text, value) => {
    expect(parseNumber(text)).toBe(value);
  });

  it('whole numbers are exact or refused', () => {
    expect(wholeNumber('--seed', '9007199254740991', { least: 0 })).toBe(Number.MAX_SAFE_INTEGER);
    for (const text of ['9007199254740992', '9007199254740993', '1e300'])
      expect(() => wholeNumber('--seed', text, { least: 0 })).toThrow(/beyond 2\^53/);
    expect(() => wholeNumber('--n', '1.5', { least: 0 })).toThrow(/whole/);
    expect(() => wholeNumber('--n', '-1', { least: 0 })).toThrow(/at least 0/);
    expect(() => wholeNumber('--n', '9', { least: 0, most: 8, because: 'so it is' })).toThrow(/at most 8, so it is/);
  });

  it('counts of samples are bounded by memory', () => {
    expect(sampleCount('--n', '1000', 784)).toBe(1000);
    for (const [text, size] of [
      ['1e12', 2],
      ['1e9', 784],
      ['1e7', 3 * 256 * 256],
    ] as const)
      expect(() => sampleCount('--n', text, size)).toThrow(/memory/);
  });
});

const teacher = 'checkpoints/rf-checkerboard.safetensors';
const map = 'checkpoints/flow-map-fashion-mnist.safetensors';
const idx = (name: string, sizes: number[], values: number) => {
  const header = Buffer.from([0, 0, 8, sizes.length, ...sizes.flatMap((size) => [0, 0, size >> 8, size & 255])]);
  const body = Buffer.from(Array.from({ length: sizes.reduce((a, b) => a * b) }, (_, i) => (i * 37) % values));
  writeFileSync(out(name), Buffer.concat([header, body]));
  return out(name);
};
const pictures = idx('train-images-idx3-ubyte', [40, 8, 8], 256);
idx('train-labels-idx1-ubyte', [40], 4);
const recipe = out('study.yaml');
writeFileSync(recipe, `teacher: ${teacher}\nseeds: [0]\nrecipes: {a: {steps: 1}}\n`);

/** Arguments with which a command would open a device. */
const enough: Record<string, string[]> = {
  demo: ['--out', out('demo')],
  train: ['--teacher', teacher, '--out', out('run')],
  teacher: ['--data', pictures, '--out', out('t.safetensors'), '--run', out('teacher')],
  classifier: ['--data', pictures, '--out', out('c.safetensors'), '--run', out('classifier')],
  sample: ['--model', teacher, '--out', out('x.npy')],
  jump: ['--model', map, '--input', out('none'), '--out', out('j.safetensors')],
  invert: ['--model', map, '--input', out('none'), '--out', out('i.safetensors')],
  velocity: ['--model', map, '--input', out('none'), '--out', out('v.safetensors')],
  merge: ['--model', teacher, '--lora', teacher, '--out', out('m.safetensors')],
  study: [recipe, '--out', out('study')],
  experiment: ['steps', '--out', out('experiment')],
  check: ['--model', map, '--out', out('check.svg')],
  eval: ['--model', map, '--teacher', 'checkpoints/rf-fashion-mnist.safetensors', '--out', out('e.json')],
  bias: ['--teacher', teacher],
};

/** Runs the command line here; returns what it threw. */
async function run(args: readonly string[]): Promise<unknown> {
  const spies = [vi.spyOn(console, 'log'), vi.spyOn(process.stdout, 'write')];
  for (const spy of spies) spy.mockImplementation(() => true as never);
  try {
    await createProgram().parseAsync(['node', 'semiflow', ...args]);
    return undefined;
  } catch (error) {
    return error;
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

// What an option's placeholder calls a number; knobs say `value` and may take words, which these are not.
const numeric = /<(n|count|steps|seconds|scale|time|share|error|value|list)>/;
const wrong = ['', ' ', 'abc', '0x10', '1e999', 'NaN', '7 ', '1..2..3', '-Infinity', 'toString', '__proto__'];
const needed: Record<string, string[]> = {
  gamma: ['--sampler', 'gamma', '--model', map],
  eta: ['--sampler', 'ddim'],
  tolerance: ['--sampler', 'dopri5'],
};

describe('every option that takes a number refuses what is none, before any work', () => {
  const commands = createProgram().commands.filter((command) => command.name() in enough);
  const options = commands.flatMap((command: Command) =>
    command.options
      .filter((option: Option) => numeric.test(option.flags))
      .map((option, place) => [command.name(), option.long!, option, place] as const),
  );
  it('finds them', () => expect(options.length).toBeGreaterThan(50));

  it.each(options)('%s %s', async (command, flag, option, place) => {
    const extra = command === 'sample' ? needed[flag.slice(2)] : [];
    // Knobs go through one parser: a few of the values are enough for each.
    const knob = /<value>/.test(option.flags);
    for (const text of knob ? wrong.filter((_, i) => (i + place) % 4 === 0) : wrong) {
      const error = await run([command, ...enough[command], ...(extra ?? []), `${flag}=${text}`]);
      const told = error instanceof Error ? error.message : 'nothing';
      expect(error instanceof SemiflowError || error instanceof CommanderError, `${flag}="${text}": ${told}`).toBe(
        true,
      );
      const { line, exitCode } = failureOf(error, flagOf, '0');
      expect(exitCode).toBe(2);
      expect(line).toContain(flag);
      expect(line).not.toContain('\n');
    }
    for (const path of enough[command].filter(
      (part) => part.startsWith(folder) && part !== recipe && part !== pictures,
    ))
      expect(existsSync(path), path).toBe(false);
  });

  it.each(['sample --n 1e12', 'sample --nfe 1e9', 'sample --seed 1e300', 'sample --seed 9007199254740993'])(
    '%s is beyond what can be',
    async (line) => {
      const [command, flag, text] = line.split(' ');
      const error = await run([command, ...enough[command], flag, text]);
      expect(error).toBeInstanceOf(UserError);
      expect((error as Error).message).toContain(flag);
    },
  );
});

describe('what is wrong with the words of a command is one line with the nearest name', () => {
  const told = async (...args: string[]) => failureOf(await run(args), flagOf, '0');
  it.each([
    [['trian'], /unknown command 'trian' \(Did you mean train\?\)/],
    [['xyzzy'], /unknown command 'xyzzy' \(`semiflow help` shows what there is\)/],
    [['train', '--tecaher', 'x'], /unknown option '--tecaher' \(Did you mean --teacher\?\)/],
    [['sample'], /--model/],
    [['sample', '--model'], /argument missing/],
    [['info'], /missing required argument/],
    [['experiment', 'round'], /Allowed choices are steps/],
    [['merge', '--model', 'a', '--lora', 'b', '--out', 'c', 'd'], /too many arguments/],
    [['sample', '--model', teacher, '--out', 'a.npy', '--family', 'fast'], /Allowed choices are plain/],
  ])('%s', async (args, says) => {
    const { line, exitCode } = await told(...args);
    expect(line).toMatch(says);
    expect(line).not.toContain('\n');
    expect(exitCode).toBe(2);
  });

  it('help and version are no mistakes', async () => {
    for (const args of [['--help'], ['--version'], ['help'], ['help', 'train'], ['train', '--help']])
      expect((await told(...args)).exitCode).toBe(0);
  });
});

describe('an error at the end of the process', () => {
  it('of the library names the flag of its field', () => {
    const told = failureOf(new UserError('goes from 1 to 4, not to 9', 'guidance'), flagOf, '1');
    expect(told).toEqual({ line: '--guidance: goes from 1 to 4, not to 9', exitCode: 2 });
    expect(failureOf(new UserError('is none', 'optimizer.rate'), flagOf, '1').line).toBe('--learning-rate: is none');
    expect(failureOf(new UserError('is none', 'checkpointBlocks'), flagOf, '1').line).toMatch(/^--checkpoint-blocks:/);
    expect(failureOf(new DivergenceError('the loss became NaN', 3), flagOf, '1').exitCode).toBe(3);
    expect(failureOf(new SemiflowError('device', 'lost'), flagOf, '1').exitCode).toBe(1);
  });

  it.each([new TypeError('x is undefined\n  at y'), new RangeError('too long'), 'a string', undefined, { code: 5 }])(
    'of anything else is a fault of semiflow: %s',
    (error) => {
      const { line, exitCode } = failureOf(error, flagOf, '1.2.3');
      expect(line).toMatch(/^this is a fault of semiflow, please report it: .*semiflow 1\.2\.3, Node \d/);
      expect(line).not.toContain('\n');
      expect(exitCode).toBe(1);
    },
  );
});
