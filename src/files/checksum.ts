const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let word = byte;
  for (let bit = 0; bit < 8; bit++) word = word & 1 ? (word >>> 1) ^ 0xedb88320 : word >>> 1;
  return word;
});

/**
 * CRC-32 of ISO 3309, which PNG, gzip and zip carry.
 * @param before the checksum of the bytes that come before these
 */
export function crc32(bytes: Uint8Array, before = 0): number {
  let word = ~before;
  for (let i = 0; i < bytes.length; i++) word = crcTable[(word ^ bytes[i]) & 0xff] ^ (word >>> 8);
  return ~word >>> 0;
}

/** Adler-32 (RFC 1950), which zlib data end with. */
export function adler32(bytes: Uint8Array): number {
  let [low, high] = [1, 0];
  // As many bytes as fit before the sums must be reduced.
  for (let start = 0; start < bytes.length; start += 3800) {
    const end = Math.min(start + 3800, bytes.length);
    for (let i = start; i < end; i++) high += low += bytes[i];
    low %= 65521;
    high %= 65521;
  }
  return ((high << 16) | low) >>> 0;
}
