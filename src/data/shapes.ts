import { type Random, random } from '../tensor/philox.js';
import type { Samples } from './dataset.js';

/** Procedural labelled images, so that a fresh clone has some: one figure each, drawn from its signed distance. */

/** Distance from a point to the outline, negative inside; figures lie within radius 1 around 0. */
type Figure = (x: number, y: number) => number;

const circle: Figure = (x, y) => Math.hypot(x, y) - 1;

/** Signed distance to a closed polygon (I. Quilez), corners [x, y] in order. */
function polygon(corners: readonly (readonly [number, number])[]): Figure {
  return (x, y) => {
    let square = Infinity;
    let sign = 1;
    for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
      const [ax, ay] = corners[i];
      const [bx, by] = corners[j];
      const [ex, ey, wx, wy] = [bx - ax, by - ay, x - ax, y - ay];
      const along = Math.min(1, Math.max(0, (wx * ex + wy * ey) / (ex * ex + ey * ey)));
      square = Math.min(square, (wx - ex * along) ** 2 + (wy - ey * along) ** 2);
      if (ay <= y !== by <= y && ex * wy > ey * wx === ey > 0) sign = -sign;
    }
    return sign * Math.sqrt(square);
  };
}

/** Corners on a circle, their radii in turn from `radii`. */
function star(count: number, ...radii: number[]): Figure {
  return polygon(
    Array.from({ length: count * radii.length }, (_, k) => {
      const angle = (2 * Math.PI * k) / (count * radii.length);
      const radius = radii[k % radii.length];
      return [radius * Math.sin(angle), -radius * Math.cos(angle)] as const;
    }),
  );
}

/** Half the width and the length of the cross's arms: its corners lie on the unit circle. */
const arm = 0.3;
const reach = Math.sqrt(1 - arm * arm);

const figures = {
  circle,
  ring: (x, y) => Math.abs(circle(x, y) + 0.2) - 0.2,
  square: star(4, 1),
  triangle: star(3, 1),
  pentagon: star(5, 1),
  star: star(5, 1, 0.4),
  cross: polygon([
    [-arm, -reach],
    [arm, -reach],
    [arm, -arm],
    [reach, -arm],
    [reach, arm],
    [arm, arm],
    [arm, reach],
    [-arm, reach],
    [-arm, arm],
    [-reach, arm],
    [-reach, -arm],
    [-arm, -arm],
  ]),
  bar: polygon([
    [-0.96, -0.28],
    [0.96, -0.28],
    [0.96, 0.28],
    [-0.96, 0.28],
  ]),
  crescent: (x, y) => Math.max(circle(x, y), -(Math.hypot(x - 0.55, y) - 0.75)),
  'half disc': (x, y) => Math.max(circle(x, y), -y),
} as const satisfies Record<string, Figure>;

/** Names of the classes, in the order of their labels. */
export const shapeNames = Object.keys(figures) as (keyof typeof figures)[];
const figureList: readonly Figure[] = Object.values(figures);

/** The two variants: 'shapes28' grey on black, 'shapes32' a coloured figure on a dark coloured ground. */
export const shapeSets = {
  shapes28: { shape: [1, 28, 28] },
  shapes32: { shape: [3, 32, 32] },
} as const;

/**
 * `count` images as bytes, classes in turn. Image i depends on seed, stream and i alone.
 * @param shape [1 or 3, height, width]
 */
export function sampleShapes(shape: readonly number[], count: number, seed: number, stream: number): Samples {
  const size = shape[0] * shape[1] * shape[2];
  const values = new Uint8Array(count * size);
  const labels = Uint32Array.from({ length: count }, (_, i) => i % figureList.length);
  for (let i = 0; i < count; i++) {
    drawShape(figureList[labels[i]], shape, random(seed, i, stream), values.subarray(i * size, (i + 1) * size));
  }
  return { count, values, labels };
}

function drawShape(figure: Figure, shape: readonly number[], draw: Random, image: Uint8Array): void {
  const [channels, height, width] = shape;
  const between = (low: number, high: number) => low + (high - low) * draw.uniform();
  const radius = between(0.22, 0.42) * Math.min(height, width);
  const angle = between(0, 2 * Math.PI);
  // The figure's circle stays inside the image.
  const centerX = between(radius, width - radius);
  const centerY = between(radius, height - radius);
  const ground = Array.from({ length: channels }, () => (channels === 1 ? 0 : between(0, 0.3)));
  const ink = Array.from({ length: channels }, () => between(0.6, 1));
  // One dimmed channel gives the figure a hue.
  if (channels > 1) ink[draw.below(channels)] = between(0.1, 0.6);
  const [c, s] = [Math.cos(angle) / radius, Math.sin(angle) / radius];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const x = column + 0.5 - centerX;
      const y = row + 0.5 - centerY;
      // The share of the pixel that an edge at this distance covers; none away from the figure's circle.
      const far = x * x + y * y > (radius + 1) ** 2;
      const coverage = far ? 0 : Math.min(1, Math.max(0, 0.5 - figure(c * x + s * y, c * y - s * x) * radius));
      for (let channel = 0; channel < channels; channel++) {
        const value = ground[channel] + coverage * (ink[channel] - ground[channel]);
        image[(channel * height + row) * width + column] = Math.round(255 * value);
      }
    }
  }
}
