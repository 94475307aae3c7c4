import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type * as Session from '../cli/session.js';
import { createProgram } from '../cli/program.js';
import { writeSafetensors } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork, exportNetwork } from '../src/flow/network.js';
import { defaultArchitecture } from '../src/models/index.js';
import { RunFiles } from '../trainers/run-files.js';
import { runHere } from './support/command-line.js';

vi.mock('../cli/session.js', async (original) => ({
  ...(await original<typeof Session>()),
  openSession: () => Promise.reject(new Error('a device was asked for')),
}));

const folder = mkdtempSync(join(tmpdir(), 'semiflow-readme-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const commandsIn = (text: string): string[][] =>
  [...text.matchAll(/^\s*(?:npx )?semiflow ([a-z][^\n]*)$/gm)].map(([, line]) =>
    line
      .replace(/\s#.*$/, '')
      .trim()
      .split(/\s+/),
  );
const readme = [...readFileSync('README.md', 'utf8').matchAll(/^```\n(.*?)^```/gms)].flatMap(([, block]) =>
  commandsIn(block),
);

/** What is added so that a command ends in seconds: nothing else of it is changed. */
const shorter: Record<string, string[]> = {
  train: ['--steps', '2', '--batch', '16', '--pool', '64', '--no-evaluate'],
  check: ['--samples', '64'],
};
/** It reads what commands that take minutes would have written. */
const isAfter = ([command]: readonly string[]) => command === 'compare';
/** They take minutes: of them it is seen that they come as far as asking for a device. */
const isLong = ([command, ...rest]: readonly string[]) =>
  ['eval', 'study', 'experiment', 'bias', 'teacher'].includes(command) ||
  (command === 'train' && rest.includes('--data') && !rest.includes('checkpoints/rf-checkerboard.safetensors'));

describe('every command in README', () => {
  it('has an example of each that people need', () => {
    const named = new Set(readme.map(([command]) => command));
    for (const command of ['train', 'teacher', 'sample', 'check', 'eval', 'jump', 'velocity', 'invert', 'bias'])
      expect(named).toContain(command);
    for (const command of ['study', 'experiment', 'info', 'compare']) expect(named).toContain(command);
  });

  it.each(readme.filter((args) => !isLong(args) && !isAfter(args)).map((args) => [args.join(' '), args] as const))(
    'runs as printed, in order: semiflow %s',
    (_, args) => {
      const [command] = args;
      const { status, stderr } = spawnSync(
        process.execPath,
        [resolve('bin/semiflow.js'), ...args, ...(shorter[command] ?? [])],
        { cwd: folder, encoding: 'utf8' },
      );
      expect(stderr.split('\n').filter(Boolean)).toEqual([]);
      // A map of two steps may well fail the check.
      expect(status === 0 || (command === 'check' && status === 1)).toBe(true);
      const out = args[args.indexOf('--out') + 1];
      if (args.includes('--out')) expect(existsSync(join(folder, out))).toBe(true);
    },
    240_000,
  );
});

describe('commands on what others wrote', () => {
  it.each(readme.filter(isAfter).map((args) => [args.join(' '), args] as const))(
    'run as printed: semiflow %s',
    async (_, args) => {
      const home = process.cwd();
      process.chdir(folder);
      try {
        for (const run of args.filter((word) => word.startsWith('runs/'))) {
          const recipe = { method: run, steps: 1, seed: 0 };
          const files = await RunFiles.create(folderStore(run), { kind: 'flow-map', recipe, inputs: {} });
          const report = { jumps: [{ jumps: 1, rmse: 1 }], drift: [], worthEulerSteps: { steps: 1, relation: '=' } };
          await files.write('evaluation.json', JSON.stringify({ report, quality: [], tables: [] }));
        }
        expect((await runHere(args)).line).toBe('');
        expect(existsSync(args[args.indexOf('--out') + 1])).toBe(true);
      } finally {
        process.chdir(home);
      }
    },
  );
});

describe('commands that take minutes, and the examples of the help,', () => {
  // What a long command before them would have written.
  const shapes = parseDescription(
    {
      architecture: defaultArchitecture({ shape: [1, 28, 28], classes: 6 }, 'sit'),
      prediction: 'velocity',
      dataRange: [-1, 1],
    },
    'shapes',
  );
  beforeAll(async () => {
    const { tensors, metadata } = exportNetwork(createNetwork(shapes, 0));
    await writeSafetensors(join(folder, 'shapes.safetensors'), tensors, metadata);
  });
  const help = createProgram().commands.flatMap((command) => {
    let text = '';
    command.configureOutput({ writeOut: (part) => void (text += part) });
    command.outputHelp();
    return commandsIn(text);
  });
  const examples = [...readme.filter(isLong), ...help];
  it.each(examples.map((args) => [args.join(' '), args] as const))('come to a device: semiflow %s', async (_, args) => {
    // Files that earlier commands wrote are where they wrote them.
    const placed = args.map((word) => (existsSync(join(folder, word)) ? join(folder, word) : word));
    const out = placed.includes('--out')
      ? placed
      : [...placed, ...(args[0] === 'train' ? ['--out', join(folder, args[2])] : [])];
    const { error } = await runHere(out);
    expect((error as Error | undefined)?.message).toBe('a device was asked for');
  });
});
