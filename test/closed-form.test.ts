import { describe, expect, it } from 'vitest';
import {
  checkerboardVelocity,
  eulerFlow,
  exactFlow,
  heunFlow,
  gaussianMixtureVelocity,
  velocities,
  type ExactVelocity,
} from '../src/data/closed-form.js';
import { distributions, samplePoints } from '../src/data/distributions.js';
import { mills, truncate } from '../src/data/normal-tail.js';
import { normals, random, uniforms } from '../src/tensor/philox.js';
import { slicedWasserstein } from '../src/metrics/sliced-wasserstein.js';

const at = (velocity: ExactVelocity, point: number[], t: number) => [...velocities(velocity, point, t, point.length)];
const relative = (a: number, b: number) => Math.abs(a - b) / Math.max(Math.abs(b), 1e-300);

/** Simpson's rule, n even. */
function simpson(f: (z: number) => number, low: number, high: number, n: number): number {
  const h = (high - low) / n;
  let sum = f(low) + f(high);
  for (let i = 1; i < n; i++) sum += (i % 2 ? 4 : 2) * f(low + i * h);
  return (sum * h) / 3;
}

describe('normal tails', () => {
  it("Mills' ratio agrees with its continued fraction", () => {
    for (let y = 1; y < 60; y *= 1.07) {
      let fraction = 0;
      for (let k = 2000; k > 0; k--) fraction = k / (y + fraction);
      expect(relative(mills(y), 1 / (y + fraction))).toBeLessThan(2e-15);
    }
    expect(mills(1e8)).toBeCloseTo(1e-8, 20);
    expect([mills(0), mills(Infinity)]).toEqual([Math.sqrt(Math.PI / 2), 0]);
    for (const y of [0.01, 0.3, 0.67, 0.68, 1.2]) {
      const integral = simpson((u) => Math.exp(-u * y - (u * u) / 2), 0, 12, 40_000);
      expect(relative(mills(y), integral)).toBeLessThan(1e-13);
    }
  });

  it('an interval agrees with quadrature wherever it lies', () => {
    const draw = random(1);
    for (let trial = 0; trial < 400; trial++) {
      const width = 10 ** (-6 + 7.3 * draw.uniform());
      const a = (draw.uniform() - 0.5) * 10 ** (4 * draw.uniform() - 1) - width / 2;
      const b = a + width;
      // Relative to the largest value in the interval, which lies at `top`.
      const top = Math.min(Math.max(0, a), b);
      const density = (u: number) => Math.exp(-(a + u * width - top) * ((a + u * width + top) / 2));
      // Quadrature only over what is not negligible.
      const reach = Math.min(1, 80 / width / Math.max(1, Math.abs(top)), 14 / width + (top === a || top === b ? 0 : 1));
      const [low, high] = top === a ? [0, reach] : top === b ? [1 - reach, 1] : [0, 1];
      const mass = simpson(density, low, high, 4000);
      const { logDensity, fraction } = truncate(a, b);
      expect(Math.abs(logDensity + (top * top) / 2 - Math.log(mass))).toBeLessThan(1e-9 + 1e-15 * top * top);
      expect(Math.abs(fraction - simpson((u) => u * density(u), low, high, 4000) / mass)).toBeLessThan(1e-9);
    }
  });

  it('does not jump where the method changes', () => {
    for (const [a, b] of [
      [-0.5, 0.5],
      [-3.5, -2.5],
      [2.5, 3.5],
      [-1, 0],
      [0, 5.656854],
      [-5.7, -4.7],
      [-0.6744897, 0.4],
    ]) {
      const [below, above] = [truncate(a, b - 1e-9), truncate(a, b + 1e-9)];
      expect(Math.abs(below.logDensity - above.logDensity)).toBeLessThan(1e-7);
      expect(Math.abs(below.fraction - above.fraction)).toBeLessThan(1e-7);
    }
  });
});

