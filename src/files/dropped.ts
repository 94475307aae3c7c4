import { blobSource } from './source.js';
import type { Files } from './store.js';

/**
 * Files that a user dropped on a page or chose in it.
 * @param files a FileList or an array; those of a chosen folder keep their paths below it
 */
export function droppedFiles(files: Iterable<File>): Files {
  const all = [...files];
  const [first] = all;
  const folder = first?.webkitRelativePath?.split('/')[0];
  const pathOf = (file: File) => file.webkitRelativePath?.slice((folder?.length ?? 0) + 1) || file.name;
  const byPath = new Map(all.map((file) => [pathOf(file), file]));
  return {
    name: folder || (all.length === 1 ? first.name : 'the files'),
    list: async () => [...byPath.keys()],
    open: async (path) => {
      const file = byPath.get(path);
      return file ? blobSource(file, path) : null;
    },
  };
}
