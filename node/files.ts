import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { SemiflowError, UserError } from '../src/errors.js';
import { kindOf } from '../src/files/kind.js';
import type { Source } from '../src/files/source.js';
import type { Wanted } from '../src/checkpoint/pytorch/file.js';
import { openWeights } from '../src/checkpoint/weights.js';
import { openSafetensors, streamSafetensors, type SafetensorsFile } from '../src/checkpoint/safetensors.js';

/** Node reads at most 2 GiB a call. */
const chunk = 2 ** 30;

/**
 * A file as a source. It is opened for each read and nothing stays open; if it is replaced or changed in between, the
 * read fails instead of mixing two versions.
 * @throws UserError if there is no readable file at `path`
 */
export async function fileSource(path: string): Promise<Source> {
  const stampOf = async (file: FileHandle) => {
    const { dev, ino, size, mtimeNs } = await file.stat({ bigint: true });
    return { stamp: `${dev}:${ino}:${size}:${mtimeNs}`, size: Number(size) };
  };
  const first = await withFile(path, stampOf);
  const read = (offset: number, length: number) =>
    withFile(path, async (file) => {
      if ((await stampOf(file)).stamp !== first.stamp) {
        throw new UserError(`${path}: the file changed while it was being read; run the command again`);
      }
      const bytes = allocate(length, path);
      let done = 0;
      while (done < length) {
        const { bytesRead } = await file.read(bytes, done, Math.min(chunk, length - done), offset + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      return bytes.subarray(0, done);
    });
  return { name: path, size: first.size, read };
}

async function withFile<T>(path: string, use: (file: FileHandle) => Promise<T>): Promise<T> {
  let file: FileHandle | undefined;
  try {
    // A pipe would keep `open` waiting for a writer.
    file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    if (!(await file.stat()).isFile()) throw new UserError(`${path}: not a file; give the path of a file`);
    return await use(file);
  } catch (error) {
    throw error instanceof UserError ? error : new UserError(`${path}: ${readFailure(error)}`);
  } finally {
    await file?.close();
  }
}

function allocate(length: number, path: string): Uint8Array {
  try {
    return new Uint8Array(length);
  } catch {
    throw new UserError(`${path}: ${length} bytes do not fit in memory; use a machine with more`);
  }
}

/** Why a file or folder cannot be read, and the mend, in words. */
export function readFailure(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ENOTDIR') return 'there is no such file; check the path';
  if (code === 'EACCES' || code === 'EPERM') return 'permission to read is denied; change the permissions of the file';
  return `cannot be read (${oneLine(message)}); check the path and the disk`;
}

/** Longest text that is read: configurations and descriptions have kilobytes. */
const mostText = 64 * 2 ** 20;

/** The text of a file in UTF-8. @throws UserError where it cannot be read, is no text or too long for one */
export async function readTextFile(path: string): Promise<string> {
  const source = await fileSource(path);
  if (source.size > mostText) throw new UserError(`${path}: ${source.size} bytes are no text that is wanted here`);
  const bytes = await source.read(0, source.size);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    const kind = kindOf(bytes.subarray(0, 512));
    throw new UserError(`${path} is no text${kind ? `: it is ${kind}` : ' in UTF-8'}; check the path`);
  }
}

/** Opens the safetensors file at `path`: the header is read and checked, tensors are read when asked for. */
export async function readSafetensors(path: string): Promise<SafetensorsFile> {
  return openSafetensors(await fileSource(path));
}

/** A path and, behind the last `#`, what of it is meant; a file may have the sign in its name. */
export async function chosenAt(path: string): Promise<{ path: string; chosen?: string }> {
  const at = path.lastIndexOf('#');
  if (at < 0 || (await stat(path).catch(() => null))) return { path };
  return { path: path.slice(0, at), chosen: path.slice(at + 1) };
}

/**
 * Opens the file of weights at `path`, safetensors or PyTorch's. `path#ema.model` names one of several sets of weights in
 * a PyTorch file.
 * @param fit as `openWeights` takes it
 */
export async function readWeights(path: string, fit?: Wanted['fit']): Promise<SafetensorsFile> {
  const { path: file, chosen } = await chosenAt(path);
  return openWeights(await fileSource(file), { chosen, fit });
}

let writing = true;

/** Leaves files to another process that runs the same program: what this one would write is dropped from now on. */
export function leaveFilesToOthers(): void {
  writing = false;
}

/**
 * Writes a file so that at every moment `path` holds either the old content or the new one, whole: aside in the same
 * folder, synced, renamed, folder synced. On failure nothing is left behind.
 * @throws UserError naming the path and the mend (folder missing or unwritable, disk full)
 */
export async function writeFileAtomic(
  path: string,
  content: Uint8Array | string | AsyncIterable<Uint8Array>,
): Promise<void> {
  if (!writing) return;
  const folder = dirname(path);
  const aside = join(folder, `.${basename(path)}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`);
  try {
    const file = await open(aside, 'wx', 0o666);
    try {
      // Each goes on where the one before ended.
      for await (const part of partsOf(content)) await file.writeFile(part);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(aside, path);
    await syncFolder(folder);
  } catch (error) {
    await rm(aside, { force: true }).catch(() => {});
    throw error instanceof SemiflowError ? error : new UserError(`${path}: ${writeFailure(error, folder)}`);
  }
}

async function* partsOf(content: Uint8Array | string | AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array | string> {
  if (typeof content === 'string' || content instanceof Uint8Array) yield content;
  else yield* content;
}

async function syncFolder(folder: string): Promise<void> {
  // Windows cannot open folders; its rename is durable without.
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function writeFailure(error: unknown, folder: string): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return `cannot be written, there is no folder ${folder}; create it or choose another path`;
  if (code === 'ENOTDIR') return `cannot be written, ${folder} is not a folder; choose another path`;
  if (code === 'EISDIR' || code === 'ENOTEMPTY') return 'cannot be written, it is a folder; choose a file name';
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return `cannot be written, the folder ${folder} is not writable; choose another path or change its permissions`;
  }
  if (code === 'ENOSPC' || code === 'EDQUOT') return 'cannot be written, the disk is full; free space and try again';
  return `cannot be written (${oneLine(message)}); check the path and the disk`;
}

function oneLine(message: string): string {
  return message.replace(/\s+/g, ' ');
}

/** Writes a safetensors file atomically, tensor by tensor. @throws UserError as streamSafetensors and writeFileAtomic do */
export async function writeSafetensors(
  path: string,
  tensors: Parameters<typeof streamSafetensors>[0],
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeFileAtomic(path, streamSafetensors(tensors, metadata));
}
