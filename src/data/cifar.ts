import { gunzipSync } from 'node:zlib';
import { UserError } from '../errors.js';

const pixels = 3 * 32 * 32;

/**
 * CIFAR-10's binary format: records of a label byte and 3 x 32 x 32 bytes, planes red, green, blue; gzipped or not.
 * @throws UserError where the file is no whole number of such records
 */
export function parseCifar(
  bytes: Uint8Array,
  name: string,
): { count: number; values: Uint8Array; labels: Uint32Array } {
  const plain = bytes[0] === 0x1f && bytes[1] === 0x8b ? unzip(bytes, name) : bytes;
  const count = plain.length / (pixels + 1);
  if (!Number.isInteger(count) || !count)
    throw new UserError(`${name}: ${plain.length} bytes are no whole number of CIFAR-10 records of ${pixels + 1}`);
  const values = new Uint8Array(count * pixels);
  const labels = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    const start = i * (pixels + 1);
    labels[i] = plain[start];
    if (labels[i] > 9)
      throw new UserError(`${name}: record ${i} has label ${labels[i]}: this is not CIFAR-10's format`);
    values.set(plain.subarray(start + 1, start + 1 + pixels), i * pixels);
  }
  return { count, values, labels };
}

function unzip(bytes: Uint8Array, name: string): Uint8Array {
  try {
    return gunzipSync(bytes);
  } catch {
    throw new UserError(`${name}: its gzip data are damaged: fetch the file again`);
  }
}
