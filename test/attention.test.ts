import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { evaluate } from '../src/autodiff/eager.js';
import { openDevice } from '../node/device.js';
import { gradients, reachable } from '../src/autodiff/gradients.js';
import { decompose } from '../src/autodiff/decompose.js';
import { UserError } from '../src/errors.js';
import type { Device } from '../src/gpu/device.js';
import { attention, materializedAttention } from '../src/ops/attention.js';
import { sum } from '../src/ops/broadcast.js';
import { linear } from '../src/ops/matmul.js';
import { silu } from '../src/ops/activations.js';
import { split } from '../src/ops/movement.js';
import { mul, sin } from '../src/ops/pointwise.js';
import { constant, Tensor, tensor } from '../src/tensor/tensor.js';
import { relativeError } from './support/compare.js';
import { full } from './support/full.js';

interface Sizes {
  batch: number;
  /** Queries. */
  tokens: number;
  keys: number;
  heads: number;
  depth: number;
  causal?: boolean;
}

/** Attention and its gradients in float64, each formula as it stands in the textbook: all scores in memory. */
function reference(
  { batch, tokens, keys, heads, depth, causal }: Sizes,
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  g: ArrayLike<number>,
  scale = depth ** -0.5,
) {
  const width = heads * depth;
  const zeros = (length: number) => new Float64Array(batch * length * width);
  const [out, dq, dk, dv] = [tokens, tokens, keys, keys].map(zeros);
  const lse = new Float64Array(batch * heads * tokens);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const at = (token: number, channel: number) => (b * tokens + token) * width + h * depth + channel;
      const met = (token: number, channel: number) => (b * keys + token) * width + h * depth + channel;
      const dot = (x: ArrayLike<number>, i: number, y: ArrayLike<number>, j: number) => {
        let sum = 0;
        for (let c = 0; c < depth; c++) sum += x[at(i, c)] * y[met(j, c)];
        return sum;
      };
      for (let i = 0; i < tokens; i++) {
        const seen = causal ? Math.min(keys, i + 1) : keys;
        const scores = Array.from({ length: seen }, (_, j) => scale * dot(q, i, k, j));
        const top = Math.max(...scores);
        const total = scores.reduce((sum, x) => sum + Math.exp(x - top), 0);
        lse[(b * heads + h) * tokens + i] = top + Math.log(total);
        const p = scores.map((x) => Math.exp(x - top) / total);
        const dp = p.map((_, j) => dot(g, i, v, j));
        const mean = p.reduce((sum, x, j) => sum + x * dp[j], 0);
        for (let j = 0; j < seen; j++) {
          const ds = p[j] * (dp[j] - mean) * scale;
          for (let c = 0; c < depth; c++) {
            out[at(i, c)] += p[j] * v[met(j, c)];
            dv[met(j, c)] += p[j] * g[at(i, c)];
            dq[at(i, c)] += ds * k[met(j, c)];
            dk[met(j, c)] += ds * q[at(i, c)];
          }
        }
      }
    }
  }
  return { out, lse, dq, dk, dv };
}

/** Reproducible numbers in [-size, size). */
function numbers(count: number, seed: number, size = 1): Float32Array {
  let state = seed * 2654435761 + 12345;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state / 2 ** 32) * 2 - 1) * size;
  });
}

/** Largest difference against the larger of 1 and the largest reference value. */
const error = (actual: ArrayLike<number>, expected: ArrayLike<number>) => relativeError(actual, expected, 1);

const sizes = (batch: number, heads: number, tokens: number, depth: number, keys = tokens, causal = false): Sizes => ({
  batch,
  heads,
  tokens,
  keys,
  depth,
  causal,
});
const describeSizes = ({ batch, heads, tokens, keys, depth, causal }: Sizes) =>
  `b${batch} h${heads} s${tokens}${keys === tokens ? '' : ` to ${keys}`} d${depth}${causal ? ', causal' : ''}`;
const countOf = ({ batch, heads, depth }: Sizes, tokens: number) => batch * heads * depth * tokens;

