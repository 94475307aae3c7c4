import { endToEnd } from './bytes.js';

/** What can be fingerprinted: text, or the bytes of numbers. */
export type Part = string | ArrayBufferView;

/** WebCrypto takes what it hashes in one piece, of at most 2 GiB in some engines. */
export const checksumPiece = 2 ** 28;

/** SHA-256 over parts in their order, as 64 hexadecimal digits: equal only for equal content, cut in the same places. */
export async function fingerprint(parts: Iterable<Part> | AsyncIterable<Part>): Promise<string> {
  const digests: Uint8Array[] = [];
  for await (const part of parts) {
    const bytes =
      typeof part === 'string'
        ? new TextEncoder().encode(part)
        : new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
    for (let at = 0; at === 0 || at < bytes.length; at += checksumPiece)
      digests.push(await sha256(bytes.subarray(at, at + checksumPiece)));
  }
  return hexadecimal(await sha256(endToEnd(digests)));
}

/** The fingerprint of one part that comes in chunks, wherever these are cut. */
export function chunkedFingerprint(chunks: AsyncIterable<Uint8Array>): Promise<string> {
  return fingerprint(pieces(chunks));
}

/** Chunks as pieces of one length, but for the last. */
async function* pieces(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let waiting: Uint8Array[] = [];
  let bytes = 0;
  let first = true;
  const take = () => {
    const all = endToEnd(waiting);
    [waiting, bytes, first] = [[], 0, false];
    return all;
  };
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length;) {
      const part = chunk.subarray(at, at + checksumPiece - bytes);
      waiting.push(part);
      at += part.length;
      bytes += part.length;
      if (bytes === checksumPiece) yield take();
    }
  }
  if (bytes || first) yield take();
}

const hexadecimal = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

const sha256 = async (bytes: Uint8Array): Promise<Uint8Array> =>
  new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>));
