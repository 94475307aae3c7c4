// Makes the page of `--watch`: one script and one style sheet, a part of `npm run build`; in a clone the command makes it.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The page's files by their names. @returns {Promise<Record<string, string>>} */
export async function watchPage() {
  const made = await build({
    entryPoints: [join(root, 'web/watch/main.ts')],
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    write: false,
  });
  return {
    'index.html': readFileSync(join(root, 'web/watch/index.html'), 'utf8'),
    'style.css': readFileSync(join(root, 'web/style.css'), 'utf8'),
    'watch.js': made.outputFiles[0].text,
  };
}

/** Writes them into a folder. @param {string} folder */
export async function writeWatchPage(folder) {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(await watchPage())) writeFileSync(join(folder, name), text);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeWatchPage(join(root, 'dist/watch'));