describe('the float64 reference', () => {
  it.each([false, true])('has gradients that central differences confirm, causal %s', (causal) => {
    const s = sizes(1, 2, 3, 2, 4, causal);
    const [q, k, v, g] = [3, 4, 4, 3].map((tokens, i) => Float64Array.from(numbers(countOf(s, tokens), i + 1)));
    const { dq, dk, dv } = reference(s, q, k, v, g);
    const loss = () => reference(s, q, k, v, g).out.reduce((sum, x, i) => sum + x * g[i], 0);
    for (const [x, dx] of [
      [q, dq],
      [k, dk],
      [v, dv],
    ]) {
      for (let i = 0; i < x.length; i++) {
        const kept = x[i];
        x[i] = kept + 1e-5;
        const above = loss();
        x[i] = kept - 1e-5;
        const below = loss();
        x[i] = kept;
        expect((above - below) / 2e-5).toBeCloseTo(dx[i], 8);
      }
    }
  });
});

const kinds = ['plain with subgroups', 'plain', 'tiled'] as const;
describe.each(kinds)('attention, %s', (kind) => {
  let device: Device;
  let supported = true;
  beforeAll(async () => {
    device = await openDevice({ toggles: 'checked', family: kind === 'tiled' ? 'tiled' : 'plain' });
    supported = kind !== 'plain with subgroups' || device.profile.subgroupSize === 8;
    if (kind === 'plain') device.profile.subgroupSize = 0;
  });
  afterAll(() => device.dispose());

  // One token; odd and prime extents; less than a vec4 and several tiles with a rest; MNIST's; for subgroups also more
  // vec4 columns than lanes.
  // Then other keys than queries, and causal with several workgroups and tiles.
  const cases = [
    sizes(1, 1, 1, 1),
    sizes(2, 3, 7, 5),
    sizes(1, 2, 67, 3),
    sizes(2, 2, 20, 16),
    sizes(2, 2, 5, 6, 43),
    sizes(1, 3, 5, 4, 1),
    sizes(2, 1, 71, 5, 71, true),
    sizes(1, 2, 35, 8, 50, true),
    sizes(1, 2, 70, 3, 9, true),
  ];
  if (kind === 'plain with subgroups') cases.push(sizes(1, 1, 37, 36));
  // The other kinds in two of the shapes, the odd one and a causal one, unless all are asked for.
  const tried = cases.filter((_, i) => full || kind === 'plain with subgroups' || i === 1 || i === 7);
  it.for(tried.map((s) => [describeSizes(s), s] as const))(
    'output, log-sum-exp and gradients at %s',
    async ([, s], { skip }) => {
      skip(!supported, 'this adapter has no subgroups of 8');
      const shapes = [s.tokens, s.keys, s.keys, s.tokens].map((tokens) => [s.batch, tokens, s.heads * s.depth]);
      const [q, k, v, g] = shapes.map(([, tokens], i) => numbers(countOf(s, tokens), i + 1, 2));
      const [tq, tk, tv] = [q, k, v].map((x, i) => tensor(x, shapes[i]));
      const out = attention(tq, tk, tv, s.heads, { causal: s.causal });
      const lse = new Tensor('secondary', [out], {}, [s.batch, s.heads, s.tokens]);
      const [dq, dk, dv] = gradients(out, [tq, tk, tv], tensor(g, shapes[3]));
      const results = await evaluate(device, { out, lse, dq, dk, dv });
      const expected = reference(s, q, k, v, g);
      for (const name of ['out', 'lse', 'dq', 'dk', 'dv'] as const)
        expect(error(results[name], expected[name]), name).toBeLessThan(2e-6);
    },
  );

  it('passes through the middle of a graph, with q, k and v views of one projection', async ({ skip }) => {
    skip(!supported, 'this adapter has no subgroups of 8');
    const s = sizes(2, 2, 5, 8);
    const width = s.heads * s.depth;
    const rows = s.batch * s.tokens;
    const x = numbers(rows * 3 * width, 5, 3);
    const g = numbers(rows * width, 6);
    const tx = tensor(x, [s.batch, s.tokens, 3 * width]);
    const [tq, tk, tv] = split(mul(tx, 0.5), -1, 3);
    const out = sin(attention(tq, tk, tv, s.heads));
    const [dx] = gradients(out, [tx], tensor(g, [s.batch, s.tokens, width]));
    const results = await evaluate(device, { out, dx });

    const part = (p: number) =>
      Float64Array.from(
        { length: rows * width },
        (_, i) => 0.5 * x[Math.floor(i / width) * 3 * width + p * width + (i % width)],
      );
    const [q, k, v] = [part(0), part(1), part(2)];
    const plain = reference(s, q, k, v, g).out;
    const upstream = Float64Array.from(g, (value, i) => value * Math.cos(plain[i]));
    const { dq, dk, dv } = reference(s, q, k, v, upstream);
    const expected = Float64Array.from(x, (_, i) => {
      const column = i % (3 * width);
      return 0.5 * [dq, dk, dv][Math.floor(column / width)][Math.floor(i / (3 * width)) * width + (column % width)];
    });
    expect(error(results.out, plain.map(Math.sin))).toBeLessThan(2e-6);
    expect(error(results.dx, expected)).toBeLessThan(2e-6);
  });

  it('reads views that are not aligned to vec4', async ({ skip }) => {
    skip(!supported, 'this adapter has no subgroups of 8');
    const s = sizes(1, 3, 9, 5);
    const x = numbers(9 * 45, 7, 2);
    const parts = split(tensor(x, [1, 9, 45]), -1, 3);
    const { out } = await evaluate(device, { out: attention(parts[0], parts[1], parts[2], 3) });
    const [q, k, v] = [0, 1, 2].map((p) =>
      Float64Array.from({ length: 9 * 15 }, (_, i) => x[Math.floor(i / 15) * 45 + p * 15 + (i % 15)]),
    );
    expect(error(out, reference(s, q, k, v, q).out)).toBeLessThan(2e-6);
  });

  it('takes scores of ±80 without overflow, and a scale of its own', async ({ skip }) => {
    skip(!supported, 'this adapter has no subgroups of 8');
    const s = sizes(1, 1, 33, 4);
    // Dot products of up to 4 · 4.5² = 81, among them rows where all are far below 0.
    const [q, k] = [8, 9].map((seed) => numbers(132, seed, 1).map((x) => Math.sign(x) * (4 + Math.abs(x) / 2)));
    for (let i = 0; i < 8; i++) q[i] = -4.5;
    for (let i = 0; i < 132; i++) if (i % 3) k[i] = Math.abs(k[i]);
    const [v, g] = [numbers(132, 10), numbers(132, 11)];
    const [tq, tk, tv] = [q, k, v].map((x) => tensor(x, [1, 33, 4]));
    const out = attention(tq, tk, tv, 1, { scale: 1 });
    const lse = new Tensor('secondary', [out], {}, [1, 1, 33]);
    const [dq, dk, dv] = gradients(out, [tq, tk, tv], tensor(g, [1, 33, 4]));
    const results = await evaluate(device, { out, lse, dq, dk, dv });
    const expected = reference(s, q, k, v, g, 1);
    expect(Math.max(...expected.lse)).toBeGreaterThan(60);
    // One f32 rounding of a score near 80 is 4e-6, and weights change in proportion to it.
    for (const name of ['out', 'lse', 'dq', 'dk', 'dv'] as const)
      expect(error(results[name], expected[name]), name).toBeLessThan(3e-5);
  });
});

