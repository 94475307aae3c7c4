import { endToEnd } from './bytes.js';
import { bytesSource } from './source.js';
import { collected, type Store } from './store.js';

const table = 'files';

/**
 * A browser's own database as a store: small files that outlast the page, such as what `tune` found.
 * @param name of the database
 * @throws DOMException, by what it does, where the browser keeps nothing, as in private windows of some
 */
export function indexedDbStore(name: string): Store {
  const opened = () =>
    answerOf<IDBDatabase>(() => {
      const request = indexedDB.open(name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(table);
      return request;
    });
  const ask = async <T>(mode: IDBTransactionMode, what: (files: IDBObjectStore) => IDBRequest<T>): Promise<T> => {
    const database = await opened();
    try {
      return await answerOf(() => what(database.transaction(table, mode).objectStore(table)));
    } finally {
      database.close();
    }
  };
  const read = (path: string) => ask<Uint8Array | undefined>('readonly', (files) => files.get(path));
  const put = (path: string, bytes: Uint8Array) => ask('readwrite', (files) => files.put(bytes, path));
  const bytesOf = async (content: Uint8Array | string | AsyncIterable<Uint8Array>) =>
    typeof content === 'string'
      ? new TextEncoder().encode(content)
      : content instanceof Uint8Array
        ? content
        : collected(content);
  return {
    name,
    open: async (path) => {
      const bytes = await read(path);
      return bytes ? bytesSource(bytes, `${name}/${path}`) : null;
    },
    list: async () => (await ask('readonly', (files) => files.getAllKeys())).map(String),
    write: async (path, content) => void (await put(path, await bytesOf(content))),
    append: async (path, content) =>
      void (await put(path, endToEnd([(await read(path)) ?? new Uint8Array(0), await bytesOf(content)]))),
    remove: (path) => ask('readwrite', (files) => files.delete(path)),
  };
}

function answerOf<T>(ask: () => IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const request = ask();
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error!);
  });
}
