import { UserError } from '../src/errors.js';

/**
 * A whole number from a flag.
 * @throws UserError naming the flag when it is none, or smaller than `least`
 */
export function wholeNumber(flag: string, text: string, least: number): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isInteger(value) || value < least) {
    throw new UserError(`${flag} takes a whole number of at least ${least}, not "${text}"`);
  }
  return value;
}

/** A number from a flag, within bounds. */
export function numberBetween(flag: string, text: string, low: number, high: number): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= low && value <= high)) {
    throw new UserError(`${flag} takes a number from ${low} to ${high}, not "${text}"`);
  }
  return value;
}