describe('gradients through attention, in whatever order its inputs are made', () => {
  // What reads dk joins the kernel of dk and dv, whose other output is read by nodes made before or after that.
  const weight = tensor(numbers(256, 31), [16, 16]);
  const makers = [(x: Tensor) => mul(x, 0.5), silu, (x: Tensor) => linear(x, weight)];
  const orders = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
  ];
  const turns = (i: number) => (full ? [0, 1, 2] : [i % 3]);
  it.each(orders.flatMap((order, i) => turns(i).map((turn) => [order, turn] as const)))(
    'made in the order %s, by makers turned by %i: those of the materialised form',
    async (order, turn) => {
      const device = await openDevice({ toggles: 'checked' });
      const leaves = [21, 22, 23].map((seed) => tensor(numbers(256, seed), [2, 8, 16]));
      const g = tensor(numbers(256, 24), [2, 8, 16]);
      const slopes = (form: typeof attention) => {
        const inputs: Tensor[] = [];
        for (const place of order) inputs[place] = makers[(place + turn) % 3](leaves[place]);
        return gradients(sum(mul(form(inputs[0], inputs[1], inputs[2], 2), g)), leaves);
      };
      const named = ([q, k, v]: Tensor[]) => ({ q, k, v });
      const [kernels, products] = [
        await evaluate(device, named(slopes(attention))),
        await evaluate(device, named(slopes(materializedAttention))),
      ];
      for (const input of ['q', 'k', 'v'] as const)
        expect(error(kernels[input], products[input]), input).toBeLessThan(1e-5);
      device.dispose();
    },
  );
});

