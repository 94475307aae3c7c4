import { describe, expect, it } from 'vitest';
import { keyOf, normals, philox, random, smallBound, toUniform, uniforms, wholeNumbers } from '../src/tensor/philox.js';

const moments = (values: ArrayLike<number>) => {
  const n = values.length;
  let mean = 0;
  for (let i = 0; i < n; i++) mean += values[i] / n;
  const central = [2, 3, 4].map((power) => {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += (values[i] - mean) ** power;
    return sum / n;
  });
  return [mean, ...central];
};

/** The same function over 64-bit integers, written from the paper. */
function philox64(counter: bigint[], key: bigint[]): number[] {
  const mask = 0xffffffffn;
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c0;
    const p1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & mask, (p0 >> 32n) ^ c3 ^ k1, p0 & mask];
    [k0, k1] = [(k0 + 0x9e3779b9n) & mask, (k1 + 0xbb67ae85n) & mask];
  }
  return [c0, c1, c2, c3].map(Number);
}

describe('Philox4x32-10', () => {
  // Random123, tests/kat_vectors.
  it.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ] as const)('known answer %#', (counter, key, expected) => {
    expect(philox(counter, key)).toEqual(expected);
  });

  it('equals 64-bit arithmetic on its own outputs', () => {
    let words: [number, number, number, number] = [1, 2, 3, 4];
    for (let i = 0; i < 500; i++) {
      const key: [number, number] = [words[3], words[0] ^ i];
      key[1] >>>= 0;
      const next = philox(words, key);
      expect(next).toEqual(philox64(words.map(BigInt), key.map(BigInt)));
      words = next;
    }
  });

  it('keys hold all 53 bits of a seed', () => {
    expect(keyOf(2 ** 53 - 1)).toEqual([0xffffffff, 0x1fffff]);
    expect(keyOf(2 ** 32 + 5)).toEqual([5, 1]);
    expect(uniforms(4, 2 ** 32 + 5, 0, 0)).not.toEqual(uniforms(4, 5, 0, 0));
  });
});

describe('streams', () => {
  it('uniforms are exact in f32 and meet neither end', () => {
    for (const word of [0, 1, 511, 512, 0x7fffffff, 0x80000000, 0xfffffdff, 0xffffffff]) {
      const value = toUniform(word);
      expect(Math.fround(value)).toBe(value);
      expect(value > 0 && Math.fround(value) < 1).toBe(true);
    }
    expect(toUniform(0)).toBe(2 ** -24);
    expect(toUniform(0xffffffff)).toBe(1 - 2 ** -24);
  });

  it('element i is output i % 4 of call i / 4, whatever the count', () => {
    const long = uniforms(1003, 7, 11, 13);
    expect(long.length).toBe(1003);
    expect(long[1002]).toBe(toUniform(philox([250, 11, 13, 0], [7, 0])[2]));
    expect(uniforms(5, 7, 11, 13)).toEqual(long.slice(0, 5));
    expect(uniforms(0, 7, 11, 13).length).toBe(0);
  });

  it('normals come in pairs by Box-Muller', () => {
    const [a, b, c, d] = uniforms(4, 3, 2, 1);
    const z = normals(4, 3, 2, 1);
    const radius = Math.sqrt(-2 * Math.log(c));
    expect(z[0]).toBeCloseTo(Math.sqrt(-2 * Math.log(a)) * Math.cos(2 * Math.PI * b), 6);
    expect(z[1]).toBeCloseTo(Math.sqrt(-2 * Math.log(a)) * Math.sin(2 * Math.PI * b), 6);
    expect(z[2]).toBeCloseTo(radius * Math.cos(2 * Math.PI * d), 6);
    expect(z[3]).toBeCloseTo(radius * Math.sin(2 * Math.PI * d), 6);
    expect(normals(6, 3, 2, 1).slice(0, 4)).toEqual(z);
  });

  it('have the right moments and are not correlated across seeds, steps and streams', () => {
    const n = 100_000;
    const [mean, variance] = moments(uniforms(n, 1, 2, 3));
    expect(Math.abs(mean - 0.5)).toBeLessThan(4 * Math.sqrt(1 / 12 / n));
    expect(Math.abs(variance - 1 / 12)).toBeLessThan(1e-3);
    const z = normals(n, 1, 2, 3);
    const [zMean, zVariance, skew, fourth] = moments(z);
    expect(Math.abs(zMean)).toBeLessThan(4 / Math.sqrt(n));
    expect(Math.abs(zVariance - 1)).toBeLessThan(4 * Math.sqrt(2 / n));
    expect(Math.abs(skew)).toBeLessThan(4 * Math.sqrt(15 / n));
    expect(Math.abs(fourth - 3)).toBeLessThan(4 * Math.sqrt(96 / n));
    for (const other of [normals(n, 2, 2, 3), normals(n, 1, 3, 3), normals(n, 1, 2, 4), z.slice(1), z.slice(4)]) {
      let product = 0;
      for (let i = 0; i < other.length; i++) product += z[i] * other[i];
      expect(Math.abs(product / other.length)).toBeLessThan(4.5 / Math.sqrt(other.length));
    }
  });

  it('the sequence draws the same words one by one', () => {
    const draw = random(9, 4, 2);
    expect(Array.from({ length: 10 }, () => draw.uniform())).toEqual([...uniforms(10, 9, 4, 2)]);
    const gauss = random(9, 4, 2);
    expect(Float32Array.from({ length: 9 }, () => gauss.normal())).toEqual(normals(9, 9, 4, 2));
  });

  it('whole numbers are even and stay below their bound', () => {
    const draw = random(5);
    const counts = Array.from({ length: 7 }, () => 0);
    for (let i = 0; i < 70_000; i++) counts[draw.below(7)]++;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(400);
    expect(draw.below(1)).toBe(0);
  });
});

