#!/usr/bin/env node
// The command `semiflow`. In a clone it makes the clone ready first and runs the TypeScript sources; the published
// package runs what was compiled.
import { existsSync } from 'node:fs';

const sources = new URL('../cli/main.ts', import.meta.url);
const compiled = new URL('../dist/cli/main.js', import.meta.url);

/** Whether the command computes; the others work without a driver. */
function needsAdapter(/** @type {string[]} */ [command = 'help', ...rest]) {
  const reads = ['help', '--help', '-h', '--version', '-V', 'info', 'import', 'merge'].includes(command);
  return !reads && !rest.includes('--help') && !rest.includes('-h');
}

if (existsSync(sources)) {
  const { ensureReady, exitWith } = await import('../scripts/setup.js');
  try {
    ensureReady({ quiet: true, adapter: needsAdapter(process.argv.slice(2)) });
  } catch (error) {
    exitWith(error);
  }
  const { register } = await import('tsx/esm/api');
  register();
  await import(sources.href);
} else {
  await import(compiled.href);
}
