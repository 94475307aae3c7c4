// Builds the page and what it ships into web/dist: static files that any server can serve, from any folder.
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const root = dirname(fileURLToPath(import.meta.url));
const checkpoints = join(dirname(root), 'checkpoints');

/** What the page may do, said to its worker too: a worker does not read the policy in index.html. */
const [, policy] = /Content-Security-Policy"\s+content="([^"]+)"/.exec(
  readFileSync(join(root, 'index.html'), 'utf8'),
) ?? ['', ''];

/** The shipped checkpoints beside the page. @returns {import('vite').Plugin} */
const shipped = () => ({
  name: 'checkpoints',
  generateBundle() {
    for (const name of readdirSync(checkpoints))
      if (name.endsWith('.safetensors'))
        this.emitFile({
          type: 'asset',
          fileName: `checkpoints/${name}`,
          source: readFileSync(join(checkpoints, name)),
        });
  },
});

export default defineConfig({
  root,
  base: './',
  plugins: [shipped()],
  worker: { format: 'es' },
  build: {
    target: 'es2023',
    emptyOutDir: true,
    modulePreload: false,
    chunkSizeWarningLimit: 1000,
    rolldownOptions: { checks: { pluginTimings: false } },
  },
  preview: { host: '127.0.0.1', headers: { 'Content-Security-Policy': policy } },
});
