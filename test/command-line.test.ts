import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CommanderError, type Command, type Option } from 'commander';
import { afterAll, describe, expect, it, vi } from 'vitest';
import type * as Session from '../cli/session.js';
import { numberBetween, parseNumber, sampleCount, wholeNumber } from '../cli/arguments.js';
import { failureOf } from '../cli/failures.js';
import { createProgram, flagOf } from '../cli/program.js';
import { runHere } from './support/command-line.js';
import { DivergenceError, SemiflowError, UserError } from '../src/errors.js';

// A flag that is wrong is found before a device is opened: a command that comes so far has taken it.
vi.mock('../cli/session.js', async (original) => ({
  ...(await original<typeof Session>()),
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

// What an option's placeholder calls a number; knobs say `value` and may take words, which these are not.
const numeric = /<(n|count|steps|seconds|scale|time|share|error|value|list)>|\[port]/;
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
      const { error, line, exitCode } = await runHere([
        command,
        ...enough[command],
        ...(extra ?? []),
        `${flag}=${text}`,
      ]);
      const told = error instanceof Error ? error.message : 'nothing';
      expect(error instanceof SemiflowError || error instanceof CommanderError, `${flag}="${text}": ${told}`).toBe(
        true,
      );
      expect(exitCode).toBe(2);
      expect(line).toContain(flag);
      expect(line).not.toContain('\n');
      // In words, not as a schema says it, and the flag once.
      expect(line).not.toMatch(/Too (small|big)|expected (number|int)|--[\w-]+: [\w.]+: /);
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
      const { error } = await runHere([command, ...enough[command], flag, text]);
      expect(error).toBeInstanceOf(UserError);
      expect((error as Error).message).toContain(flag);
    },
  );
});

describe('what is wrong with the words of a command is one line with the nearest name', () => {
  it.each([
    [['trian'], /unknown command 'trian' \(Did you mean train\?\)/],
    [['help', 'trian'], /unknown command 'trian' \(Did you mean train\?\)/],
    [['xyzzy', '--help'], /unknown command 'xyzzy'/],
    [['xyzzy'], /unknown command 'xyzzy' \(`(npx )?semiflow help` shows what there is\)/],
    [['train', '--tecaher', 'x'], /unknown option '--tecaher' \(Did you mean --teacher\?\)/],
    [['train', '--lr', '1'], /unknown option '--lr' \(Did you mean --learning-rate\?\)/],
    [['sample', '--model', 'a', '--out', 'a.npy', '--steps', '4'], /unknown option '--steps' \(Did you mean --nfe\?\)/],
    [['teacher', '--batch-size=4'], /unknown option '--batch-size=4' \(Did you mean --batch\?\)/],
    [['teacher', '--xyzzy'], /unknown option '--xyzzy' \(`(npx )?semiflow teacher --help` shows what there is\)/],
    [['sample'], /--model/],
    [['sample', '--model'], /argument missing/],
    [['info'], /missing required argument/],
    [['experiment', 'round'], /Allowed choices are steps/],
    [['merge', '--model', 'a', '--lora', 'b', '--out', 'c', 'd'], /too many arguments/],
    [['sample', '--model', teacher, '--out', 'a.npy', '--family', 'fast'], /Allowed choices are plain/],
  ])('%s', async (args, says) => {
    const { line, exitCode } = await runHere(args);
    expect(line).toMatch(says);
    expect(line).not.toContain('\n');
    expect(exitCode).toBe(2);
  });

  it('help and version are no mistakes', async () => {
    for (const args of [[], ['--help'], ['--version'], ['help'], ['help', 'train'], ['train', '--help']]) {
      const { exitCode, output } = await runHere(args);
      expect(exitCode).toBe(0);
      expect(output).toMatch(args.includes('--version') ? /^\d+\./ : /Usage: semiflow/);
    }
  });
});

const file = (name: string, content?: string | Uint8Array) => {
  if (content !== undefined) writeFileSync(out(name), content);
  return out(name);
};
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
  const never = join(folder, 'never');
  it.each([
    ['a missing file', ['train', '--teacher', join(folder, 'none.safetensors'), '--out', never], /none\.safetensors/],
    [
      'a truncated file',
      ['train', '--teacher', file('short.safetensors', bytes.subarray(0, bytes.length - 4)), '--out', never],
      /short\.safetensors/,
    ],
    [
      'an overlapping file',
      ['train', '--teacher', file('over.safetensors', overlapping), '--out', never],
      /over\.safetensors/,
    ],
    ['text instead of weights', ['info', file('text.safetensors', 'hello, this is only text')], /text\.safetensors/],
    [
      'a config typo, with its line',
      ['train', '--teacher', teacher, '--config', config, '--out', never],
      /typo\.yaml:4:\d+.*weihgtDecay/,
    ],
    [
      'a wrong kind of value',
      ['train', '--teacher', teacher, '--config', wrongKind, '--out', never],
      /kind\.yaml:3:\d+.*lambda\.lmd/,
    ],
    ['a wrong flag value', ['train', '--teacher', teacher, '--steps', 'many', '--out', never], /--steps/],
    ['another architecture', ['train', '--teacher', teacher, '--arch', arch, '--out', never], /shape/],
    [
      'an unknown key in a description',
      ['train', '--teacher', teacher, '--arch', typo, '--out', never],
      /arch-typo\.yaml.*wid/,
    ],
    [
      'data that is not what it claims',
      ['teacher', '--data', images, '--out', file('t.safetensors')],
      /images-idx3-ubyte/,
    ],
    ['no such data', ['teacher', '--data', 'chekerboard', '--out', file('t.safetensors')], /chekerboard/],
    ['a teacher where a flow map is wanted', ['eval', '--model', teacher, '--teacher', teacher], /flow map/],
    ['no teacher', ['train'], /--teacher/],
    ['a folder without a run', ['train', '--resume', folder], /holds no run/],
    ['samples to nowhere', ['sample', '--model', teacher, '--out', join(folder, 'x.gif')], /x\.gif|\.png/],
    ['a count that is none', ['sample', '--model', teacher, '--nfe', '0', '--out', file('x.npy')], /--nfe/],
  ])('%s', async (_, args, says) => {
    const { line, exitCode } = await runHere(args);
    expect(line).toMatch(says);
    expect(line).not.toMatch(/fault of semiflow/);
    expect(exitCode).toBe(2);
    expect(existsSync(never)).toBe(false);
    expect(existsSync(join(folder, 't.safetensors'))).toBe(false);
  });
});

