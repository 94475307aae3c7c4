/** One comparison: the operation, its sizes, and the work that it is. */
export type Case =
  | { kind: 'matmul'; name: string; batch: number; m: number; k: number; n: number }
  | { kind: 'conv'; name: string; n: number; size: number; channels: number; out: number; stride: number }
  | { kind: 'attention'; name: string; batch: number; heads: number; tokens: number; depth: number }
  | { kind: 'layerNorm' | 'softmax'; name: string; rows: number; columns: number }
  | { kind: 'groupNorm'; name: string; n: number; size: number; channels: number; groups: number }
  | { kind: 'gelu' | 'silu'; name: string; count: number };

export type Mode = 'forward' | 'forward+backward';

const matmul = (batch: number, m: number, k: number, n: number): Case => ({
  kind: 'matmul',
  name: `matmul ${batch > 1 ? `${batch} of ` : ''}${m}x${k}x${n}`,
  batch,
  m,
  k,
  n,
});
const conv = (n: number, size: number, channels: number, out: number, stride: number): Case => ({
  kind: 'conv',
  name: `conv 3x3${stride > 1 ? `, stride ${stride}` : ''} ${n}x${size}x${size}x${channels} to ${out}`,
  n,
  size,
  channels,
  out,
  stride,
});

export const cases: Case[] = [
  matmul(1, 256, 256, 256),
  matmul(1, 512, 512, 512),
  matmul(1, 1024, 1024, 1024),
  matmul(16, 64, 64, 64),
  matmul(1, 333, 777, 555),
  conv(16, 32, 64, 64, 1),
  conv(8, 16, 128, 128, 1),
  conv(16, 32, 64, 64, 2),
  { kind: 'attention', name: 'attention b4 h4 s256 d64', batch: 4, heads: 4, tokens: 256, depth: 64 },
  { kind: 'attention', name: 'attention b4 h4 s64 d64', batch: 4, heads: 4, tokens: 64, depth: 64 },
  { kind: 'layerNorm', name: 'layer norm 4096x384', rows: 4096, columns: 384 },
  { kind: 'groupNorm', name: 'group norm 16x32x32x64, 8 groups, SiLU', n: 16, size: 32, channels: 64, groups: 8 },
  { kind: 'softmax', name: 'softmax 4096x1024', rows: 4096, columns: 1024 },
  { kind: 'gelu', name: 'GELU of 4 M', count: 4 * 2 ** 20 },
  { kind: 'silu', name: 'SiLU of 4 M', count: 4 * 2 ** 20 },
];

/** Floating-point operations, where they are what counts. */
export function flopsOf(c: Case, mode: Mode): number | undefined {
  const passes = mode === 'forward' ? 1 : 3;
  if (c.kind === 'matmul') return passes * 2 * c.batch * c.m * c.k * c.n;
  if (c.kind === 'conv') return passes * 2 * c.n * (c.size / c.stride) ** 2 * 9 * c.channels * c.out;
  if (c.kind === 'attention') return (mode === 'forward' ? 2 : 7) * 2 * c.batch * c.heads * c.tokens ** 2 * c.depth;
  return undefined;
}

export interface Input {
  shape: number[];
  data: Float32Array;
}

/** Inputs, the same in every process: images are [N, H, W, C], weights [rows, columns, in, out], heads [B, S, H, D]. */
export function inputsOf(c: Case): Input[] {
  return shapesOf(c).map((shape, which) => ({ shape, data: numbers(shape, which) }));
}

function shapesOf(c: Case): number[][] {
  switch (c.kind) {
    case 'matmul':
      return [
        [c.batch, c.m, c.k],
        [c.batch, c.k, c.n],
      ];
    case 'conv':
      return [
        [c.n, c.size, c.size, c.channels],
        [3, 3, c.channels, c.out],
      ];
    case 'attention':
      return [0, 1, 2].map(() => [c.batch, c.tokens, c.heads, c.depth]);
    case 'groupNorm':
      return [[c.n, c.size, c.size, c.channels]];
    case 'gelu':
    case 'silu':
      return [[c.count / 1024, 1024]];
    default:
      return [[c.rows, c.columns]];
  }
}

