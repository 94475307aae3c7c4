import { spawnSync } from 'node:child_process';

/** A set-up step that this machine cannot do: the message says what to do by hand. Exit code 2. */
export class SetupError extends Error {
  /** @override */
  name = 'SetupError';
}

/** Prints one progress line. It goes to stderr, since a command's stdout may be piped to a file. */
export function say(/** @type {string} */ line) {
  process.stderr.write(`set-up: ${line}\n`);
}

/**
 * Runs a program with no input and keeps what it prints to itself.
 * @param {string} program
 * @param {string[]} args
 * @param {{cwd?: string, timeout?: number, env?: NodeJS.ProcessEnv}} [options] timeout in ms
 * @returns {{ok: boolean, stdout: string, stderr: string, why: string}} `why` is how it ended and what it said, shortened
 */
export function run(program, args, options = {}) {
  const done = spawnSync(program, args, {
    ...options,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  const stdout = done.stdout ?? '';
  const stderr = done.stderr ?? '';
  const ending = done.error?.message ?? (done.signal ? `ended by ${done.signal}` : `exit code ${done.status}`);
  const lines = `${stdout}\n${stderr}`.split('\n').filter((line) => line.trim() !== '');
  // npm says what is wrong first and how it is used last; apt the other way round.
  const shown = lines.length > 16 ? [...lines.slice(0, 6), '…', ...lines.slice(-8)] : lines;
  return { ok: done.status === 0, stdout, stderr, why: [ending, ...shown].join('\n  ') };
}
