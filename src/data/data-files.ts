import { UserError } from '../errors.js';
import { gunzip, gunzipStart, isGzip } from '../files/gzip.js';
import { kindOf } from '../files/kind.js';
import { isTar, tarFiles } from '../files/tar.js';
import { isZip, openZip } from '../files/zip.js';
import { bytesSource, readAll, type Source } from '../files/source.js';
import type { Files } from '../files/store.js';

/** Files in which a data set is looked for, with what formats ask of them. */
export interface DataFiles {
  /** How messages call the place. */
  readonly name: string;
  /** Paths of all files but hidden ones, in order. */
  readonly paths: readonly string[];
  /** Of a file that stands alone: its first bytes, unpacked where it is gzipped. Empty for several files. */
  readonly head: Uint8Array;
  /** How messages call a file. */
  where(path: string): string;
  /** A file to be read in parts, as it lies; null where there is none. */
  open(path: string): Promise<Source | null>;
  /** Whether there is such a file, be it outside of `paths`, as neighbours of a file that stands alone are. */
  holds(path: string): Promise<boolean>;
  /**
   * A file's content, unpacked where it is gzipped.
   * @param announced as `gunzip` takes it
   * @throws UserError where it cannot be read
   */
  bytes(path: string, announced?: (head: Uint8Array) => number): Promise<Uint8Array>;
}

/** Files that systems leave in folders: their names begin with a point, or lie in the Mac's archive folder. */
const isHidden = (path: string) => path.split('/').some((part) => part.startsWith('.') || part === '__MACOSX');

/**
 * Looks at files: an archive (tar, gzipped or not, or zip other than .npz) that stands alone is
 * opened.
 * @throws UserError where there is no file, or one that cannot be read
 */
export async function lookInto(files: Files): Promise<DataFiles> {
  const all = await files.list();
  const paths = all.filter((path) => !isHidden(path)).sort();
  if (!paths.length)
    throw new UserError(`${files.name} holds no files${all.length ? ' but hidden ones' : ''}; give another folder`);
  const bytes = async (path: string, announced?: (head: Uint8Array) => number) => {
    const source = await files.open(path);
    if (!source) throw new UserError(`${files.name}: there is no ${path}`);
    const content = await readAll(source);
    if (content.length < source.size) throw new UserError(`${source.name} ends early; fetch it again`);
    return isGzip(content) ? gunzip(content, source.name, announced) : content;
  };
  const names = new Map<string, string>();
  const holds = async (path: string) => {
    const source = await files.open(path);
    if (source) names.set(path, source.name);
    return source !== null;
  };
  const where = (path: string) => names.get(path) ?? (files.name === path ? path : `${files.name}/${path}`);
  const open = (path: string) => files.open(path);
  const found = { name: files.name, paths, where, holds, open, bytes };
  if (paths.length > 1) return { ...found, head: new Uint8Array(0) };
  await holds(paths[0]);
  const head = await headOf(files, paths[0]);
  if (isTar(head)) return lookInto(tarFiles(await bytes(paths[0]), files.name));
  if (isZip(head)) {
    const entries = await openZip((await files.open(paths[0]))!);
    const isArray = [...entries.keys()].every((path) => path.endsWith('.npy'));
    if (!isArray) return lookInto(zipFiles(entries, files.name));
  }
  return { ...found, head };
}

const headBytes = 1024;

/** The first bytes of a file, unpacked where it is gzipped. */
async function headOf(files: Files, path: string): Promise<Uint8Array> {
  const source = await files.open(path);
  if (!source) throw new UserError(`${files.name}: there is no ${path}`);
  const head = await source.read(0, Math.min(16384, source.size));
  return (isGzip(head) ? gunzipStart(head) : head).subarray(0, headBytes);
}

function zipFiles(entries: Awaited<ReturnType<typeof openZip>>, name: string): Files {
  return {
    name,
    list: async () => [...entries.keys()],
    open: async (path) => {
      const entry = entries.get(path);
      return entry ? bytesSource(await entry.read(), `${name}, ${path}`) : null;
    },
  };
}

/** What files look like to someone who expected a data set: "12 .jpg, 3 .txt", or what a file that stands alone is. */
export function contentsOf(paths: readonly string[], head?: Uint8Array): string {
  if (paths.length === 1 && head) return kindOf(head) ?? 'nothing that is known';
  const kinds = new Map<string, string[]>();
  for (const path of paths) {
    const name = path.slice(path.lastIndexOf('/') + 1);
    const kind = name.includes('.') ? name.slice(name.lastIndexOf('.')).toLowerCase() : 'without an ending';
    const held = kinds.get(kind);
    if (held) held.push(path);
    else kinds.set(kind, [path]);
  }
  const counted = [...kinds]
    .sort(([, a], [, b]) => b.length - a.length)
    .map(([kind, held]) => (held.length > 1 ? `${held.length} ${kind}` : held[0]));
  return counted.slice(0, 6).join(', ') + (counted.length > 6 ? `, … (${paths.length} files)` : '');
}