describe('Gaussian data N(0, c²), c = 0.5', () => {
  const velocity = gaussianMixtureVelocity([[0]], 0.5);
  const v = (x: number, t: number) => at(velocity, [x], t)[0];
  const spread = (t: number) => Math.sqrt((1 - t) ** 2 * 0.25 + t * t);
  const map = (x: number, t: number, s: number) => (x * spread(s)) / spread(t);
  const u = (x: number, t: number, s: number) => (map(x, t, s) - x) / (s - t);

  // references: t, s, ε, v, Φ, u, then the one-sample targets of EMD (Euler, Heun), LMD (Euler) and the semigroup.
  it.each([
    [1, 0, 1, 1, 0.5, 0.5, 1, 0.5, 1, 0.5],
    [1, 0, 0.5, 1, 0.5, 0.5, 0.552786, 0.463344, 0.776393, 0.5],
    [1, 0, 0.1, 1, 0.5, 0.5, 0.50077, 0.499916, 0.511906, 0.5],
    [1, 0, 0.05, 1, 0.5, 0.5, 0.500173, 0.499991, 0.502747, 0.5],
    [0.8, 0.2, 0.5, 1.153846, 0.5547, 0.742166, 0.794872, 0.721026, 0.927066, 0.742166],
    [0.8, 0.2, 0.1, 1.153846, 0.5547, 0.742166, 0.743301, 0.742084, 0.752395, 0.742166],
    [0.8, 0.2, 0.05, 1.153846, 0.5547, 0.742166, 0.74243, 0.742157, 0.744756, 0.742166],
    [0.5, 0, 0.5, 1.2, 0.894427, 0.211146, 0.446839, 0.173756, 0.511583, 0.211146],
    [0.5, 0, 0.1, 1.2, 0.894427, 0.211146, 0.217589, 0.210771, 0.220975, 0.211146],
    [0.5, 0, 0.05, 1.2, 0.894427, 0.211146, 0.212665, 0.211101, 0.213493, 0.211146],
  ])('golden values %#', (t, s, eps, ...golden) => {
    const between = t + eps * (s - t);
    const restOf = (slope: number) =>
      eps * slope + (1 - eps) * (eps < 1 ? u(1 + (between - t) * slope, between, s) : 0);
    const heunSlope = (v(1, t) + v(1 + (between - t) * v(1, t), between)) / 2;
    const late = s + eps * (t - s);
    const lagrangian = (1 - eps) * (eps < 1 ? u(1, t, late) : 0) + eps * v(map(1, t, late), late);
    const half = (t + s) / 2;
    const semigroup = (u(1, t, half) + u(map(1, t, half), half, s)) / 2;
    const numeric = heunFlow(velocity, [1], t, s, 2000, 1)[0];
    const found = [
      v(1, t),
      numeric,
      (numeric - 1) / (s - t),
      restOf(v(1, t)),
      restOf(heunSlope),
      lagrangian,
      semigroup,
    ];
    found.forEach((value, i) => expect(Math.abs(value - golden[i])).toBeLessThan(1.1e-6));
  });

  it('Heun converges to the exact map with order 2, in both directions and per-row times', () => {
    const error = (steps: number) => Math.abs(heunFlow(velocity, [1.3], 1, 0.1, steps, 1)[0] - map(1.3, 1, 0.1));
    expect(error(40) / error(80)).toBeGreaterThan(3.5);
    expect(error(40) / error(80)).toBeLessThan(4.5);
    const rows = heunFlow(velocity, [1, 2, -1], [1, 0.2, 0.5], [0, 0.9, 0.5], 4000, 1);
    [map(1, 1, 0), map(2, 0.2, 0.9), -1].forEach((value, i) => expect(rows[i]).toBeCloseTo(value, 6));
    const euler = (steps: number) => Math.abs(eulerFlow(velocity, [1.3], 1, 0.1, steps, 1)[0] - map(1.3, 1, 0.1));
    expect(euler(200) / euler(400)).toBeCloseTo(2, 1);
  });
});

