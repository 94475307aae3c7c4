import type { Group } from '../src/gpu/group.js';

/**
 * The sum over ranks of values that travel in f16: half the bytes. What rounding takes away is not lost but added to what
 * goes next (error feedback; Seide et al., 2014, and for both roundings on the way Tang et al., DoubleSqueeze, 2019), so
 * that over many steps the sums add up to those of f32.
 */
export class HalfSum {
  /**
   * @param left what rounding took away so far on this rank, which goes with the next values; as many as values are summed
   */
  constructor(
    private readonly group: Group,
    private readonly left: Float32Array,
  ) {}

  /**
   * Replaces values by their sum over all ranks, the same bits on each: every rank sums a block of what all give, and gives
   * all what comes of it. Where one gives what is no number, its block becomes NaN on all.
   */
  async sum(values: Float32Array): Promise<void> {
    const { left, group } = this;
    const { rank, size } = group;
    const length = Math.ceil(values.length / size);
    const blockOf = (of: Float32Array, k: number) => of.subarray(k * length, (k + 1) * length);
    const bytes = bytesFor(length);
    const given = new Uint8Array(size * bytes);
    for (let i = 0; i < values.length; i++) values[i] += left[i];
    for (let k = 0; k < size; k++)
      pack(blockOf(values, k), given.subarray(k * bytes, (k + 1) * bytes), blockOf(left, k));
    const received = await group.swap(given);
    const own = blockOf(values, rank).fill(0);
    for (let k = 0; k < size; k++) add(received.subarray(k * bytes, (k + 1) * bytes), own);
    const sum = new Uint8Array(bytes);
    const rest = new Float32Array(own.length);
    pack(own, sum, rest);
    const ownLeft = blockOf(left, rank);
    for (let i = 0; i < rest.length; i++) ownLeft[i] += rest[i];
    const sums = await group.gather(sum);
    values.fill(0);
    sums.forEach((block, k) => add(block, blockOf(values, k)));
  }
}

/** A block as it travels: how many times it was doubled, in 8 bytes, then its values as f16, to a multiple of 8 bytes. */
const bytesFor = (length: number): number => 8 + Math.ceil(length / 4) * 8;
const doublingsOf = ({ buffer, byteOffset }: Uint8Array) => new Float64Array(buffer, byteOffset, 1);
const halvesOf = ({ buffer, byteOffset }: Uint8Array, length: number) =>
  new Uint16Array(buffer, byteOffset + 8, length);
const bitsOf = ({ buffer, byteOffset, length }: Float32Array) => new Uint32Array(buffer, byteOffset, length);

/** Bits of an f32: its size without the sign, and what is no number, or none that is finite. */
const sizeBits = 0x7fffffff;
const infinite = 0x7f800000;
/** Exponents of f32, biased as they are stored: 2^14, to which the largest value is brought, and the smallest of f16. */
const [top, smallest] = [127 + 14, 127 - 14];

/**
 * Rounds values to f16 under a power of two that brings the largest of them to 2^14 … 2^15. What is 2^28 times smaller than
 * that is left over whole.
 * @param left takes what rounding takes away; stays as it is where a value is no number, whose block says just that
 */
function pack(values: Float32Array, bytes: Uint8Array, left: Float32Array): void {
  const bits = bitsOf(values);
  let largest = 0;
  for (let i = 0; i < bits.length; i++) largest = Math.max(largest, bits[i] & sizeBits);
  if (largest >= infinite) {
    doublingsOf(bytes)[0] = NaN;
    return;
  }
  const doublings = top - (largest >>> 23);
  doublingsOf(bytes)[0] = doublings;
  const least = Math.max(1, smallest - doublings) << 23;
  // From f32's exponent to f16's, whose bias is less by 112.
  const moved = (doublings - 112) << 23;
  const [halves, leftBits] = [halvesOf(bytes, values.length), bitsOf(left)];
  for (let i = 0; i < bits.length; i++) {
    const size = bits[i] & sizeBits;
    const sign = bits[i] ^ size;
    // To the nearest of 10 bits behind the point, ties to even.
    const rounded = size < least ? 0 : (size + 0xfff + ((size >>> 13) & 1)) & ~0x1fff;
    halves[i] = (sign >>> 16) | (rounded && (rounded + moved) >>> 13);
    leftBits[i] = sign | rounded;
    left[i] = values[i] - left[i];
  }
}

let table: Float32Array | undefined;
/** What every f16 is; those below 2^-14 do not travel. */
const decoded = (): Float32Array =>
  (table ??= Float32Array.from({ length: 2 ** 16 }, (_, bits) => {
    const exponent = (bits >> 10) & 31;
    return exponent ? (bits & 0x8000 ? -1 : 1) * (1024 + (bits & 1023)) * 2 ** (exponent - 25) : 0;
  }));

/** Adds a block's values. */
function add(bytes: Uint8Array, values: Float32Array): void {
  const scale = 2 ** -doublingsOf(bytes)[0];
  const [halves, numbers] = [halvesOf(bytes, values.length), decoded()];
  for (let i = 0; i < values.length; i++) values[i] += numbers[halves[i]] * scale;
}
