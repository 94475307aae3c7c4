import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'semiflow-resume-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs the real program; with `lifetime` it is killed that many milliseconds after its first saved step. */
function run(args: string[], lifetime?: number): Promise<number | null> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['bin/semiflow.js', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let armed = false;
    const watch = (text: Buffer) => {
      if (lifetime === undefined || armed || !/training in|going on/.test(text.toString())) return;
      armed = true;
      setTimeout(() => child.kill('SIGKILL'), lifetime);
    };
    child.stdout.on('data', watch);
    child.stderr.on('data', watch);
    child.on('exit', (code) => resolve(code));
  });
}

const recipe = [
  '--teacher',
  'checkpoints/rf-checkerboard.safetensors',
  '--data',
  'checkerboard',
  '--steps',
  '150',
  '--batch',
  '64',
];
const flags = [...recipe, '--save-every', '0.2', '--no-evaluate'];
const results = ['student.safetensors', 'state.safetensors', 'metrics.jsonl'];

it(
  'ends with the same bytes when killed at five moments and resumed as when left alone',
  { timeout: 600_000 },
  async () => {
    const [alone, killed] = [join(folder, 'alone'), join(folder, 'killed')];
    expect(await run(['train', ...flags, '--out', alone])).toBe(0);
    expect(await run(['train', ...flags, '--out', killed], 300 + 700 * Math.random())).toBeNull();
    for (let kill = 1; kill < 5; kill++) {
      // A run that finished before its kill is resumed all the same: it must not change any more.
      await run(['train', '--resume', killed, '--save-every', '0.2', '--no-evaluate'], 200 + 700 * Math.random());
    }
    expect(await run(['train', '--resume', killed, '--no-evaluate'])).toBe(0);
    for (const name of results)
      expect(readFileSync(join(killed, name)).equals(readFileSync(join(alone, name))), name).toBe(true);
  },
);