describe('materializedAttention', () => {
  it('agrees with the reference', async () => {
    const device = await openDevice({ toggles: 'checked' });
    const s = sizes(2, 2, 7, 12);
    const [q, k, v] = [12, 13, 14].map((seed) => numbers(336, seed));
    const [tq, tk, tv] = [q, k, v].map((x) => tensor(x, [2, 7, 24]));
    const { out } = await evaluate(device, { out: materializedAttention(tq, tk, tv, 2) });
    expect(error(out, reference(s, q, k, v, q).out)).toBeLessThan(2e-6);
    device.dispose();
  });
});

describe('attention of shapes that do not fit', () => {
  const zeros = (...shape: number[]) => constant(0, shape);
  it('says which', () => {
    expect(() => attention(zeros(1, 4, 10), zeros(1, 4, 10), zeros(1, 4, 10), 3)).toThrow(UserError);
    expect(() => attention(zeros(1, 4, 8), zeros(1, 5, 8), zeros(1, 4, 8), 2)).toThrow('[1,5,8]');
    expect(() => attention(zeros(1, 4, 8), zeros(2, 5, 8), zeros(2, 5, 8), 2)).toThrow('[2,5,8]');
    const mask = zeros(3, 1, 4, 5);
    expect(() => attention(zeros(2, 4, 8), zeros(2, 5, 8), zeros(2, 5, 8), 2, { mask })).toThrow('[3,1,4,5]');
    expect(() => attention(zeros(4, 8), zeros(4, 8), zeros(4, 8), 2)).toThrow(UserError);
  });
});

describe('attention by matrix products', () => {
  it.each([
    [2, 3, 7, 5, 7, false],
    [1, 2, 33, 4, 20, true],
  ])('batch %i, %i heads, %i tokens of %i to %i, causal %s: as by the kernels', async (b, h, s, d, keys, causal) => {
    const device = await openDevice({ toggles: 'checked' });
    const [q, k, v] = [s, keys, keys].map((n, i) => tensor(numbers(b * n * h * d, i + 1, 2), [b, n, h * d]));
    const g = tensor(numbers(b * s * h * d, 4), [b, s, h * d]);
    const out = attention(q, k, v, h, { causal });
    const lse = new Tensor('secondary', [out], {}, [b, h, s]);
    const wanted = [out, lse, ...gradients(sum(mul(out, g)), [q, k, v])];
    const named = (list: Tensor[]) => Object.fromEntries(list.map((x, i) => [`${i}`, x]));
    const products = decompose(wanted, { ...device.profile, family: 'tensor', half: true });
    expect(reachable(products).some(({ op }) => op.startsWith('attention'))).toBe(false);
    const [kernels, materialized] = [await evaluate(device, named(wanted)), await evaluate(device, named(products))];
    for (const key of Object.keys(kernels)) expect(error(materialized[key], kernels[key])).toBeLessThan(1e-5);
    device.dispose();
  });
});
