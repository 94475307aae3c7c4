import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'semiflow-leaving-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A process that compiles kernels which no cache holds: what it said, and how it ended after `end` was done to it. */
async function compiling(args: readonly string[], end: (program: ReturnType<typeof spawn>) => void) {
  const cache = mkdtempSync(join(folder, 'cache-'));
  const env = { ...process.env, MESA_SHADER_CACHE_DIR: cache, HOME: cache };
  const program = spawn(process.execPath, [resolve('bin/semiflow.js'), ...args], { cwd: cache, env });
  let [stdout, stderr, since] = ['', '', 0];
  program.stderr.on('data', (part) => (stderr += part));
  program.stdout.on('data', (part) => {
    stdout += part;
    if (since || !/^memory: /m.test(stdout)) return;
    since = performance.now();
    // Kernels are with the driver by then.
    setTimeout(end, 300, program);
  });
  const [code, signal] = await new Promise<[number | null, string | null]>((done) =>
    program.on('close', (...how) => done(how)),
  );
  return { code, signal, stdout, stderr, seconds: (performance.now() - since) / 1000, left: readdirSync(cache) };
}

const teacher = ['teacher', '--data', 'moons', '--steps', '100000', '--out', 'moons.safetensors'];
const meanflow = ['train', '--method', 'meanflow', '--data', 'moons', '--steps', '100000', '--out', 'run'];

describe('a process that ends while the driver compiles', () => {
  it('by its own exit, among very many kernels: its code, and no word of the driver', () => {
    const env = { ...process.env, MESA_SHADER_CACHE_DIR: mkdtempSync(join(folder, 'cache-')) };
    const ended = spawnSync(process.execPath, ['--import', 'tsx', 'test/support/leaving.ts'], {
      encoding: 'utf8',
      env,
    });
    expect([ended.status, ended.signal, ended.stdout, ended.stderr]).toEqual([7, null, '', '']);
  });

  it.each([
    ['teacher', 'SIGINT', teacher],
    ['train', 'SIGTERM', meanflow],
  ] as const)('%s, by %s: one line, the code of shells, and nothing left', async (_, name, args) => {
    const ended = await compiling(args, (program) => program.kill(name));
    expect(ended.stdout).not.toMatch(/^step /m);
    expect(ended.stderr).toBe('semiflow: interrupted before a step was made: everything is as it was before\n');
    expect([ended.code, ended.signal]).toEqual([130, null]);
    expect(ended.seconds).toBeLessThan(10);
    expect(ended.left.filter((file) => /run|moons/.test(file))).toEqual([]);
  });

  it('when asked twice: at once and without a word', async () => {
    const ended = await compiling(teacher, (program) => {
      program.kill('SIGINT');
      program.kill('SIGTERM');
      setTimeout(() => program.kill('SIGINT'), 20);
    });
    expect([ended.code, ended.signal]).toEqual([130, null]);
    expect(ended.stderr).toMatch(/^(semiflow: interrupted [^\n]*\n)?$/);
  });

  it('when nobody reads on', async () => {
    const ended = await compiling(teacher, (program) => program.stdout!.destroy());
    expect([ended.code, ended.signal, ended.stderr]).toEqual([0, null, '']);
  });
});
