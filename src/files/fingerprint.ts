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

/** Chunks as pieces of one length, but for the last, each in the same memory as the one before. */
async function* pieces(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let held = new Uint8Array(2 ** 16);
  let [bytes, none] = [0, true];
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length;) {
      const part = chunk.subarray(at, at + checksumPiece - bytes);
      if (bytes + part.length > held.length) {
        const larger = new Uint8Array(Math.min(checksumPiece, Math.max(2 * held.length, bytes + part.length)));
        larger.set(held.subarray(0, bytes));
        held = larger;
      }
      held.set(part, bytes);
      at += part.length;
      bytes += part.length;
      if (bytes < checksumPiece) continue;
      yield held;
      [bytes, none] = [0, false];
    }
  }
  if (bytes || none) yield held.subarray(0, bytes);
}

const hexadecimal = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

const sha256 = async (bytes: Uint8Array): Promise<Uint8Array> =>
  new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>));
