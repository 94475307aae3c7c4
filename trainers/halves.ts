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
    blockOf(left, rank).forEach((value, i, all) => (all[i] = value + rest[i]));
    const sums = await group.gather(sum);
    values.fill(0);
    sums.forEach((block, k) => add(block, blockOf(values, k)));
  }
}

/** A block as it travels: its scale in f64, then values times that as f16, to a multiple of 8 bytes. */
const bytesFor = (length: number): number => 8 + Math.ceil(length / 4) * 8;
const scaleOf = ({ buffer, byteOffset }: Uint8Array) => new Float64Array(buffer, byteOffset, 1);
const halvesOf = ({ buffer, byteOffset }: Uint8Array, length: number) =>
  new Uint16Array(buffer, byteOffset + 8, length);

/** What every f16 is. */
const decoded = Float32Array.from({ length: 2 ** 16 }, (_, bits) => {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return NaN;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
});

/**
 * Rounds values to f16 under a power of two that brings the largest of them to 2^14 … 2^15.
 * @param left takes what rounding takes away; stays as it is where a value is no number, whose block says just that
 */
function pack(values: Float32Array, bytes: Uint8Array, left: Float32Array): void {
  let largest = 0;
  // What is no number stays.
  for (const value of values) largest = Math.abs(value) <= largest ? largest : Math.abs(value);
  if (!Number.isFinite(largest)) {
    scaleOf(bytes)[0] = NaN;
    return;
  }
  const scale = largest && 2 ** (14 - Math.floor(Math.log2(largest)));
  scaleOf(bytes)[0] = scale;
  const halves = halvesOf(bytes, values.length);
  for (let i = 0; i < values.length; i++) {
    const half = toHalf(values[i] * scale);
    halves[i] = half;
    left[i] = scale && values[i] - decoded[half] / scale;
  }
}

/** Adds a block's values. */
function add(bytes: Uint8Array, values: Float32Array): void {
  const [scale] = scaleOf(bytes);
  if (scale === 0) return;
  const halves = halvesOf(bytes, values.length);
  for (let i = 0; i < values.length; i++) values[i] += decoded[halves[i]] / scale;
}

const single = new Float32Array(1);
const singleBits = new Uint32Array(single.buffer);

/** The nearest f16 of a number below 2^16, as bits; ties to even but for those below 2^-14. */
function toHalf(value: number): number {
  single[0] = value;
  const bits = singleBits[0];
  const sign = (bits >>> 16) & 0x8000;
  const size = bits & 0x7fffffff;
  // The smallest normal f16, as f32.
  if (size < 0x38800000) return sign | Math.round(Math.abs(value) * 2 ** 24);
  return sign | ((size + 0xfff + ((size >>> 13) & 1) - 0x38000000) >>> 13);
}