/** Numbers in [-1, 1) by a multiplicative hash of their index. */
function numbers(shape: number[], which: number): Float32Array {
  const size = shape.reduce((a, b) => a * b, 1);
  return Float32Array.from({ length: size }, (_, i) => {
    let h = Math.imul(i + 1 + which * 0x9e3779b1, 2654435761);
    h = Math.imul(h ^ (h >>> 15), 2246822519);
    return ((h ^ (h >>> 13)) >>> 0) / 2 ** 31 - 1;
  });
}

/** Shape of the result. */
export function outputShape(c: Case): number[] {
  if (c.kind === 'matmul') return [c.batch, c.m, c.n];
  if (c.kind === 'conv') return [c.n, c.size / c.stride, c.size / c.stride, c.out];
  return shapesOf(c)[0];
}

/** The result at some flat index in float64, by the definition of the operation. */
export function reference(c: Case, inputs: Input[], index: number): number {
  const [x, w, v] = inputs.map(({ data }) => data);
  switch (c.kind) {
    case 'matmul': {
      const [b, row, column] = [Math.floor(index / (c.m * c.n)), Math.floor(index / c.n) % c.m, index % c.n];
      let sum = 0;
      for (let k = 0; k < c.k; k++) sum += x[(b * c.m + row) * c.k + k] * w[(b * c.k + k) * c.n + column];
      return sum;
    }
    case 'conv': {
      const side = c.size / c.stride;
      const out = index % c.out;
      const place = Math.floor(index / c.out);
      const [image, row, column] = [Math.floor(place / side / side), Math.floor(place / side) % side, place % side];
      let sum = 0;
      for (let p = 0; p < 3; p++) {
        for (let q = 0; q < 3; q++) {
          const [i, j] = [row * c.stride + p - 1, column * c.stride + q - 1];
          if (i < 0 || j < 0 || i >= c.size || j >= c.size) continue;
          const from = ((image * c.size + i) * c.size + j) * c.channels;
          for (let k = 0; k < c.channels; k++) sum += x[from + k] * w[((p * 3 + q) * c.channels + k) * c.out + out];
        }
      }
      return sum;
    }
    case 'attention': {
      const width = c.heads * c.depth;
      const [b, i, h, d] = [
        Math.floor(index / (c.tokens * width)),
        Math.floor(index / width) % c.tokens,
        Math.floor(index / c.depth) % c.heads,
        index % c.depth,
      ];
      const at = (token: number, k: number) => (b * c.tokens + token) * width + h * c.depth + k;
      const weights = Array.from({ length: c.tokens }, (_, j) => {
        let score = 0;
        for (let k = 0; k < c.depth; k++) score += x[at(i, k)] * w[at(j, k)];
        return Math.exp(score / Math.sqrt(c.depth));
      });
      const total = weights.reduce((a, b2) => a + b2, 0);
      return weights.reduce((sum, weight, j) => sum + (weight / total) * v[at(j, d)], 0);
    }
    case 'groupNorm': {
      const positions = c.size * c.size;
      const size = c.channels / c.groups;
      const [image, group] = [Math.floor(index / (positions * c.channels)), Math.floor((index % c.channels) / size)];
      const all: number[] = [];
      for (let p = 0; p < positions; p++) {
        for (let k = 0; k < size; k++) all.push(x[(image * positions + p) * c.channels + group * size + k]);
      }
      const y = standardized(x[index], all);
      return y / (1 + Math.exp(-y));
    }
    case 'gelu': {
      const y = x[index];
      return 0.5 * y * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (y + 0.044715 * y ** 3)));
    }
    case 'silu':
      return x[index] / (1 + Math.exp(-x[index]));
    default: {
      const start = Math.floor(index / c.columns) * c.columns;
      const row = [...x.subarray(start, start + c.columns)];
      if (c.kind === 'layerNorm') return standardized(x[index], row);
      return Math.exp(x[index]) / row.reduce((sum, value) => sum + Math.exp(value), 0);
    }
  }
}

function standardized(value: number, all: number[]): number {
  const mean = all.reduce((a, b) => a + b, 0) / all.length;
  const variance = all.reduce((a, b) => a + (b - mean) ** 2, 0) / all.length;
  return (value - mean) / Math.sqrt(variance + 1e-5);
}
