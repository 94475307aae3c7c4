// The reference: every operation by its definition, in float64.
import { adam, inputsOf, prepared, result, type Case } from './cases.js';
import type { Ops } from './ops.js';

interface Array64 {
  shape: number[];
  data: Float64Array;
}

const sizeOf = (shape: number[]) => shape.reduce((a, b) => a * b, 1);

function map(x: Array64, f: (value: number) => number): Array64 {
  return { shape: x.shape, data: x.data.map(f) };
}

/** `y` has the shape of x, or fewer or shorter dimensions. */
function broadcast(x: Array64, y: Array64, f: (a: number, b: number) => number): Array64 {
  const own = [...Array<number>(x.shape.length - y.shape.length).fill(1), ...y.shape];
  const strides = own.map((n, i) => (n === 1 ? 0 : sizeOf(own.slice(i + 1))));
  const data = new Float64Array(x.data.length);
  const place = x.shape.map(() => 0);
  for (let i = 0; i < data.length; i++) {
    let at = 0;
    for (let d = 0; d < place.length; d++) at += place[d] * strides[d];
    data[i] = f(x.data[i], y.data[at]);
    for (let d = place.length - 1; d >= 0 && ++place[d] === x.shape[d]; d--) place[d] = 0;
  }
  return { shape: x.shape, data };
}

/** Changes each row of `length` values, given by an accessor. */
function rows(x: Array64, length: number, change: (row: Float64Array) => void): Array64 {
  const data = x.data.slice();
  for (let start = 0; start < data.length; start += length) change(data.subarray(start, start + length));
  return { shape: x.shape, data };
}

function standardize(row: Float64Array): void {
  const mean = row.reduce((a, b) => a + b, 0) / row.length;
  const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / row.length;
  row.forEach((value, i) => (row[i] = (value - mean) / Math.sqrt(variance + 1e-5)));
}

function softmaxRow(row: Float64Array): void {
  const top = row.reduce((a, b) => Math.max(a, b), -Infinity);
  row.forEach((value, i) => (row[i] = Math.exp(value - top)));
  const total = row.reduce((a, b) => a + b, 0);
  row.forEach((value, i) => (row[i] = value / total));
}

/** x [N, ..., C] with groups of channels moved in front: [N, groups, ... * C / groups], or back. */
function grouped(x: Array64, groups: number, back: boolean): Array64 {
  const channels = x.shape.at(-1)!;
  const positions = sizeOf(x.shape.slice(1, -1));
  const size = channels / groups;
  const data = new Float64Array(x.data.length);
  for (let i = 0; i < data.length; i++) {
    const [n, p, c] = [Math.floor(i / positions / channels), Math.floor(i / channels) % positions, i % channels];
    const at = ((n * groups + Math.floor(c / size)) * positions + p) * size + (c % size);
    if (back) data[i] = x.data[at];
    else data[at] = x.data[i];
  }
  return { shape: x.shape, data };
}

