import { UserError } from '../errors.js';
import type { NumberArray, NumberValues } from './format.js';

type Range = readonly [number, number];

/** Lowest and highest element, and whether all are whole numbers. */
export interface Extremes {
  low: number;
  high: number;
  whole: boolean;
}

/**
 * Lowest and highest element of arrays.
 * @throws UserError naming the first sample with an element that is no finite number
 */
export function extremesOf(arrays: readonly NumberArray[], name: string): Extremes {
  let [low, high, whole] = [Infinity, -Infinity, true];
  for (const { values, shape } of arrays) {
    if (values instanceof Uint8Array) {
      for (let i = 0; i < values.length; i++) {
        if (values[i] < low) low = values[i];
        if (values[i] > high) high = values[i];
      }
      continue;
    }
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      if (!Number.isFinite(value)) {
        const sample = Math.floor(i / (values.length / shape[0]));
        throw new UserError(`${name}: sample ${sample} holds ${value}; remove or mend it`);
      }
      if (value < low) low = value;
      if (value > high) high = value;
      whole &&= Number.isInteger(value);
    }
  }
  return { low, high, whole };
}

/**
 * What the lowest and the highest pixel of images stand at: as declared, or recognised by the type and the values.
 * Bytes run over 0 … 255, words over 0 … 65535, other numbers over 0 … 1, -1 … 1 or 0 … 255.
 * @throws UserError where no range fits, or pixels lie outside of the one that was declared
 */
export function pixelRange(
  values: NumberValues,
  boolean: boolean,
  found: Extremes,
  name: string,
  declared?: Range,
): Range {
  const { low, high, whole } = found;
  if (declared) {
    const [from, to] = declared;
    if (!(Number.isFinite(from) && Number.isFinite(to) && from < to))
      throw new UserError(`${name}: pixels from ${from} to ${to} are no range: give the lower end first`, 'pixels');
    // What arithmetic in half precision may leave outside.
    const slack = whole ? 0 : (to - from) * 1e-3;
    if (low < from - slack || high > to + slack)
      throw new UserError(
        `${name}: pixels run from ${low} to ${high}, outside of ${from} … ${to} as declared`,
        'pixels',
      );
    return declared;
  }
  if (boolean || (whole && low >= 0 && high === 1)) return [0, 1];
  if (values instanceof Uint8Array) return [0, 255];
  if (values instanceof Uint16Array && high > 16383) return [0, 65535];
  if (!whole || high <= 1) {
    if (low >= -1e-3 && high <= 1.001) return [0, 1];
    if (low >= -1.002 && high <= 1.002) return [-1, 1];
  }
  if (low >= 0 && high <= 255 && high > 127) return [0, 255];
  throw new UserError(
    `${name}: pixels run from ${low} to ${high}, which is none of 0 … 1, -1 … 1 and 0 … 255: scale them, or declare what they run over (np.savez(file, x=x, range=[low, high])), or that they are no pixels (none)`,
    'pixels',
  );
}

/**
 * Pixels moved from one range to another: bytes where they stand for the new one as they are, else f32.
 * @returns bytes that mean to[0] + byte / 255 · (to[1] - to[0]), or the values themselves
 */
export function rescale(values: NumberValues, whole: boolean, from: Range, to: Range): Uint8Array | Float32Array {
  const [low, high] = from;
  if (whole && low === 0 && high === 255) return values instanceof Uint8Array ? values : Uint8Array.from(values);
  if (whole && low === 0 && high === 1) return Uint8Array.from(values, (value) => 255 * value);
  if (low === to[0] && high === to[1]) return Float32Array.from(values);
  const factor = (to[1] - to[0]) / (high - low);
  return Float32Array.from(values, (value) => to[0] + (value - low) * factor);
}
