import { appendFile, mkdir, readdir, rm, stat } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import { UserError } from '../src/errors.js';
import type { Store } from '../src/files/store.js';
import { fileSource, writeFileAtomic } from './files.js';

/** A folder as a store. It is made, with those above it, when the first file is written. */
export function folderStore(path: string): Store {
  const place = async (name: string) => {
    const file = join(path, name);
    await makeFolder(dirname(file), path);
    return file;
  };
  const isFile = async (file: string) => (await stat(file).catch(() => null))?.isFile() ?? false;
  return {
    name: path,
    open: async (name) => {
      const file = join(path, name);
      return (await isFile(file)) ? fileSource(file) : null;
    },
    list: async () => {
      const entries = await readdir(path, { withFileTypes: true, recursive: true }).catch(() => []);
      const files = entries.filter((entry) => entry.isFile());
      return files.map((entry) => relative(path, join(entry.parentPath, entry.name)).split(sep).join('/'));
    },
    write: async (name, content) => writeFileAtomic(await place(name), content),
    append: async (name, content) => appendFile(await place(name), content),
    remove: async (name) => rm(join(path, name), { force: true }),
  };
}

/** `mkdir`'s own `recursive` never returns where the system refuses a folder with ENOENT, as /proc does. */
async function makeFolder(path: string, wanted: string): Promise<void> {
  if (await stat(path).catch(() => null)) return;
  if (dirname(path) !== path) await makeFolder(dirname(path), wanted);
  await mkdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST')
      throw new UserError(`${wanted} cannot be written (${error.code}): choose another folder`);
  });
}
