import { appendFile, mkdir, readdir, realpath, rm, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { UserError } from '../src/errors.js';
import type { Files, Store } from '../src/files/store.js';
import { openFolder, type ModelFolder } from '../src/flow/folder.js';
import { chosenAt, fileSource, readFailure, writeFileAtomic } from './files.js';

/** Where listing a folder stops, so that a path given by mistake (/, a home) is an error instead of an hour. */
const mostFiles = 2_000_000;
const mostDepth = 8;

/** The files below a folder; links are followed, each folder is entered once, what is no file is left out. */
function folderFiles(path: string): Files {
  const isFile = async (file: string) => (await stat(file).catch(() => null))?.isFile() ?? false;
  return {
    name: path,
    open: async (name) => {
      const file = join(path, name);
      return (await isFile(file)) ? fileSource(file) : null;
    },
    list: async () => {
      const [found, entered] = [[] as string[], new Set<string>()];
      const enter = async (folder: string, below: string, depth: number): Promise<void> => {
        const real = await realpath(folder).catch(() => folder);
        if (entered.has(real) || depth > mostDepth) return;
        entered.add(real);
        const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
          if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
          throw new UserError(`${folder}: ${readFailure(error)}`);
        });
        for (const entry of entries) {
          const [file, name] = [join(folder, entry.name), below + entry.name];
          const kind = entry.isSymbolicLink() ? await stat(file).catch(() => null) : entry;
          if (kind?.isFile()) found.push(name);
          else if (kind?.isDirectory()) await enter(file, `${name}/`, depth + 1);
          if (found.length > mostFiles)
            throw new UserError(`${path} holds more than ${mostFiles} files; give a folder of data`);
        }
      };
      await enter(path, '', 0);
      return found;
    },
  };
}

/** A folder as a store. It is made, with those above it, when the first file is written, and what was made goes with the last. */
export function folderStore(path: string): Store {
  const made = new Set<string>();
  const place = async (name: string) => {
    const file = join(path, name);
    await makeFolder(dirname(file), path, made);
    return file;
  };
  return {
    ...folderFiles(path),
    write: async (name, content) => writeFileAtomic(await place(name), content),
    append: async (name, content) => appendFile(await place(name), content),
    remove: async (name) => {
      await rm(join(path, name), { force: true });
      // Inner folders come after those that they lie in.
      for (const folder of [...made].reverse())
        await rmdir(folder).then(
          () => made.delete(folder),
          () => {},
        );
    },
  };
}

/**
 * What a path leads to: all files of a folder, or a file, whose neighbours can be opened though they are not listed.
 * @returns null where there is nothing
 * @throws UserError where it is neither
 */
export async function filesAt(path: string): Promise<Files | null> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null;
    throw new UserError(`${path}: ${readFailure(error)}`);
  });
  if (!found) return null;
  if (found.isDirectory()) return folderFiles(path);
  if (!found.isFile()) throw new UserError(`${path}: neither a file nor a folder; give the path of one`);
  return { ...folderFiles(dirname(path)), name: path, list: async () => [basename(path)] };
}

/**
 * The folder of a network as diffusers and transformers save one; null where the path leads to no such folder.
 * `path#fp16` names a variant of its weights.
 */
export async function modelFolderAt(path: string): Promise<{ folder: ModelFolder; variant?: string } | null> {
  const { path: place, chosen: variant } = await chosenAt(path);
  if (!(await stat(place).catch(() => null))?.isDirectory()) return null;
  const folder = await openFolder(folderFiles(place));
  return folder && { folder, variant };
}

/** `mkdir`'s own `recursive` never returns where the system refuses a folder with ENOENT, as /proc does. */
async function makeFolder(path: string, wanted: string, made: Set<string>): Promise<void> {
  if (await stat(path).catch(() => null)) return;
  if (dirname(path) !== path) await makeFolder(dirname(path), wanted, made);
  try {
    await mkdir(path);
    made.add(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EEXIST') throw new UserError(`${wanted} cannot be written (${code}): choose another folder`);
  }
}
