// Writes kernels/sources.ts from the WGSL files, so that Node and the browser load the same text without reading files.
import { existsSync, readdirSync, readFileSync, realpathSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** @returns {string[]} paths of the WGSL files below a folder, without extension, with forward slashes */
function kernelNames(/** @type {string} */ folder, prefix = '') {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.isDirectory()) return kernelNames(join(folder, entry.name), `${prefix}${entry.name}/`);
    return entry.name.endsWith('.wgsl') ? [prefix + entry.name.slice(0, -'.wgsl'.length)] : [];
  });
}

/**
 * Writes `sources.ts` into the folder of kernels, keyed by path without extension (`lib/philox`), if it has changed.
 * The same files give the same bytes on every machine.
 * @returns {boolean} whether it wrote
 */
export function embedKernels(folder = join(dirname(dirname(fileURLToPath(import.meta.url))), 'kernels')) {
  const lines = kernelNames(folder)
    .sort()
    .map((name) => {
      const source = readFileSync(join(folder, `${name}.wgsl`), 'utf8').replaceAll('\r\n', '\n');
      return `  ${JSON.stringify(name)}: ${JSON.stringify(source)},\n`;
    });
  const header = '// Generated from the .wgsl files beside it by scripts/embed-kernels.js.\n';
  const text = `${header}export const sources: Record<string, string> = {\n${lines.join('')}};\n`;
  const target = join(folder, 'sources.ts');
  if (existsSync(target) && readFileSync(target, 'utf8') === text) return false;
  // Renamed into place: another process may be importing it now.
  const aside = `${target}.${process.pid}`;
  writeFileSync(aside, text);
  renameSync(aside, target);
  return true;
}

/** vitest's global setup. */
export const setup = () => void embedKernels();

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) embedKernels();