export const float64: Ops<Array64> = {
  matmul: (x, w) => {
    const [k, n] = w.shape.slice(-2);
    const m = x.shape.at(-2)!;
    const stacked = w.shape.length > 2 && sizeOf(w.shape.slice(0, -2)) > 1;
    const data = new Float64Array((x.data.length / k) * n);
    for (let row = 0; row < x.data.length / k; row++) {
      const from = stacked ? Math.floor(row / m) * k * n : 0;
      for (let i = 0; i < k; i++) {
        const value = x.data[row * k + i];
        for (let j = 0; j < n; j++) data[row * n + j] += value * w.data[from + i * n + j];
      }
    }
    return { shape: [...x.shape.slice(0, -1), n], data };
  },
  add: (x, y) => broadcast(x, y, (a, b) => a + b),
  mul: (x, y) => (x.data.length < y.data.length ? float64.mul(y, x) : broadcast(x, y, (a, b) => a * b)),
  offset: (x, k) => map(x, (value) => value + k),
  silu: (x) => map(x, (value) => value / (1 + Math.exp(-value))),
  gelu: (x) => map(x, (y) => 0.5 * y * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (y + 0.044715 * y ** 3)))),
  softmax: (x) => rows(x, x.shape.at(-1)!, softmaxRow),
  layerNorm: (x) => rows(x, x.shape.at(-1)!, standardize),
  attention: (q, k, v, heads) => {
    const [batch, tokens, width] = q.shape;
    const depth = width / heads;
    const data = new Float64Array(q.data.length);
    for (let head = 0; head < batch * heads; head++) {
      const base = Math.floor(head / heads) * tokens * width + (head % heads) * depth;
      for (let i = 0; i < tokens; i++) {
        const weights = Float64Array.from({ length: tokens }, (_, j) => {
          let score = 0;
          for (let d = 0; d < depth; d++) score += q.data[base + i * width + d] * k.data[base + j * width + d];
          return score / Math.sqrt(depth);
        });
        softmaxRow(weights);
        for (let j = 0; j < tokens; j++) {
          for (let d = 0; d < depth; d++) data[base + i * width + d] += weights[j] * v.data[base + j * width + d];
        }
      }
    }
    return { shape: q.shape, data };
  },
  reshape: (x, shape) => ({
    shape: shape.map((n) => (n < 0 ? -x.data.length / sizeOf(shape) : n)),
    data: x.data,
  }),
  split: (x, parts) => {
    const width = x.shape.at(-1)! / parts;
    const shape = [...x.shape.slice(0, -1), width];
    return Array.from({ length: parts }, (_, part) => ({
      shape,
      data: Float64Array.from({ length: sizeOf(shape) }, (_1, i) => {
        return x.data[Math.floor(i / width) * width * parts + part * width + (i % width)];
      }),
    }));
  },
  images: (x) => x,
  pixels: (x) => x,
  filter: (w) => w,
  conv: (x, w, stride) => {
    const [n, height, width, channels] = x.shape;
    const [size, , , filters] = w.shape;
    const reach = (size - 1) / 2;
    const shape = [n, height / stride, width / stride, filters];
    const data = new Float64Array(sizeOf(shape));
    for (let place = 0; place < data.length / filters; place++) {
      const column = place % shape[2];
      const row = Math.floor(place / shape[2]) % shape[1];
      const image = Math.floor(place / shape[2] / shape[1]);
      for (let p = 0; p < size; p++) {
        for (let q = 0; q < size; q++) {
          const [i, j] = [row * stride + p - reach, column * stride + q - reach];
          if (i < 0 || j < 0 || i >= height || j >= width) continue;
          for (let c = 0; c < channels; c++) {
            const value = x.data[((image * height + i) * width + j) * channels + c];
            const from = ((p * size + q) * channels + c) * filters;
            for (let f = 0; f < filters; f++) data[place * filters + f] += value * w.data[from + f];
          }
        }
      }
    }
    return { shape, data };
  },
  addToChannels: (x, v) => float64.add(x, v.shape.length > 1 ? float64.reshape(v, [v.shape[0], 1, 1, v.shape[1]]) : v),
  groupNorm: (x, groups) => {
    const length = x.data.length / x.shape[0] / groups;
    return grouped(rows(grouped(x, groups, false), length, standardize), groups, true);
  },
  upsample: (x) => {
    const [n, height, width, channels] = x.shape;
    const shape = [n, 2 * height, 2 * width, channels];
    const data = Float64Array.from({ length: sizeOf(shape) }, (_, i) => {
      const [c, column, row] = [
        i % channels,
        Math.floor(i / channels) % (2 * width),
        Math.floor(i / channels / 2 / width),
      ];
      const image = Math.floor(row / 2 / height);
      return x.data[((image * height + ((row % (2 * height)) >> 1)) * width + (column >> 1)) * channels + c];
    });
    return { shape, data };
  },
  concatChannels: (x, y) => {
    const [a, b] = [x.shape.at(-1)!, y.shape.at(-1)!];
    const data = Float64Array.from({ length: x.data.length + y.data.length }, (_, i) => {
      const [pixel, c] = [Math.floor(i / (a + b)), i % (a + b)];
      return c < a ? x.data[pixel * a + c] : y.data[pixel * b + c - a];
    });
    return { shape: [...x.shape.slice(0, -1), a + b], data };
  },
  tokens: (x) => float64.reshape(x, [x.shape[0], -1, x.shape[3]]),
  fromTokens: (x, like) => float64.reshape(x, like.shape),
  meanSquare: (x, y) => {
    const sum = x.data.reduce((total, value, i) => total + (value - y.data[i]) ** 2, 0);
    return { shape: [], data: Float64Array.of(sum / x.data.length) };
  },
};

/** The whole result of a case; of a training step the network's output for the first sample. */
export function reference(c: Case): Float64Array {
  const inputs = inputsOf(c, 1).map(({ shape, data }) => ({ shape, data: Float64Array.from(data) }));
  if (c.kind !== 'adam') return result(float64, c, prepared(float64, c, inputs)).data;
  // The first step: the moments' bias corrections cancel all but g / (|g| + epsilon).
  const [{ data: p }, { data: g }] = inputs;
  return p.map((value, i) => value - (adam.rate * g[i]) / (Math.abs(g[i]) + adam.epsilon));
}
