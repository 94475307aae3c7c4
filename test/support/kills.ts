import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect } from 'vitest';

/** How many kills all kinds of runs of a test file share; without it one kind gets a few. */
export const kills = Number(process.env.SEMIFLOW_KILLS ?? 0);

/** How the program is started, and how it is killed. */
export interface Launcher {
  start: readonly string[];
  kill(program: ChildProcess): void;
}

/** One process. */
export const single: Launcher = {
  start: [process.execPath, resolve('bin/semiflow.js')],
  kill: (program) => void program.kill('SIGKILL'),
};

/** What became of a program. */
export interface Outcome {
  code: number | null;
  out: string;
  /** Without what a software driver says of its own limits. */
  err: string;
  /** How long it went on after it was killed; null where it had ended before. */
  secondsAfterKill: number | null;
}

/**
 * Runs the real program.
 * @param lifetime milliseconds after it says that it trains, by which it is killed
 */
export function run(
  { start: [command, ...start], kill }: Launcher,
  args: readonly string[],
  { lifetime, cwd = '.' }: { lifetime?: number; cwd?: string } = {},
): Promise<Outcome> {
  return new Promise((done) => {
    const child = spawn(command, [...start, ...args], { stdio: ['ignore', 'pipe', 'pipe'], cwd });
    const said = { out: '', err: '' };
    let timer: NodeJS.Timeout | undefined;
    let killed: number | null = null;
    const hear = (stream: 'out' | 'err') => (text: Buffer) => {
      said[stream] += text.toString();
      if (lifetime === undefined || timer || !/training in|going on/.test(text.toString())) return;
      timer = setTimeout(() => {
        killed = performance.now();
        kill(child);
      }, lifetime);
    };
    child.stdout.on('data', hear('out'));
    child.stderr.on('data', hear('err'));
    child.on('close', (code) => {
      clearTimeout(timer);
      const err = said.err.replace(/^Warning: maxDynamic.*\n/gm, '');
      done({ code, out: said.out, err, secondsAfterKill: killed && (performance.now() - killed) / 1000 });
    });
  });
}

/** A run that is compared: the command, and its flags, `RUN` in the place of its folder. */
export interface Compared {
  launcher: Launcher;
  command: 'train' | 'teacher';
  flags: readonly string[];
  /** Sees the run's folder as each kill left it. */
  onKilled?: (folder: string) => void;
}

/** Flags of runs that save often enough to be killed in the midst of it. */
export const oftenSaved = ['--save-every', '0.1'];

/**
 * Compares a run that is left alone with one that is killed `count` times and resumed, the last time from another folder.
 * @param folder where both are kept, as `NAME-alone` and `NAME-killed`
 * @returns the folder of the one left alone, and what became of those whose kill met a living run
 */
export async function killAndCompare(
  { launcher, command, flags, onKilled = () => {} }: Compared,
  folder: string,
  count: number,
): Promise<{ alone: string; met: Outcome[] }> {
  const name = `${command}-${readdirSync(folder).length}`;
  const [alone, killed] = [join(folder, `${name}-alone`), join(folder, `${name}-killed`)];
  const at = (path: string) => flags.map((flag) => flag.replace('RUN', path));
  expect(await run(launcher, [command, ...at(alone)])).toMatchObject({ code: 0 });
  const lifetime = () => 50 + 900 * Math.random();
  const outcomes: Outcome[] = [];
  const kill = async (args: readonly string[]) => {
    outcomes.push(await run(launcher, args, { lifetime: lifetime() }));
    onKilled(killed);
  };
  await kill([command, ...at(killed)]);
  const evaluation = command === 'train' ? ['--no-evaluate'] : [];
  const again = [command, '--resume', killed, ...evaluation];
  // A run that finished before its kill is resumed all the same: it must not change any more.
  for (let i = 1; i < count; i++) await kill([...again, ...oftenSaved]);
  expect(await run(launcher, again, { cwd: tmpdir() })).toMatchObject({ code: 0 });
  for (const file of readdirSync(alone).filter((file) => file.endsWith('safetensors')))
    expect(readFileSync(join(killed, file)).equals(readFileSync(join(alone, file))), file).toBe(true);
  expect(metricsOf(killed)).toEqual(metricsOf(alone));
  return { alone, met: outcomes.filter(({ code, secondsAfterKill }) => code !== 0 && secondsAfterKill !== null) };
}

/** A run's metrics, line by line, without what its steps took by the clock. */
export const metricsOf = (folder: string): Record<string, number>[] =>
  readFileSync(join(folder, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => ({ ...(JSON.parse(line) as Record<string, number>), seconds: 0, stepsPerSecond: 0 }));
