/** Colours of values: one ramp for the violation of a law, one with two sides for differences. */
import { hex, type Rgb } from '../../src/report/palette.js';

/** From a night blue, where a law holds, over violet and coral to a pale gold, where it is broken. */
const anchors = ['#10162f', '#27306b', '#5b3a8c', '#9d3f8f', '#d9546c', '#f58a4b', '#fbc765', '#fff6c9'].map(hex);

/** The ramp at a place from 0 to 1. */
export const ramp = (place: number): Rgb => between(anchors, place);

const sides = ['#8fc7ff', '#3f74d8', '#1b1f2b', '#e2711d', '#ffd19a'].map(hex);

/** A signed value from -1 to 1: blue below, orange above, dark where there is nothing. */
export const signed = (value: number): Rgb => between(sides, (value + 1) / 2);

function between(colours: readonly Rgb[], place: number): Rgb {
  const at = Math.min(1, Math.max(0, place)) * (colours.length - 1);
  const first = Math.min(colours.length - 2, Math.floor(at));
  const [from, to] = [colours[first], colours[first + 1]];
  const mix = (channel: 0 | 1 | 2) => from[channel] + (at - first) * (to[channel] - from[channel]);
  return [mix(0), mix(1), mix(2)];
}
