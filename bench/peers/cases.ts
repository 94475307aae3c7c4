import { networks, type Network } from './networks.js';
import type { Ops } from './ops.js';

/** One comparison: an operation or a whole training step, and its sizes. */
export type Case =
  | { kind: 'matmul'; name: string; batch: number; m: number; k: number; n: number }
  | { kind: 'conv'; name: string; n: number; size: number; channels: number; out: number; stride: number }
  | { kind: 'attention'; name: string; batch: number; heads: number; tokens: number; depth: number }
  | { kind: 'layerNorm' | 'softmax'; name: string; rows: number; columns: number }
  | { kind: 'groupNorm'; name: string; n: number; size: number; channels: number; groups: number }
  | { kind: 'gelu' | 'silu' | 'adam'; name: string; count: number }
  | { kind: 'step'; name: string; network: keyof typeof networks; batch: number };

/** `step`: loss, gradients and Adam. */
export type Mode = 'forward' | 'forward+backward' | 'step';

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
  { kind: 'adam', name: 'Adam of 4 M', count: 4 * 2 ** 20 },
  { kind: 'step', name: 'MLP 4x256, batch 4096', network: 'mlp', batch: 4096 },
  { kind: 'step', name: 'DiT 28x28/2, width 192, 4 blocks, batch 4', network: 'dit', batch: 4 },
  { kind: 'step', name: 'DiT 28x28/2, width 192, 4 blocks, batch 32', network: 'dit', batch: 32 },
  { kind: 'step', name: 'ADM UNet 32x32, 64 channels, batch 4', network: 'unet', batch: 4 },
];

export const modesOf = ({ kind }: Case): Mode[] =>
  kind === 'step' || kind === 'adam' ? ['step'] : ['forward', 'forward+backward'];

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

/** Adam as every peer computes it, without weight decay: the moments start at 0, so a first step moves by the rate. */
export const adam = { rate: 1e-3, beta1: 0.9, beta2: 0.99, epsilon: 1e-8 };

/**
 * Inputs, the same in every process: images are [N, H, W, C], weights [rows, columns, in, out], attention's [B, S, H * D].
 * A step has x, time features, the target, then the parameters in order; Adam has parameters and gradients.
 * @param batch samples of a step, where not all are wanted
 */
export function inputsOf(c: Case, batch?: number): Input[] {
  if (c.kind !== 'step') return shapesOf(c).map((shape, which) => ({ shape, data: numbers(shape, which) }));
  const { sample, time, parameters }: Network = networks[c.network];
  const n = batch ?? c.batch;
  const shapes = [
    [n, ...sample],
    [n, time],
    [n, ...sample],
  ];
  const weights = Object.values(parameters).map((shape, i) => {
    const fanIn = shape.length > 1 ? shape.slice(0, -1).reduce((a, b) => a * b, 1) : 100;
    return { shape, data: numbers(shape, i + 3).map((value) => value * Math.sqrt(3 / fanIn)) };
  });
  return [...shapes.map((shape, which) => ({ shape, data: numbers(shape, which) })), ...weights];
}

function shapesOf(c: Exclude<Case, { kind: 'step' }>): number[][] {
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
      return [0, 1, 2].map(() => [c.batch, c.tokens, c.heads * c.depth]);
    case 'groupNorm':
      return [[c.n, c.size, c.size, c.channels]];
    case 'gelu':
    case 'silu':
      return [[c.count / 1024, 1024]];
    case 'adam':
      return [[c.count], [c.count]];
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

/** The operation, or the network's output; `inputs` as `inputsOf` lists them, images and filters as the ops want them. */
export function apply<T>(ops: Ops<T>, c: Case, inputs: T[]): T {
  const [x, w, v] = inputs;
  switch (c.kind) {
    case 'matmul':
      return ops.matmul(x, w);
    case 'conv':
      return ops.conv(x, w, c.stride);
    case 'attention':
      return ops.attention(x, w, v, c.heads);
    case 'layerNorm':
      return ops.layerNorm(x);
    case 'groupNorm':
      return ops.silu(ops.groupNorm(x, c.groups));
    case 'softmax':
      return ops.softmax(x);
    case 'gelu':
      return ops.gelu(x);
    case 'silu':
      return ops.silu(x);
    case 'adam':
      return x;
    case 'step': {
      const { parameters, apply: network }: Network = networks[c.network];
      const named = Object.fromEntries(Object.keys(parameters).map((name, i) => [name, inputs[3 + i]]));
      return network(ops, named, x, w);
    }
  }
}

/** Operations on images: their inputs are brought into the engine's layout before the clock starts. */
export const isImages = ({ kind }: Case) => kind === 'conv' || kind === 'groupNorm';

/** A case's inputs as an engine takes them. */
export const prepared = <T>(ops: Ops<T>, c: Case, tensors: T[]): T[] =>
  isImages(c) ? tensors.map((tensor, i) => (i === 0 ? ops.images(tensor) : ops.filter(tensor))) : tensors;

/** What is compared: the result, in [N, H, W, C] for images. */
export const result = <T>(ops: Ops<T>, c: Case, inputs: T[]): T =>
  isImages(c) ? ops.pixels(apply(ops, c, inputs)) : apply(ops, c, inputs);

/** The loss of a step. */
export const lossOf = <T>(ops: Ops<T>, c: Case, inputs: T[]): T => ops.meanSquare(apply(ops, c, inputs), inputs[2]);
