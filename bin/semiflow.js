#!/usr/bin/env node
// The command `semiflow`. In a clone it makes the clone ready first and runs the TypeScript sources; the published
// package runs what was compiled.
import { existsSync } from 'node:fs';

const sources = new URL('../cli/main.ts', import.meta.url);
const compiled = new URL('../dist/cli/main.js', import.meta.url);

if (existsSync(sources)) {
  const { ensurePackages, exitWith } = await import('../scripts/setup.js');
  try {
    ensurePackages();
  } catch (error) {
    exitWith(error);
  }
  const { register } = await import('tsx/esm/api');
  register();
  await import(sources.href);
} else {
  await import(compiled.href);
}
