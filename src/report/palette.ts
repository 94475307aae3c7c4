/** Colours of lines and points, of middle lightness: legible on light and dark pages. */
export const PALETTE = [
  '#3f74d8',
  '#e2711d',
  '#2a9d6f',
  '#b0529e',
  '#8a8f98',
  '#c9a227',
  '#d1495b',
  '#3aa6b9',
  '#7f6a52',
] as const;

export type Rgb = readonly [number, number, number];

/** '#rrggbb' as three numbers of 0 … 255. */
export function hex(colour: string): Rgb {
  const value = parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
