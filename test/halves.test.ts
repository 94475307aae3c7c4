import { describe, expect, it } from 'vitest';
import { random } from '../src/tensor/philox.js';
import { HalfSum } from '../trainers/halves.js';
import { meeting } from './support/ranks.js';

/** Sums what ranks give, and what is left over with each. */
async function sums(
  given: readonly Float32Array[],
  left: readonly Float32Array[] = given.map(({ length }) => new Float32Array(length)),
) {
  const groups = meeting(given.length);
  const values = given.map((own) => own.slice());
  await Promise.all(values.map((own, rank) => new HalfSum(groups[rank], left[rank]).sum(own)));
  return { values, left };
}
const drawn = (ranks: number, length: number, seed: number, scale = (i: number) => 10 ** ((i % 5) - 3)) => {
  const draw = random(seed);
  return Array.from({ length: ranks }, () => Float32Array.from({ length }, (_, i) => scale(i) * draw.normal()));
};
/** In float64. */
const total = (all: readonly Float32Array[], i: number) => all.reduce((sum, values) => sum + values[i], 0);

describe('a sum in half', () => {
  const shapes = [2, 3, 5, 8].flatMap((ranks) => [1, 2, 7, 64, 1013].map((length) => [ranks, length] as const));

  it.each(shapes)('over %i ranks of %i values is that of f32 to 11 bits, on all ranks alike', async (ranks, length) => {
    const given = drawn(ranks, length, 1, () => 1);
    const { values } = await sums(given);
    for (const other of values) expect(other).toEqual(values[0]);
    const largest = Math.max(...given.map((own) => Math.max(...own.map(Math.abs))));
    values[0].forEach((value, i) =>
      expect(Math.abs(value - total(given, i))).toBeLessThan((ranks + 1) * largest * ranks * 2 ** -11),
    );
  });

  it.each(shapes)('over %i ranks of %i values gives no more and no less than it was given', async (ranks, length) => {
    const [wanted, found] = [new Float64Array(length), new Float64Array(length)];
    let left: readonly Float32Array[] | undefined;
    let largest = 0;
    for (let step = 0; step < 20; step++) {
      // Values of very unlike sizes, the small ones far below what f16 tells apart beside the large ones.
      const given = drawn(ranks, length, step, (i) => 10 ** -(i % 11));
      const outcome = await sums(given, left);
      left = outcome.left;
      wanted.forEach((value, i) => (wanted[i] = value + total(given, i)));
      found.forEach((value, i) => (found[i] = value + outcome.values[0][i]));
      largest = Math.max(largest, ...outcome.values[0].map(Math.abs));
    }
    wanted.forEach((value, i) => expect(Math.abs(value - found[i] - total(left!, i))).toBeLessThan(largest * 1e-5));
  });

  it.each([1e-36, 1e-7, 1, 1e30, 1e37])('keeps 11 bits of values around %d', async (scale) => {
    const given = drawn(3, 50, 4, () => scale);
    const { values } = await sums(given);
    values[0].forEach((value, i) => expect(Math.abs(value - total(given, i))).toBeLessThan(20 * scale * 2 ** -10));
  });

  it('leaves over what no normal f32 is', async () => {
    const given = drawn(2, 9, 8, () => 1e-41);
    const { values, left } = await sums(given);
    for (const own of values) expect([...own].every((value) => value === 0)).toBe(true);
    expect(left).toEqual(given);
  });

  it('sums nothing to nothing', async () => {
    const { values, left } = await sums(drawn(3, 10, 5, () => 0));
    for (const own of [...values, ...left]) expect([...own].every((value) => value === 0)).toBe(true);
  });

  it.each([NaN, Infinity, -Infinity])(
    'says %d of one rank to all, and keeps what was left over as it was',
    async (wrong) => {
      const before = drawn(3, 10, 6, () => 1e-4);
      const given = drawn(3, 10, 7);
      given[1][2] = wrong;
      const { values, left } = await sums(
        given,
        before.map((own) => own.slice()),
      );
      for (const own of values) expect(own[2]).toBeNaN();
      for (const own of left) expect(own.every(Number.isFinite)).toBe(true);
      // The block of the second value of ten: four of them.
      expect(left[1].slice(0, 4)).toEqual(before[1].slice(0, 4));
    },
  );
});