describe('whole numbers below a bound', () => {
  const bounds = [
    1,
    2,
    3,
    7,
    1000,
    60_000,
    2 ** 16,
    2 ** 16 + 1,
    2 ** 23 + 1,
    2 ** 24,
    3 * 2 ** 30,
    2 ** 32 - 1,
    2 ** 32,
  ];

  it('are the words as a fraction of 2^64 times the bound, small ones the uniform numbers times it', () => {
    for (const bound of bounds) {
      const got = wholeNumbers(41, bound, 5, 6, 7);
      got.forEach((value, i) => {
        const words = [0, 2].map((block) => philox([i >> 2, 6, 7, block], [5, 0])[i % 4]);
        const exact = Number(((BigInt(words[0]) * 2n ** 32n + BigInt(words[1])) * BigInt(bound)) / 2n ** 64n);
        const small = Math.min(Math.floor(Math.fround(toUniform(words[0]) * bound)), bound - 1);
        expect(value).toBe(bound > smallBound ? exact : small);
      });
    }
  });

  // Near the bound, near 0, and by remainders, which the upper bits of a word alone would miss.
  it.each(bounds)('are even below %i', (bound) => {
    const count = 40_000;
    const values = wholeNumbers(count, bound, 3, 1, 2);
    for (const [bins, binOf] of [
      [Math.min(bound, 16), (value: number) => Math.floor((value / bound) * Math.min(bound, 16))],
      [Math.min(bound, 3), (value: number) => value % 3],
      [Math.min(bound, 2), (value: number) => value % 2],
    ] as const) {
      const share = new Float64Array(bins);
      if (bound <= 1e5) for (let value = 0; value < bound; value++) share[binOf(value)] += 1 / bound;
      else share.fill(1 / bins);
      const counts = new Float64Array(bins);
      for (const value of values) counts[binOf(value)]++;
      counts.forEach((seen, bin) => {
        expect(Math.abs(seen - count * share[bin])).toBeLessThan(5 * Math.sqrt(count * share[bin]) + 1);
      });
      expect(values.every((value) => value < bound)).toBe(true);
    }
  });

  it('are refused where there are none', () => {
    for (const bound of [0, -1, 0.5, 2 ** 32 + 1, NaN, Infinity])
      expect(() => wholeNumbers(1, bound, 0, 0, 0)).toThrow(/a bound is a whole number from 1 to 2\^32/);
  });
});
