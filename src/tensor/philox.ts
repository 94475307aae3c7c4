import { UserError } from '../errors.js';

/**
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): random numbers as a pure function
 * of (seed, step, stream, element). kernels/lib/philox.wgsl is the same function on the device.
 * Element i is output i % 4 of the call with counter (⌊i/4⌋, step, stream, 0) and key (seed low word, seed high word).
 */

const unit = 2 ** -23;

/** One call: four words for a counter of four words and a key of two. */
export function philox(
  [c0, c1, c2, c3]: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  const words = new Uint32Array(4);
  philoxInto(words, c0, c1, c2, c3, key[0], key[1]);
  return [words[0], words[1], words[2], words[3]];
}

/** The same into given memory: millions of weights are drawn so. */
function philoxInto(
  words: Uint32Array,
  counter0: number,
  counter1: number,
  counter2: number,
  counter3: number,
  key0: number,
  key1: number,
): void {
  let [c0, c1, c2, c3, k0, k1] = [counter0 | 0, counter1 | 0, counter2 | 0, counter3 | 0, key0 | 0, key1 | 0];
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd2511f53, c0);
    const low0 = Math.imul(0xd2511f53, c0);
    const high1 = multiplyHigh(0xcd9e8d57, c2);
    const low1 = Math.imul(0xcd9e8d57, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

/** High word of the 64-bit product of two 32-bit words. */
function multiplyHigh(a: number, b: number): number {
  const al = a & 0xffff;
  const ah = a >>> 16;
  const bl = b & 0xffff;
  const bh = b >>> 16;
  const middle = ah * bl + ((al * bl) >>> 16);
  // Both sums stay below 2^32: 0xffff * 0xffff + 0xffff + 0xffff.
  const carry = al * bh + (middle & 0xffff);
  return ah * bh + (middle >>> 16) + (carry >>> 16);
}

/** A word as f32 in (0, 1): its upper 23 bits moved by half a step, exact in f32, so that neither end is met. */
export function toUniform(word: number): number {
  return (word >>> 9) * unit + unit / 2;
}

/** Box-Muller: two uniforms to two standard normals. */
export function toNormals(u1: number, u2: number): [number, number] {
  const radius = Math.sqrt(-2 * Math.log(u1));
  const angle = 2 * Math.PI * u2;
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}

/** The key of a seed. @param seed a whole number from 0 to 2^53 - 1 */
export function keyOf(seed: number): [number, number] {
  return [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
}

/** Values from the words of as many calls as it takes. @param four writes four values from a place on, of four words */
function fill(
  count: number,
  seed: number,
  step: number,
  stream: number,
  four: (words: Uint32Array, values: Float32Array, at: number) => void,
): Float32Array {
  const values = new Float32Array(Math.ceil(count / 4) * 4);
  const [low, high] = keyOf(seed);
  const words = new Uint32Array(4);
  for (let i = 0; i < count; i += 4) {
    philoxInto(words, i / 4, step, stream, 0, low, high);
    four(words, values, i);
  }
  return count === values.length ? values : values.slice(0, count);
}

/** `count` uniforms in (0, 1), the same numbers to the bit as on the device. */
export function uniforms(count: number, seed: number, step: number, stream: number): Float32Array {
  return fill(count, seed, step, stream, (words, values, at) => {
    for (let j = 0; j < 4; j++) values[at + j] = toUniform(words[j]);
  });
}

/** `count` standard normals, equal to the device's up to its logarithm, sine and cosine. */
export function normals(count: number, seed: number, step: number, stream: number): Float32Array {
  return fill(count, seed, step, stream, (words, values, at) => {
    for (let j = 0; j < 4; j += 2) {
      const [first, second] = toNormals(toUniform(words[j]), toUniform(words[j + 1]));
      values[at + j] = first;
      values[at + j + 1] = second;
    }
  });
}

/**
 * Bounds up to here take the upper 23 bits of a word, times the bound in f32; above, where those would leave numbers out,
 * 64 bits are multiplied exactly.
 */
export const smallBound = 2 ** 16;

/** @throws UserError where there are no whole numbers below it that fit a word */
export function checkBound(bound: number): void {
  if (!Number.isInteger(bound) || bound < 1 || bound > 2 ** 32)
    throw new UserError(`whole numbers below ${bound}: a bound is a whole number from 1 to 2^32`);
}

/**
 * `count` whole numbers 0 … bound - 1, the same as on the device, evenly to within a share of 2^-7 for bounds up to 2^16
 * and of 2^-32 above.
 * @throws UserError where the bound is none
 */
export function wholeNumbers(count: number, bound: number, seed: number, step: number, stream: number): Uint32Array {
  checkBound(bound);
  const values = new Uint32Array(count);
  const key = keyOf(seed);
  for (let i = 0; i < count; i += 4) {
    const high = philox([i / 4, step, stream, 0], key);
    const low = bound > smallBound ? philox([i / 4, step, stream, 2], key) : high;
    for (let j = 0; j < Math.min(4, count - i); j++)
      values[i + j] =
        bound > smallBound
          ? Number((((BigInt(high[j]) << 32n) | BigInt(low[j])) * BigInt(bound)) >> 64n)
          : Math.min(Math.fround(toUniform(high[j]) * bound), bound - 1);
  }
  return values;
}

/** Numbers drawn one after another from one (seed, step, stream). */
export interface Random {
  /** In (0, 1). */
  uniform(): number;
  normal(): number;
  /** A whole number from 0 to bound - 1. */
  below(bound: number): number;
}

/** A sequence for code on the host that draws as it goes; streams and steps never overlap. */
export function random(seed: number, step = 0, stream = 0): Random {
  const key = keyOf(seed);
  let words: readonly number[] = [];
  let used = 4;
  let call = 0;
  let spare: number | undefined;
  const word = () => {
    if (used === 4) {
      words = philox([call++, step, stream, 0], key);
      used = 0;
    }
    return words[used++];
  };
  const uniform = () => toUniform(word());
  const normal = () => {
    if (spare !== undefined) {
      const value = spare;
      spare = undefined;
      return value;
    }
    const [first, second] = toNormals(uniform(), uniform());
    spare = second;
    return first;
  };
  return { uniform, normal, below: (bound) => Math.floor((word() / 2 ** 32) * bound) };
}
