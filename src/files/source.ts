import { UserError } from '../errors.js';

/** Bytes that can be read by range: a file, a Blob, a web address that answers range requests, an array. */
export interface Source {
  /** How messages call it, usually the path. */
  name: string;
  /** Bytes in all. */
  size: number;
  /** Exactly `length` bytes from `offset`, which the caller may keep and change; fewer only where the source ends. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** Bytes in memory. */
export function bytesSource(bytes: Uint8Array, name: string): Source {
  // A Uint8Array also of a Buffer, whose `slice` would share the memory.
  const read = async (offset: number, length: number) => new Uint8Array(bytes.subarray(offset, offset + length));
  return { name, size: bytes.byteLength, read };
}

/** A Blob, or a File that a user chose in a page: only what is asked for is read. */
export function blobSource(blob: Blob, name = 'name' in blob ? String(blob.name) : 'a blob'): Source {
  const read = async (offset: number, length: number) =>
    new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
  return { name, size: blob.size, read };
}

/**
 * A web address, read by ranges.
 * @throws UserError where it does not answer, or answers no ranges
 */
export async function urlSource(url: string): Promise<Source> {
  const range = async (from: number, to: number) => {
    const answer = await fetch(url, { headers: { Range: `bytes=${from}-${to}` } }).catch((error: Error) => {
      throw new UserError(`${url} cannot be fetched (${error.message})`);
    });
    if (answer.status !== 206)
      throw new UserError(
        answer.ok
          ? `${url}: the server sends whole files only: download it and open the file`
          : `${url} cannot be fetched: the server answers ${answer.status} ${answer.statusText}`,
      );
    return answer;
  };
  const first = await range(0, 0);
  const size = Number(first.headers.get('Content-Range')?.split('/')[1]);
  if (!Number.isSafeInteger(size)) throw new UserError(`${url}: the server does not say how large the file is`);
  await first.body?.cancel();
  const read = async (offset: number, length: number) => {
    const last = Math.min(offset + length, size) - 1;
    return last < offset ? new Uint8Array(0) : new Uint8Array(await (await range(offset, last)).arrayBuffer());
  };
  return { name: url, size, read };
}

/** All of a source. */
export const readAll = ({ size, read }: Source): Promise<Uint8Array> => read(0, size);