describe('mixture of Gaussians', () => {
  it('agrees with the score of its density, v = -(x + t·score) / (1-t)', () => {
    const means = [
      [1, 2],
      [-1.5, 0.5],
      [0.2, -2],
    ];
    const velocity = gaussianMixtureVelocity(means, 0.3);
    const draw = random(3);
    for (let trial = 0; trial < 200; trial++) {
      const t = 0.05 + 0.9 * draw.uniform();
      const x = [3 * draw.normal(), 3 * draw.normal()];
      const variance = (1 - t) ** 2 * 0.09 + t * t;
      const logDensity = (p: number[]) => {
        const logs = means.map((m) => -((p[0] - (1 - t) * m[0]) ** 2 + (p[1] - (1 - t) * m[1]) ** 2) / (2 * variance));
        const top = Math.max(...logs);
        return top + Math.log(logs.reduce((sum, log) => sum + Math.exp(log - top), 0));
      };
      const h = 1e-5;
      const found = at(velocity, x, t);
      for (const d of [0, 1]) {
        const shifted = (by: number) => logDensity(x.map((value, i) => (i === d ? value + by : value)));
        const score = (shifted(h) - shifted(-h)) / (2 * h);
        expect(Math.abs(found[d] - -(x[d] + t * score) / (1 - t))).toBeLessThan(2e-5 * (1 + Math.abs(found[d])));
      }
    }
  });

  it('is finite at both ends and far out, and carries noise to the eight Gaussians', () => {
    const { velocity } = distributions['8gaussians'];
    for (const t of [0, 1e-6, 0.5, 1]) {
      for (const x of [
        [0, 0],
        [1e6, -1e6],
        [1e-9, 5],
      ])
        expect(at(velocity, x, t).every(Number.isFinite)).toBe(true);
    }
    const n = 4000;
    const moved = heunFlow(velocity, normals(2 * n, 4, 0, 0), 1, 0, 48);
    const truth = samplePoints(distributions['8gaussians'], n, random(5));
    expect(slicedWasserstein(moved, truth, 2)).toBeLessThan(0.08);
  });
});

