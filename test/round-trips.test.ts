import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { parse, stringify } from 'yaml';
import type * as Session from '../cli/session.js';
import { prepareTeacher } from '../cli/teacher.js';
import { runHere } from './support/command-line.js';

vi.mock('../cli/session.js', async (original) => ({
  ...(await original<typeof Session>()),
  openSession: () => Promise.reject(new Error('a device was asked for')),
}));

const folder = mkdtempSync(join(tmpdir(), 'semiflow-round-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string, text?: string) => {
  const path = join(folder, name);
  if (text !== undefined) writeFileSync(path, text);
  return path;
};
const teacher = 'checkpoints/rf-checkerboard.safetensors';
const fashion = 'checkpoints/rf-fashion-mnist.safetensors';
const map = 'checkpoints/flow-map-fashion-mnist.safetensors';
/** Six by six pixels in two classes. */
const pictures = (() => {
  const idx = (name: string, extents: number[], values: number) => {
    const header = Buffer.alloc(4 + 4 * extents.length);
    header.set([0, 0, 8, extents.length]);
    extents.forEach((extent, i) => header.writeUInt32BE(extent, 4 + 4 * i));
    const body = Uint8Array.from({ length: extents.reduce((a, b) => a * b) }, (_, i) => (i * 37) % values);
    writeFileSync(at(name), Buffer.concat([header, body]));
    return at(name);
  };
  const images = idx('train-images-idx3-ubyte', [40, 8, 8], 256);
  idx('train-labels-idx1-ubyte', [40], 4);
  return images;
})();

describe('what --print-config prints is what --config takes', () => {
  const cases: [string, string[]][] = [
    ['train', ['--teacher', teacher]],
    ['train', ['--teacher', teacher, '--data', 'moons', '--steps', '7', '--guidance', '1', '--lora-rank', '3']],
    ['train', ['--teacher', fashion, '--student', map, '--method', 'distribution', '--steps', '9']],
    ['train', ['--method', 'meanflow', '--data', 'spirals', '--model', 'mlp']],
    ['train', ['--method', 'consistency', '--data', pictures, '--model', 'sit', '--seed', '4']],
    ['teacher', ['--data', 'checkerboard']],
    ['teacher', ['--data', pictures, '--model', 'unet', '--prediction', 'v', '--path', 'vp-cosine', '--steps', '9']],
    ['teacher', ['--data', 'checkerboard', '--init', teacher, '--learning-rate', '0.01']],
    ['classifier', ['--data', pictures, '--steps', '5']],
    ['classifier', ['--data', pictures, '--size', '8']],
  ];
  it.each(cases.map(([command, flags]) => [`${command} ${flags.join(' ')}`, command, flags] as const))(
    '%s, from any folder',
    async (_, command, flags) => {
      const first = await runHere([command, ...flags, '--print-config']);
      expect(first.line).toBe('');
      const file = at('printed.yaml', first.output);
      const home = process.cwd();
      mkdirSync(at('elsewhere'), { recursive: true });
      process.chdir(at('elsewhere'));
      try {
        const second = await runHere([command, '--config', file, '--print-config']);
        expect(second.line).toBe('');
        expect(second.output).toBe(first.output);
        // It is all that is needed to start.
        const { error } = await runHere([command, '--config', file, '--out', at('new.safetensors')]);
        expect((error as Error).message).toBe('a device was asked for');
      } finally {
        process.chdir(home);
      }
    },
  );

  it('a recipe alone, printed without a teacher, is taken with one', async () => {
    const { output } = await runHere(['train', '--method', 'meanflow', '--print-config']);
    const file = at('alone.yaml', output);
    const { output: whole } = await runHere(['train', '--config', file, '--teacher', teacher, '--print-config']);
    expect((parse(whole) as { recipe: object }).recipe).toMatchObject(parse(output) as object);
  });
});

describe('an unknown key is named with the place of the key itself', () => {
  const first = async (command: string, flags: string[]) =>
    parse((await runHere([command, ...flags, '--print-config'])).output) as Record<string, unknown>;
  /** The line and column of a name in a text. */
  const placeOf = (text: string, name: string) => {
    const before = text.slice(0, text.indexOf(name)).split('\n');
    return `:${before.length}:${before.at(-1)!.length + 1}`;
  };
  const at5 = <T extends object>(tree: T, path: string[], key: string): T => {
    const copy = structuredClone(tree) as Record<string, unknown>;
    let place = copy;
    for (const name of path) place = place[name] as Record<string, unknown>;
    place[key] = { deep: { value: 1 } };
    return copy as T;
  };

  it.each([
    ['train', ['--teacher', teacher], ['recipe'], ['recipe', 'ema', 'target'], ['recipe', 'lambda']],
    [
      'train',
      ['--data', 'moons', '--method', 'meanflow'],
      ['description'],
      ['description', 'architecture'],
      ['recipe'],
    ],
    ['teacher', ['--data', 'moons'], ['recipe', 'optimizer'], ['description'], ['description', 'architecture']],
    ['classifier', ['--data', pictures], ['recipe', 'ema', 'export'], ['architecture'], ['recipe']],
  ] as [string, string[], ...string[][]][])('in the configuration of %s %s', async (command, flags, ...paths) => {
    const tree = await first(command, flags);
    for (const path of paths) {
      const text = stringify(at5(tree, path, 'zzUnknown'));
      const { line, exitCode } = await runHere([command, '--config', at('unknown.yaml', text), '--print-config']);
      expect(line).toContain(`unknown.yaml${placeOf(text, 'zzUnknown')}: `);
      expect(line).toContain('zzUnknown');
      expect(exitCode).toBe(2);
    }
  });

  it('in a study, in what is common to recipes as well', async () => {
    const study = `teacher: ${resolve(teacher)}\nseeds: [0]\ncommon:\n  steps: 3\nrecipes:\n  a: { method: fmap }\n  b:\n    batch: 8\n`;
    for (const [before, key] of [
      ['seeds:', 'zzTop: 1\nseeds:'],
      ['  steps: 3', '  steps: 3\n  ema:\n    zzCommon: 2'],
      ['    batch: 8', '    batch: 8\n    optimizer:\n      zzDeep: 1'],
      ['method: fmap', 'method: fmap, zzOwn: 2'],
    ]) {
      const text = study.replace(before, key);
      const [name] = /zz\w+/.exec(key)!;
      const { line } = await runHere(['study', at('study.yaml', text), '--out', at('never')]);
      expect(line).toContain(`study.yaml${placeOf(text, name)}`);
      expect(line).toContain(name);
    }
  });

  it('in the description of a foreign file', async () => {
    const text =
      'prediction: velocity\narchitecture:\n  kind: mlp\n  dim: 2\n  zzWide: 3\n  width: 8\n  depth: 1\n  activation: silu\n  time: features\n';
    const { line } = await runHere(['info', teacher, '--arch', at('arch.yaml', text)]);
    expect(line).toMatch(/arch\.yaml:5:3.*zzWide/);
  });
});

describe('teachers of one name in two folders', () => {
  it('have a run each, beside their file, where help says it is', async () => {
    const folders = await Promise.all(
      ['a', 'b'].map(
        async (name) => (await prepareTeacher({ data: 'moons', out: at(`${name}/rf.safetensors`) })).folder,
      ),
    );
    expect(folders).toEqual([at('a/runs/rf'), at('b/runs/rf')]);
    expect((await prepareTeacher({ data: 'moons' })).folder).toBe(join('runs', 'rf'));
    for (const command of ['teacher', 'classifier'])
      expect((await runHere([command, '--help'])).output.replace(/\s+/g, ' ')).toContain(
        'default: runs/ and the name of the file, beside it',
      );
  });
});

describe('names of what is shipped', () => {
  it('mean it wherever nothing of that name is here', async () => {
    const home = process.cwd();
    mkdirSync(at('project'), { recursive: true });
    process.chdir(at('project'));
    try {
      const { output, line } = await runHere(['info', teacher, map]);
      expect(line).toBe('');
      expect(output).toContain('flow map, f(x, t, s)');
      expect((await runHere(['info', 'checkpoints/none.safetensors'])).line).toMatch(/checkpoints\/none\.safetensors/);
      mkdirSync(at('project/checkpoints'), { recursive: true });
      writeFileSync(at(`project/${teacher}`), 'mine');
      expect((await runHere(['info', teacher])).exitCode).toBe(2);
    } finally {
      process.chdir(home);
    }
  });
});
