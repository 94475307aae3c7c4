// Refuses imports that point up: `npm run check` runs it. The order of rooms is the house's, from the ground up.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A file may import from its own room and from those before it. */
export const rooms = [
  'kernels',
  'src/errors.ts',
  'src/files',
  'src/gpu',
  'src/tensor',
  'src/ops',
  'src/autodiff',
  'src/tuning',
  'src/nn',
  'src/models',
  'src/checkpoint',
  'src/metrics',
  'src/data',
  'src/report',
  'src/flow',
  'src/export',
  'src/features',
  'src/pipelines',
  'src/experiments',
  'trainers',
  'index.ts',
  'web',
  'node',
  'cli',
];

/** What only Node has, and so no room before `node` may import: a page has none of it. */
const nodeOnly = /^(node:|webgpu$|commander$|cli-progress$|@resvg\/)/;

/** Where a file lives: its place in `rooms`, -1 outside of the house. */
export const roomOf = (/** @type {string} */ path) =>
  rooms.findIndex((room) => path === room || path.startsWith(`${room}/`));

/**
 * The imports of a file that are not allowed, a line each.
 * @param {string} path from the root, with forward slashes
 * @param {string} text
 */
export function wrongImports(path, text) {
  const from = roomOf(path);
  const specifiers = [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'([^']+)'/g)].map(([, specifier]) => specifier);
  return specifiers.flatMap((specifier) => {
    if (!specifier.startsWith('.'))
      return nodeOnly.test(specifier) && from < rooms.indexOf('node')
        ? [`${path} imports ${specifier}: ${rooms[from]} runs anywhere, what Node has comes through a seam (node/)`]
        : [];
    const target = normalize(join(dirname(path), specifier))
      .replaceAll('\\', '/')
      .replace(/\.js$/, '.ts');
    const to = roomOf(target);
    return to > from ? [`${path} imports ${target}: ${rooms[from]} lies below ${rooms[to]}`] : [];
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = dirname(dirname(fileURLToPath(import.meta.url)));
  const files = rooms.flatMap((room) =>
    room.endsWith('.ts')
      ? [room]
      : readdirSync(join(root, room), { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
          .map((entry) => relative(root, join(entry.parentPath, entry.name)).replaceAll('\\', '/')),
  );
  const wrong = files.flatMap((path) => wrongImports(path, readFileSync(join(root, path), 'utf8')));
  for (const line of wrong) console.error(line);
  if (wrong.length) process.exitCode = 1;
}
