// Lets CommonJS have the compiled package: the part of `npm run build` after the compiler. Node requires modules since 20.19,
// so one copy of the library serves both and a tensor is the same thing to both; declarations are written a second time,
// because TypeScript takes a file for what its ending says.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What may be required. */
const entries = ['index', 'node/index'];

/** Adds the CommonJS side to what the compiler wrote into a folder. @param {string} dist */
export function writeCommonJs(dist) {
  const names = readdirSync(dist, { recursive: true, encoding: 'utf8' });
  for (const name of names.filter((each) => each.endsWith('.d.ts') && !/^cli\b/.test(each))) {
    const text = readFileSync(join(dist, name), 'utf8');
    writeFileSync(join(dist, name.replace(/ts$/, 'cts')), text.replace(/(['"]\.[^'"]*\.)js(?=['"])/g, '$1cjs'));
  }
  for (const entry of entries)
    writeFileSync(join(dist, `${entry}.cjs`), `module.exports = require('./${entry.replace(/.*\//, '')}.js');\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  writeCommonJs(join(dirname(dirname(fileURLToPath(import.meta.url))), 'dist'));
