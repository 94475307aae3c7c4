import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** Where semiflow lies, whether it runs from source or built. */
const root = (): string => dirname(createRequire(import.meta.url).resolve('semiflow/package.json'));

/** A shipped checkpoint. */
export const shipped = (name: string): string => join(root(), 'checkpoints', name);

/**
 * A path as it is given, or what is shipped by that name where nothing is here: `checkpoints/rf-checkerboard.safetensors`
 * means the same in a clone and in a project that installed the package.
 */
export function orShipped(path: string): string {
  if (!/^(checkpoints|docs)\//.test(path) || existsSync(path)) return path;
  const there = join(root(), path);
  return existsSync(there) ? there : path;
}
