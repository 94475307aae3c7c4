import { spawnSync } from 'node:child_process';
import { Worker } from 'node:worker_threads';

/** A set-up step that this machine cannot do: the message says what to do by hand. Exit code 2. */
export class SetupError extends Error {
  /** @override */
  name = 'SetupError';
}

/** Prints one progress line. It goes to stderr, since a command's stdout may be piped to a file. */
export function say(/** @type {string} */ line) {
  process.stderr.write(`set-up: ${line}\n`);
}

/** Milliseconds between two lines that say that something goes on. */
const every = 3000;
/** A thread of its own says them, as this one waits. Nobody may be there to read. */
const heartbeat = `
const { workerData: { doing, every } } = require('node:worker_threads');
const { writeSync } = require('node:fs');
let seconds = 0;
setInterval(() => {
  seconds += every / 1000;
  try { writeSync(2, 'set-up: ' + doing + ', ' + seconds + 's\\n'); } catch {}
}, every);
`;

/**
 * Runs a program with no input and keeps what it prints to itself.
 * @param {string} program
 * @param {string[]} args
 * @param {{cwd?: string, timeout?: number, env?: NodeJS.ProcessEnv, doing?: string}} [options] timeout in ms; `doing` is said
 *   every few seconds until it ends
 * @returns {{ok: boolean, stdout: string, stderr: string, why: string}} `why` is how it ended and what it said, shortened
 */
export function run(program, args, { doing, ...options } = {}) {
  const beating = doing && new Worker(heartbeat, { eval: true, execArgv: [], workerData: { doing, every } });
  const done = spawnSync(program, args, {
    ...options,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (beating) void beating.terminate();
  const stdout = done.stdout ?? '';
  const stderr = done.stderr ?? '';
  const ending = done.error?.message ?? (done.signal ? `ended by ${done.signal}` : `exit code ${done.status}`);
  const lines = `${stdout}\n${stderr}`.split('\n').filter((line) => line.trim() !== '');
  // npm says what is wrong first and how it is used last; apt the other way round.
  const shown = lines.length > 16 ? [...lines.slice(0, 6), '…', ...lines.slice(-8)] : lines;
  return { ok: done.status === 0, stdout, stderr, why: [ending, ...shown].join('\n  ') };
}
