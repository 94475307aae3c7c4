import { endToEnd } from './bytes.js';
import { bytesSource, readAll, type Source } from './source.js';

/** Files to be read, by paths with forward slashes below one place: a folder, the files that a user dropped on a page. */
export interface Files {
  /** How messages call the place, usually a folder's path. */
  readonly name: string;
  /** A file to be read in parts; null where there is none. */
  open(path: string): Promise<Source | null>;
  /** The paths of all files. */
  list(): Promise<string[]>;
}

/** Where a run or an experiment keeps its files: a folder, a browser's own storage, memory. */
export interface Store extends Files {
  /** Replaces a file whole, with content that may come in parts: at every moment it holds the old one or the new one. */
  write(path: string, content: Uint8Array | string | AsyncIterable<Uint8Array>): Promise<void>;
  /** Adds to the end of a file, which is made where it is missing. */
  append(path: string, content: Uint8Array | string): Promise<void>;
  /** Removes a file, if it is there. */
  remove(path: string): Promise<void>;
}

const encode = (content: Uint8Array | string): Uint8Array =>
  typeof content === 'string' ? new TextEncoder().encode(content) : content;

/** All of what comes in parts. */
export async function collected(parts: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const part of parts) all.push(part);
  return endToEnd(all);
}

/** The whole text of a file; null where there is none. */
export async function readText(files: Files, path: string): Promise<string | null> {
  const source = await files.open(path);
  return source && new TextDecoder().decode(await readAll(source));
}

/** A store that lasts as long as the process. */
export function memoryStore(name = 'memory'): Store {
  const files = new Map<string, Uint8Array>();
  return {
    name,
    open: async (path) => {
      const bytes = files.get(path);
      return bytes ? bytesSource(bytes, `${name}/${path}`) : null;
    },
    list: async () => [...files.keys()],
    write: async (path, content) => {
      const bytes =
        typeof content === 'object' && !(content instanceof Uint8Array) ? await collected(content) : encode(content);
      files.set(path, bytes.slice());
    },
    append: async (path, content) => {
      files.set(path, endToEnd([files.get(path) ?? new Uint8Array(0), encode(content)]));
    },
    remove: async (path) => void files.delete(path),
  };
}

/**
 * What a place holds now, with changes that only this process sees: for one that runs along with another, which writes.
 * What the other writes from now on is not there.
 */
export async function apart(files: Files): Promise<Store> {
  const there = new Set(await files.list());
  const own = memoryStore(files.name);
  const open: Files['open'] = async (path) => (await own.open(path)) ?? (there.has(path) ? files.open(path) : null);
  return {
    name: files.name,
    open,
    list: async () => [...new Set([...there, ...(await own.list())])],
    write: async (path, content) => {
      await own.write(path, content);
      there.delete(path);
    },
    append: async (path, content) => {
      const before = there.delete(path) ? await files.open(path) : null;
      if (before) await own.write(path, await readAll(before));
      await own.append(path, content);
    },
    remove: async (path) => {
      there.delete(path);
      await own.remove(path);
    },
  };
}
