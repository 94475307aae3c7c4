import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** A shipped checkpoint: at the package's root, whether this runs from source or built. */
export const shipped = (name: string): string =>
  join(dirname(createRequire(import.meta.url).resolve('semiflow/package.json')), 'checkpoints', name);
