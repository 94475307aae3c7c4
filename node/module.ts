import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { register } from 'node:module';
import { basename, extname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { UserError } from '../src/errors.js';
import { asBackbone, type Backbone } from '../src/models/backbone.js';
import { registerBackbone } from '../src/models/index.js';
import { registerObjective } from '../trainers/objectives/index.js';
import type { Objective } from '../trainers/objectives/objective.js';

/** Endings of modules that may define a backbone. */
const endings = ['.ts', '.mts', '.js', '.mjs'];

/** Whether a path is that of a module, and not of a description as YAML. */
export const isModule = (path: string): boolean => endings.includes(extname(path));

/** This library as it runs: its sources in a clone, what was compiled of them in a package. */
const running = import.meta.url.endsWith('.ts') ? './index.ts' : './index.js';
const library = new URL(running, import.meta.url).href;

/** Marks addresses of modules of one's own, and of the files beside them that they import. */
const mark = '?semiflow';

// Wherever a module lies, `semiflow` is the library that runs: a second copy would know none of its tensors. A module is
// one whatever the package.json beside it says.
const hooks = `
export async function resolve(specifier, context, next) {
  if (specifier === 'semiflow' || specifier === 'semiflow/node') return { url: '${library}', format: 'module', shortCircuit: true };
  if (specifier.endsWith('${mark}')) return { url: specifier, format: 'module', shortCircuit: true };
  const found = await next(specifier, context);
  const own = context.parentURL?.endsWith('${mark}') && /^file:(?!.*node_modules).*[jt]s$/.test(found.url);
  return own ? { ...found, url: found.url + '${mark}', format: 'module' } : found;
}`;
let hooked = false;

/** Loads a module of one's own, TypeScript or JavaScript, and gives its default export and its text. */
async function loadModule(path: string, field: string): Promise<{ exported: unknown; text: Uint8Array }> {
  const file = resolve(path);
  const text = await readFile(file).catch((error: NodeJS.ErrnoException) => {
    throw new UserError(`${path} cannot be read (${error.code}): check the path`, field);
  });
  if (!hooked) register(`data:text/javascript,${encodeURIComponent(hooks)}`);
  hooked = true;
  const exported = await import(/* @vite-ignore */ pathToFileURL(file).href + mark).then(
    (module: { default?: unknown }) => module.default,
    (error: NodeJS.ErrnoException) => {
      const mend =
        error.code === 'ERR_UNKNOWN_FILE_EXTENSION' ? '; this Node runs no TypeScript: compile it to .js' : '';
      throw new UserError(`${path} does not run: ${String(error.message).split('\n')[0]}${mend}`, field);
    },
  );
  return { exported, text };
}

/**
 * Loads an objective of one's own from a module whose default export is an `Objective`, and registers it. The module
 * imports from 'semiflow' wherever it lies.
 * @throws UserError where it cannot be read or run, or exports no objective
 */
export async function loadObjective(path: string): Promise<Objective> {
  const { exported } = await loadModule(path, 'objective');
  if (exported === undefined)
    throw new UserError(`${path} has no default export: it is to be an objective`, 'objective');
  return registerObjective(exported as Objective);
}

/**
 * Loads a backbone of one's own from a module, TypeScript or JavaScript, whose default export `defineBackbone` made, and
 * makes it known. The module imports from 'semiflow' wherever it lies.
 * @throws UserError where it cannot be read or run, or exports no backbone
 */
export async function loadBackbone(path: string): Promise<Backbone> {
  const file = resolve(path);
  const { exported, text } = await loadModule(file, 'arch');
  const backbone = asBackbone(exported);
  if (!backbone)
    throw new UserError(`${path} has no backbone: its default export must be made by defineBackbone`, 'arch');
  const sha256 = createHash('sha256').update(text).digest('hex');
  registerBackbone(backbone, { name: basename(file), sha256, path: file });
  return backbone;
}