describe('flags that do not fit together get one line and exit code 2', () => {
  const fashion = 'checkpoints/rf-fashion-mnist.safetensors';
  const map = 'checkpoints/flow-map-fashion-mnist.safetensors';
  const consistency = 'checkpoints/consistency-fashion-mnist.safetensors';
  const [npy, points] = [join(folder, 'none.npy'), join(folder, 'none.safetensors')];
  const sample = (...flags: string[]) => ['sample', '--model', teacher, '--out', npy, ...flags];
  const train = (...flags: string[]) => ['train', '--data', 'checkerboard', '--print-config', ...flags];
  const study = (text: string) => file('study.yaml', text);
  it.each([
    ['a jump of a teacher', sample('--sampler', 'jump'), /--sampler jump is for flow maps/],
    ['a sampler that is none', sample('--sampler', 'plms'), /plms/],
    ['an option of another sampler', sample('--gamma', '0.5'), /--gamma belongs to --sampler gamma/],
    ['evaluations that no step divides', sample('--sampler', 'rk4', '--nfe', '6'), /multiple of 4/],
    ['times that rise', sample('--times', '1,0.2,0.7,0'), /--times takes falling times/],
    ['times and a number', sample('--times', '1,0', '--nfe', '1'), /leave --nfe out/],
    ['steps of an adaptive sampler', sample('--sampler', 'dopri5', '--nfe', '4'), /--tolerance/],
    ['guidance without classes', sample('--guidance', '2'), /guidance/],
    ['a method that is none', train('--method', 'magic'), /--method: magic is none: choose one of fmap/],
    [
      'a method that needs a teacher',
      train('--method', 'ctm'),
      /--method: ctm needs a teacher; without one there are emd/,
    ],
    [
      'an objective that data cannot lead',
      train('--method', 'meanflow', '--lambda-lmd', '1'),
      /--lambda-lmd: lmd asks for the velocity/,
    ],
    ['an adapter of nothing', train('--method', 'meanflow', '--lora-rank', '4'), /--lora-rank/],
    [
      'half precision of a derivative',
      ['train', '--teacher', teacher, '--method', 'meanflow', '--precision', 'f16', '--print-config'],
      /half precision/,
    ],
    ['guidance backwards', ['train', '--teacher', fashion, '--guidance', '4..1', '--print-config'], /--guidance/],
    [
      'a prediction on the wrong path',
      ['teacher', '--data', 'checkerboard', '--prediction', 'v', '--print-config'],
      /vp path/,
    ],
    [
      'a path that is none',
      ['teacher', '--data', 'checkerboard', '--path', 'bent', '--print-config'],
      /--path: bent: choose/,
    ],
    [
      'a study of a wrong recipe',
      [
        'study',
        study('seeds: [0]\nrecipes: {a: {stps: 3}}\nteacher: ' + teacher + '\n'),
        '--out',
        join(folder, 'never'),
      ],
      /recipe a.*stps/,
    ],
    ['merging what is no adapter', ['merge', '--model', teacher, '--lora', teacher, '--out', points], /adapter/],
    [
      'jumping forward untaught',
      ['invert', '--model', consistency, '--sampler', 'jump', '--input', npy, '--out', points],
      /--forward-share/,
    ],
    ['the law of a teacher', ['check', '--model', teacher], /is a teacher/],
    ['a budget that is none', ['check', '--model', map, '--budget', 'much'], /--budget/],
    ['features without images', ['eval', '--model', map, '--teacher', fashion, '--features', map], /--data/],
    [
      'a flow map as a classifier',
      [
        'experiment',
        'drift',
        '--teacher',
        fashion,
        '--flow-map',
        map,
        '--consistency',
        consistency,
        '--features',
        map,
        '--out',
        join(folder, 'never'),
      ],
      /what classifier it is/,
    ],
    [
      'an experiment on points',
      ['experiment', 'steps', '--teacher', teacher, '--flow-map', map, '--consistency', map, '--features', map],
      /makes points/,
    ],
    ['students of nobody', ['experiment', 'steps', '--flow-map', map], /--teacher/],
    ['half of the cast', ['experiment', 'steps', '--teacher', fashion, '--flow-map', map], /--consistency FILE/],
    ['a mask that is none', ['experiment', 'steps', '--mask', 'round'], /--mask round/],
    ['a classifier of points', ['classifier', '--data', 'checkerboard', '--out', points], /holds points/],
  ])('%s', async (_, args, says) => {
    const { line, exitCode } = await runHere(args);
    expect(line).toMatch(says);
    expect(line).not.toMatch(/fault of semiflow/);
    expect(exitCode).toBe(2);
    for (const path of [npy, points, join(folder, 'never')]) expect(existsSync(path)).toBe(false);
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