describe('checkerboard', () => {
  const v = (x: number[], t: number) => at(checkerboardVelocity, x, t);

  it('agrees with brute-force integration over its cells', () => {
    const draw = random(6);
    const nodes = 4000;
    for (let trial = 0; trial < 60; trial++) {
      const t = 0.1 + 0.9 * draw.uniform();
      const x = [2 * draw.normal(), 2 * draw.normal()];
      // exp(-(x - (1-t)u)²/2t²) at the midpoints of `nodes` parts of each unit interval, relative to its largest value.
      const axis = (d: number) =>
        Array.from({ length: 4 * nodes }, (_, i) => {
          const u = -2 + (i + 0.5) / nodes;
          return -((x[d] - (1 - t) * u) ** 2) / (2 * t * t);
        });
      const sums = [0, 1].map((d) => {
        const logs = axis(d);
        const top = Math.max(...logs);
        return Array.from({ length: 4 }, (_, cell) => {
          let [mass, moment] = [0, 0];
          for (let i = cell * nodes; i < (cell + 1) * nodes; i++) {
            mass += Math.exp(logs[i] - top);
            moment += Math.exp(logs[i] - top) * (-2 + (i + 0.5) / nodes);
          }
          return [mass, moment];
        });
      });
      let [mass, meanX, meanY] = [0, 0, 0];
      for (let i = 0; i < 4; i++) {
        for (let j = i % 2; j < 4; j += 2) {
          mass += sums[0][i][0] * sums[1][j][0];
          meanX += sums[0][i][1] * sums[1][j][0];
          meanY += sums[0][i][0] * sums[1][j][1];
        }
      }
      const found = v(x, t);
      expect(Math.abs(found[0] - (x[0] - meanX / mass) / t)).toBeLessThan(1e-4);
      expect(Math.abs(found[1] - (x[1] - meanY / mass) / t)).toBeLessThan(1e-4);
    }
  });

  it('agrees with Monte Carlo over the points that are drawn', () => {
    const points = samplePoints(distributions.checkerboard, 200_000, random(7));
    for (const [x, y, t] of [
      [0.3, -0.4, 0.7],
      [-1.2, 0.9, 0.4],
      [2.5, 0.1, 0.9],
      [0.5, 0.5, 0.3],
    ]) {
      let [mass, meanX, meanY] = [0, 0, 0];
      for (let i = 0; i < points.length; i += 2) {
        const distance = (x - (1 - t) * points[i]) ** 2 + (y - (1 - t) * points[i + 1]) ** 2;
        const weight = Math.exp(-distance / (2 * t * t));
        mass += weight;
        meanX += weight * points[i];
        meanY += weight * points[i + 1];
      }
      const found = v([x, y], t);
      expect(Math.abs(found[0] - (x - meanX / mass) / t)).toBeLessThan(0.03);
      expect(Math.abs(found[1] - (y - meanY / mass) / t)).toBeLessThan(0.03);
    }
  });

  it('is x at t = 1, smooth on the way there, and odd', () => {
    for (const x of [
      [0.7, -1.1],
      [0, 0],
      [40, -3],
    ]) {
      v(x, 1).forEach((value, d) => expect(value).toBeCloseTo(x[d], 12));
      for (const gap of [1e-3, 1e-6, 1e-9, 1e-12]) {
        v(x, 1 - gap).forEach((value, d) =>
          expect(Math.abs(value - x[d])).toBeLessThan(100 * gap * (1 + Math.abs(x[d])) + 1e-12),
        );
      }
      v(x, 0.3).forEach((value, d) => expect(value).toBeCloseTo(-v([-x[0], -x[1]], 0.3)[d], 10));
    }
  });

  it('is right where every mass underflows', () => {
    // Far out on the diagonal all of x0 sits in the corner (2, 2), an exponential with mean distance t²/((1-t)·|x-(1-t)·2|).
    for (const [far, t] of [
      [50, 0.05],
      [1000, 0.001],
      [30, 0.2],
    ]) {
      const tail = (t * t) / ((1 - t) * (far - (1 - t) * 2));
      const expected = (far - (2 - tail)) / t;
      for (const value of v([far, far], t)) expect(relative(value, expected)).toBeLessThan(1e-6);
    }
    // (50, -50) is nearest to the empty corner: two cells tie.
    const [a, b] = v([50, -50], 0.05);
    expect(a).toBeCloseTo(-b, 8);
    for (const t of [0, 1e-9, 1e-3, 0.5, 1])
      for (const x of [
        [1e5, 1e5],
        [-1e5, 3],
        [2, 2],
        [0, 1],
      ]) {
        expect(v(x, t).every(Number.isFinite)).toBe(true);
      }
    expect(v([0.5, 0.25], 0)).toEqual(v([0.5, 0.25], 1e-3));
  });

  it('Euler steps reproduce the reference table of sliced W2 and points off the cells', () => {
    const n = 8000;
    const noise = normals(2 * n, 8, 0, 0);
    const truth = samplePoints(distributions.checkerboard, n, random(9));
    // Steps: sliced W2, share off the cells (50 000 points).
    for (const [steps, distance, off] of [
      [1, 1.153, NaN],
      [2, 0.514, 0.508],
      [4, 0.27, 0.202],
      [8, 0.138, 0.049],
      [16, 0.067, 0.01],
    ]) {
      const moved = eulerFlow(checkerboardVelocity, noise, 1, 0, steps);
      expect(Math.abs(slicedWasserstein(moved, truth, 2, { seed: 1 }) - distance)).toBeLessThan(0.02 + 0.03 * distance);
      let outside = 0;
      for (let i = 0; i < moved.length; i += 2) {
        const [x, y] = [moved[i], moved[i + 1]];
        const inside = Math.max(Math.abs(x), Math.abs(y)) <= 2 && (Math.floor(x) + Math.floor(y)) % 2 === 0;
        outside += inside ? 0 : 1 / n;
      }
      if (steps > 1) expect(Math.abs(outside - off)).toBeLessThan(4 * Math.sqrt((off * (1 - off)) / n) + 0.002);
    }
  });

  it('the exact flow is exact to 1e-4 from noise, and nearer than 128 steps of Heun along the way', () => {
    const n = 80;
    const x = Float64Array.from(normals(2 * n, 10, 0, 0));
    const [a, b] = [uniforms(n, 10, 1, 0), uniforms(n, 10, 2, 0)];
    const t = a.map((value, i) => Math.max(value, b[i]));
    const s = a.map((value, i) => Math.min(value, b[i]));
    const error = (moved: Float64Array, reference: Float64Array) =>
      Math.sqrt(moved.reduce((sum, value, i) => sum + (value - reference[i]) ** 2, 0) / n);
    const whole = heunFlow(checkerboardVelocity, x, 1, 0, 1024);
    expect(error(exactFlow(checkerboardVelocity, x, 1, 0), whole)).toBeLessThan(1e-4);
    // Points that lie on the path at t, as evaluations have them.
    const there = heunFlow(checkerboardVelocity, x, 1, t, 512);
    const along = heunFlow(checkerboardVelocity, there, t, s, 1024);
    const found = error(exactFlow(checkerboardVelocity, there, t, s), along);
    expect(found).toBeLessThan(1e-4);
    expect(found).toBeLessThan(error(heunFlow(checkerboardVelocity, there, t, s, 128), along));
    // And back again.
    expect(error(exactFlow(checkerboardVelocity, exactFlow(checkerboardVelocity, x, 1, 0.2), 0.2, 1), x)).toBeLessThan(
      1e-4,
    );
  });
});
