import type { Runner } from '../flow/runner.js';
import { hostStreams, seedFor } from '../tensor/streams.js';

/** A way from time t to time s, for a batch of images with a time each. */
export interface Operator {
  name: string;
  /** @param hop which of a chain it is, for those that draw fresh noise */
  go(x: Float32Array, t: Float32Array, s: Float32Array, hop: number): Promise<Float32Array>;
}

type Labels = Uint32Array | undefined;

/** A network that is asked, whatever else it is told. */
export type Asked = Pick<Runner, 'network' | 'sampleSize' | 'jump' | 'integrate' | 'follow'>;

/** What a network takes for the data: f(x, t, 0) of a flow map, x̂0 of what a teacher, or a teacher with an adapter, says. */
const dataOf = (map: Asked, x: Float32Array, t: Float32Array, labels: Labels): Promise<Float32Array> => {
  const batch = { x, t, s: new Float32Array(t.length), labels };
  return map.network.description.role === 'flow-map' ? map.jump(batch) : map.integrate(batch, 1, 'euler');
};

/** f(x, t, s): a flow map's own jump. */
export const jump = (name: string, map: Asked, labels: Labels): Operator => ({
  name,
  go: (x, t, s) => map.jump({ x, t, s, labels }),
});

/**
 * To x̂0 = f(x, t, 0) and back to s by noise: what a consistency model (LCM) does between two steps.
 * @param noise one fixed ε for all hops, or that of a hop
 */
export const endpointJump = (
  name: string,
  map: Asked,
  labels: Labels,
  noise: (hop: number) => Float32Array,
): Operator => ({
  name,
  go: async (x, t, s, hop) => {
    const clean = await dataOf(map, x, t, labels);
    const fresh = noise(hop);
    return combine(map.sampleSize, s, clean, fresh, (time, x0, z) => (1 - time) * x0 + time * z);
  },
});

/** A DDIM step (η = 0) by the velocity: the teacher's, or u(x, t, t) of a student. On the straight path an Euler step. */
export const ddim = (name: string, network: Asked, labels: Labels): Operator => ({
  name,
  go: (x, t, s) => network.integrate({ x, t, s, labels }, 1, 'euler'),
});

/** A DDIM step (η = 0) whose x̂0 is a student's f(x, t, 0), with the noise that x then holds. */
export const coupledJump = (name: string, map: Asked, labels: Labels): Operator => ({
  name,
  go: async (x, t, s) => {
    const clean = await dataOf(map, x, t, labels);
    const share = t.map((time, i) => (time ? s[i] / time : 0));
    // x_s = (1 - s) x̂0 + s (x - (1 - t) x̂0) / t lies on the straight line from x̂0 to x.
    return combine(map.sampleSize, share, clean, x, (part, x0, at) => x0 + part * (at - x0));
  },
});

/** A step of the reverse SDE with fresh noise (Euler-ancestral, DDIM with η = 1). */
export const ancestral = (name: string, teacher: Asked, labels: Labels, seed: number): Operator => ({
  name,
  go: (x, t, s, hop) =>
    teacher.follow(
      { x, t, s, labels },
      [0, 1],
      { name: 'euler-ancestral' },
      seedFor(seed, hostStreams.ancestralNoise, hop),
    ),
});

/** Several equal hops of another operator in place of one. */
export const inHops = (operator: Operator, hops: number, name: string): Operator => ({
  name,
  go: async (x, t, s, hop) => {
    const at = (k: number) => t.map((time, i) => time + (k / hops) * (s[i] - time));
    let reached = x;
    for (let k = 0; k < hops; k++) reached = await operator.go(reached, at(k), at(k + 1), hop * hops + k);
    return reached;
  },
});

function combine(
  size: number,
  weights: Float32Array,
  a: Float32Array,
  b: Float32Array,
  f: (weight: number, a: number, b: number) => number,
): Float32Array {
  return a.map((value, i) => f(weights[Math.floor(i / size)], value, b[i]));
}
