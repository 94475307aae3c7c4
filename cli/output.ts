import { access, constants, readdir, stat } from 'node:fs/promises';
import { dirname, extname } from 'node:path';
import { UserError } from '../src/errors.js';

/**
 * Checks, before any work is done for it, that a file can be written, and returns its extension.
 * @param extensions those that the command writes
 * @param input a file that must not be overwritten
 * @throws UserError naming the cause and the mend
 */
export async function checkOutput(path: string, extensions: readonly string[], input?: string): Promise<string> {
  const extension = extname(path).toLowerCase();
  if (!extensions.includes(extension))
    throw new UserError(`${path}: the name must end in ${extensions.join(' or ')}, which says what is written`);
  const folder = dirname(path);
  const inFolder = await stat(folder).catch(() => null);
  if (!inFolder?.isDirectory())
    throw new UserError(`${path} cannot be written, there is no folder ${folder}: create it or choose another path`);
  await access(folder, constants.W_OK).catch(() => {
    throw new UserError(`${path} cannot be written, the folder ${folder} is not writable: choose another path`);
  });
  const old = await stat(path).catch(() => null);
  if (old?.isDirectory()) throw new UserError(`${path} is a folder: choose a file name`);
  const from = input === undefined ? null : await stat(input).catch(() => null);
  if (old && from && old.dev === from.dev && old.ino === from.ino)
    throw new UserError(`${path} is the input itself: choose another path`);
  return extension;
}

/** Whether a path is meant as a folder: it ends in a slash. */
export const isFolder = (path: string): boolean => /[/\\]$/.test(path);

/**
 * Checks that files can be written into a folder, which holds nothing yet.
 * @returns '/', in place of an extension
 */
export async function checkFolder(path: string): Promise<string> {
  const held = await readdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new UserError(`${path} cannot be written (${error.code}): choose another folder`);
  });
  if (held.length)
    throw new UserError(`${path} holds ${held.length} files already: choose a new folder or an empty one`);
  return '/';
}
