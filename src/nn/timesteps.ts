import { concat, gather, reshape, slice } from '../ops/movement.js';
import { add, cos, floor, maximum, minimum, mul, sin, sub, toIndex } from '../ops/pointwise.js';
import { tensor, type Tensor } from '../tensor/tensor.js';

/** How sinusoids of timesteps are laid out, by the names that diffusers has for it. */
export interface TimestepLayout {
  /** Whether cosines come before sines. Default false. */
  flipSinToCos?: boolean;
  /** Frequencies are exp(-k · ln(10000) / (count - freqShift)), k < count. Default 1. */
  freqShift?: number;
}

/** Whole timesteps whose sinusoids are known in advance. */
const rows = 1024;

function frequenciesOf(width: number, { freqShift = 1 }: TimestepLayout): Float64Array {
  const count = Math.floor(width / 2);
  return Float64Array.from({ length: count }, (_, k) => Math.exp((-k * Math.log(10000)) / (count - freqShift)));
}

/**
 * Sinusoids [B, width] of timesteps t [B], of 0 to 1023 with any fraction. Sines and cosines of whole timesteps are tables
 * that the host makes in float64, since those of large angles are not reliable on devices; the angle of the fraction is
 * small and added by their theorem. An odd width ends in a zero.
 */
export function timestepSinusoids(t: Tensor, width: number, layout: TimestepLayout = {}): Tensor {
  const frequencies = frequenciesOf(width, layout);
  const count = frequencies.length;
  const table = new Float32Array(rows * 2 * count);
  for (let n = 0; n < rows; n++)
    frequencies.forEach((frequency, k) => {
      table[n * 2 * count + k] = Math.sin(n * frequency);
      table[n * 2 * count + count + k] = Math.cos(n * frequency);
    });
  const whole = minimum(maximum(floor(t), 0), rows - 1);
  const known = gather(tensor(table, [rows, 2 * count]), toIndex(whole));
  const [sines, cosines] = [slice(known, 1, 0, count), slice(known, 1, count, 2 * count)];
  const angles = mul(reshape(sub(t, whole), [t.size, 1]), tensor(Float32Array.from(frequencies), [1, count]));
  const [sine, cosine] = [sin(angles), cos(angles)];
  const both = [add(mul(sines, cosine), mul(cosines, sine)), sub(mul(cosines, cosine), mul(sines, sine))];
  const parts = layout.flipSinToCos ? both.reverse() : both;
  if (width % 2) parts.push(tensor(new Float32Array(t.size), [t.size, 1]));
  return concat(parts, 1);
}

/**
 * The embedding [width] of a scale of classifier-free guidance that consistency-distilled UNets take (Luo et al., LCM,
 * 2023), as the condition `guidanceEmbedding`: sinusoids of (scale - 1) · 1000, sines first, in float64.
 */
export function guidanceSinusoids(scale: number, width: number): Float32Array {
  const angles = frequenciesOf(width, {}).map((frequency) => (scale - 1) * 1000 * frequency);
  const values = new Float32Array(width);
  values.set([...angles.map(Math.sin), ...angles.map(Math.cos)]);
  return values;
}
