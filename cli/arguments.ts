import { totalmem } from 'node:os';
import { UserError } from '../src/errors.js';

/**
 * The number that a text states in decimal, perhaps with sign, fraction and exponent: no blanks, no hexadecimal, nothing
 * beyond what a double holds. Undefined where it states none.
 */
export function parseNumber(text: string): number | undefined {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) return undefined;
  const value = Number(text);
  // Minus nothing is nothing: a sign that no one meant must not reach a seed or a file.
  return Number.isFinite(value) ? value + 0 : undefined;
}

/** A range of numbers that a flag allows, with why it ends where it does. */
export interface Bounds {
  least: number;
  most?: number;
  /** Why no more than `most`, to follow the number in a message. */
  because?: string;
}

/**
 * A whole number from a flag.
 * @throws UserError naming the flag when it is none, out of bounds, or so large that it would be rounded
 */
export function wholeNumber(flag: string, text: string, { least, most, because }: Bounds): number {
  const value = parseNumber(text);
  if (value === undefined || !Number.isInteger(value) || value < least)
    throw new UserError(`${flag} takes a whole number of at least ${least}, not "${text}"`);
  if (!Number.isSafeInteger(value))
    throw new UserError(`${flag} ${text} is beyond 2^53 - 1, the largest whole number that is not rounded`);
  if (most !== undefined && value > most)
    throw new UserError(`${flag} takes at most ${most}${because ? `, ${because}` : ''}: not ${text}`);
  return value;
}

/** A number from a flag, within bounds. @throws UserError naming the flag */
export function numberBetween(flag: string, text: string, low: number, high: number): number {
  const value = parseNumber(text);
  if (value === undefined || value < low || value > high)
    throw new UserError(`${flag} takes a number from ${low} to ${high}, not "${text}"`);
  return value;
}

/** A seed from a flag. */
export const seedNumber = (flag: string, text: string): number => wholeNumber(flag, text, { least: 0 });

/**
 * A number of samples from a flag.
 * @param size values of a sample
 * @throws UserError also where that many do not fit this machine's memory
 */
export function sampleCount(flag: string, text: string, size: number, least = 1): number {
  // Noise, samples and what is written of them.
  const bytes = size * 4 * 4;
  const fit = Math.min(Math.floor(totalmem() / bytes), Math.floor(2 ** 31 / size));
  return wholeNumber(flag, text, { least, most: fit, because: 'what the memory of this machine holds' });
}
