import { inflateSync } from 'fflate';

/**
 * Undoes raw deflate (RFC 1951) of a known size.
 * @returns null where the data are broken or give another number of bytes
 */
export function inflate(data: Uint8Array, size: number): Uint8Array | null {
  // Deflate gives at most 1032 bytes for one, so a size beyond that is not believed and not allocated.
  if (size > 1032 * data.length + 64) return null;
  try {
    const found = inflateSync(data, { out: new Uint8Array(size + 1) });
    return found.length === size ? found : null;
  } catch {
    return null;
  }
}
