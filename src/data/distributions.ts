import { checkerboardVelocity, gaussianMixtureVelocity, type ExactVelocity } from './closed-form.js';
import type { Random } from '../tensor/philox.js';

/** A law in the plane that can be sampled without end. */
export interface Distribution {
  /** Half the side of the square around 0 that holds (nearly) all of it. */
  extent: number;
  /** One point. */
  point(random: Random): readonly [number, number];
  /** The velocity from N(0, I) to this law, where there is a closed form. */
  velocity?: ExactVelocity;
}

/** `count` points of equal Gaussians whose centres lie evenly on a circle. */
export function circleOfMeans(count: number, radius: number): [number, number][] {
  return Array.from({ length: count }, (_, k) => {
    const angle = (2 * Math.PI * k) / count;
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
}

const eightMeans = circleOfMeans(8, 2);
const eightStd = 0.2;

function rotate([x, y]: readonly [number, number], angle: number): [number, number] {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  return [c * x - s * y, s * x + c * y];
}

/** The named sets, all of about the scale of the unit Gaussian they are reached from. */
export const distributions = {
  '8gaussians': {
    extent: 3,
    point(random) {
      const [x, y] = eightMeans[random.below(8)];
      return [x + eightStd * random.normal(), y + eightStd * random.normal()];
    },
    velocity: gaussianMixtureVelocity(eightMeans, eightStd),
  },
  /** Uniform on the unit cells of [-2, 2]² whose lower corners have an even sum. */
  checkerboard: {
    extent: 2.5,
    point(random) {
      const column = random.below(4);
      const row = 2 * random.below(2) + (column % 2);
      return [column - 2 + random.uniform(), row - 2 + random.uniform()];
    },
    velocity: checkerboardVelocity,
  },
  /** Two half circles of radius 1.5 that reach into each other. */
  moons: {
    extent: 2.5,
    point(random) {
      const angle = Math.PI * random.uniform();
      const [x, y] = [Math.cos(angle) - 0.5, Math.sin(angle) - 0.25];
      const side = random.below(2) ? 1 : -1;
      return [1.5 * side * x + 0.1 * random.normal(), 1.5 * side * y + 0.1 * random.normal()];
    },
  },
  /** Two arms of one and a half turns; the root spreads points evenly along them. */
  spirals: {
    extent: 2.5,
    point(random) {
      const turn = Math.sqrt(random.uniform());
      const angle = 3 * Math.PI * turn + Math.PI * random.below(2);
      const radius = 2.2 * turn;
      return [radius * Math.cos(angle) + 0.05 * random.normal(), radius * Math.sin(angle) + 0.05 * random.normal()];
    },
  },
  /** Five blades: Gaussians stretched outwards and twisted by their radius (Johnson et al., 2016). */
  pinwheel: {
    extent: 3.5,
    point(random) {
      const x = 1 + 0.3 * random.normal();
      const y = 0.1 * random.normal();
      const twist = (2 * Math.PI * random.below(5)) / 5 + 0.25 * Math.exp(x);
      const [a, b] = rotate([x, y], twist);
      return [1.5 * a, 1.5 * b];
    },
  },
  /** Three rings of radius 0.7, 1.4 and 2.1, points in proportion to length. */
  rings: {
    extent: 2.5,
    point(random) {
      const draw = random.below(6);
      const radius = 0.7 * (draw < 1 ? 1 : draw < 3 ? 2 : 3) + 0.05 * random.normal();
      const angle = 2 * Math.PI * random.uniform();
      return [radius * Math.cos(angle), radius * Math.sin(angle)];
    },
  },
} as const satisfies Record<string, Distribution>;

export type DistributionName = keyof typeof distributions;

/** `n` points, a row [x, y] each. */
export function samplePoints(distribution: Distribution, n: number, random: Random): Float32Array {
  const points = new Float32Array(2 * n);
  for (let i = 0; i < n; i++) points.set(distribution.point(random), 2 * i);
  return points;
}
