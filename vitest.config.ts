import { tmpdir } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    environment: 'node',
    include: ['test/**/*.test.ts'],
    globalSetup: ['scripts/embed-kernels.js'],
    // A process a file: Dawn lives as long as its process. Each software adapter uses every core, so two are plenty.
    pool: 'forks',
    maxWorkers: 2,
    // On a cold shader cache a test compiles kernels for minutes, beside another that does the same.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    // A process that still compiles takes its time to end.
    teardownTimeout: 120_000,
    // Mesa complains on stderr when this is not set.
    env: { XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? tmpdir() },
  },
});
