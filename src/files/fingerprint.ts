/** What can be fingerprinted: text, or the bytes of numbers. */
export type Part = string | ArrayBufferView;

/** WebCrypto takes what it hashes in one piece, of at most 2 GiB in some engines. */
const piece = 2 ** 28;

/** SHA-256 over parts in their order, as 64 hexadecimal digits: equal only for equal content, cut in the same places. */
export async function fingerprint(parts: Iterable<Part>): Promise<string> {
  const digests: Uint8Array[] = [];
  for (const part of parts) {
    const bytes =
      typeof part === 'string'
        ? new TextEncoder().encode(part)
        : new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
    for (let at = 0; at === 0 || at < bytes.length; at += piece)
      digests.push(await sha256(bytes.subarray(at, at + piece)));
  }
  const joined = new Uint8Array(32 * digests.length);
  digests.forEach((digest, i) => joined.set(digest, 32 * i));
  return Array.from(await sha256(joined), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

const sha256 = async (bytes: Uint8Array): Promise<Uint8Array> =>
  new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>));
