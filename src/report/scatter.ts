import { UserError } from '../errors.js';
import { Canvas } from './canvas.js';
import { PALETTE } from './palette.js';

export interface ScatterOptions {
  /** The square [low, high]² that is shown; default what holds 99.8 % of the coordinates. Give panels the same one. */
  range?: readonly [number, number];
  /** Side in pixels, default 360. */
  size?: number;
  colour?: string;
  /** Radius of a dot in pixels; by default smaller the more points there are. */
  radius?: number;
  /** Opacity of a dot; by default lower the more points there are. */
  alpha?: number;
  /** What it is drawn on, default white; null leaves the page to shine through. */
  background?: string | null;
}

/**
 * A scatter plot of points [n, 2], x to the right and y up, in a box with a grid. Points beyond the range are not drawn.
 */
export function scatter(points: ArrayLike<number>, options: ScatterOptions = {}): Canvas {
  const { size = 360, colour = PALETTE[0], background = '#ffffff' } = options;
  if (points.length % 2 !== 0)
    throw new UserError(`a scatter plot needs points of two coordinates, ${points.length} numbers were given`);
  const n = points.length / 2;
  const [low, high] = widened(options.range ?? spread(points));
  const {
    radius = Math.min(2.2, Math.max(1, 60 / Math.sqrt(n + 1))),
    alpha = Math.min(0.9, Math.max(0.3, 45 / Math.sqrt(n + 1))),
  } = options;

  const canvas = new Canvas(size, size, background);
  const toPixel = (value: number): number => ((value - low) / (high - low)) * size;
  for (const line of gridLines(low, high)) {
    const at = toPixel(line);
    for (const way of [
      [at, 0, at, size],
      [0, size - at, size, size - at],
    ])
      canvas.stroke([way], 1, edge, line === 0 ? 0.5 : 0.2);
  }
  for (let i = 0; i < n; i++) {
    const x = toPixel(points[2 * i]);
    const y = size - toPixel(points[2 * i + 1]);
    if (x >= 0 && x <= size && y >= 0 && y <= size) canvas.dot(x, y, radius, colour, alpha);
  }
  canvas.fill(0, 0, size, 1, edge);
  canvas.fill(0, size - 1, size, 1, edge);
  canvas.fill(0, 1, 1, size - 2, edge);
  canvas.fill(size - 1, 1, 1, size - 2, edge);
  return canvas;
}

/** Of box and grid: seen on light and on dark. */
const edge = '#98a2b0';

/** A range that can be drawn: one of no length, such as that of points which are all alike, is opened on both sides. */
function widened([low, high]: readonly [number, number]): readonly [number, number] {
  if (!Number.isFinite(low) || !Number.isFinite(high)) return [-1, 1];
  if (high > low) return [low, high];
  const room = Math.abs(low) / 2 || 1;
  return [Math.min(low, high) - room, Math.max(low, high) + room];
}

/** The inner 99.8 % of the finite coordinates and a margin: a few strays must not shrink the picture. */
function spread(points: ArrayLike<number>): [number, number] {
  const sorted = Float64Array.from(points)
    .filter((value) => Number.isFinite(value))
    .sort();
  if (sorted.length === 0) return [-1, 1];
  const cut = Math.floor(sorted.length / 1000);
  const reach = 1.08 * Math.max(Math.abs(sorted[cut]), Math.abs(sorted[sorted.length - 1 - cut])) || 1;
  return [-reach, reach];
}

/** Round values inside the range, four to ten of them. */
function gridLines(low: number, high: number): number[] {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].findLast((k) => k * power <= rough)!;
  const first = Math.ceil(low / step);
  const count = Math.floor(high / step) - first + 1;
  return Array.from({ length: count }, (_, k) => (first + k) * step).filter((value) => value > low && value < high);
}
