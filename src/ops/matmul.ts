import { UserError } from '../errors.js';
import { usesTensorCores, type Profile } from '../gpu/profile.js';
import { broadcastShapes, sameShape, sizeOf } from '../tensor/shape.js';
import { Tensor } from '../tensor/tensor.js';
import { expand } from './broadcast.js';
import { requireFloats } from './floats.js';
import { pad, reshape, slice } from './movement.js';
import { add } from './pointwise.js';
import { bool, u32, type KernelRule } from './rule.js';

declare module '../tensor/tensor.js' {
  interface OpAttributes {
    matmul: { transposeA: boolean; transposeB: boolean };
  }
}

/** How two matrices are multiplied. */
export interface MatmulOptions {
  /** `a` is stored [..., K, M]. */
  transposeA?: boolean;
  /** `b` is stored [..., N, K]. */
  transposeB?: boolean;
}

/**
 * Matrix product [..., M, K] · [..., K, N] = [..., M, N]; leading axes broadcast.
 * @throws UserError when the inner extents differ
 */
export function matmul(a: Tensor, b: Tensor, { transposeA = false, transposeB = false }: MatmulOptions = {}): Tensor {
  requireFloats('matmul', a, b);
  if (a.shape.length < 2 || b.shape.length < 2)
    throw new UserError(`matmul of [${a.shape}] and [${b.shape}]: both need two axes`);
  const [m, k] = ordered(a, transposeA);
  const [k2, n] = ordered(b, transposeB);
  if (k !== k2) throw new UserError(`matmul of [${a.shape}] and [${b.shape}]: inner extents ${k} and ${k2} differ`);
  const leadA = a.shape.slice(0, -2);
  const leadB = b.shape.slice(0, -2);
  if (sizeOf(leadB) === 1 && !transposeA) {
    // One matrix for all of the batch: the batch is just more rows.
    const rows = reshape(a, [sizeOf(leadA) * m, k]);
    return reshape(product(rows, reshape(b, b.shape.slice(-2)), false, transposeB), [
      ...broadcastShapes(leadA, leadB),
      m,
      n,
    ]);
  }
  const lead = broadcastShapes(leadA, leadB);
  return product(
    expand(a, [...lead, ...a.shape.slice(-2)]),
    expand(b, [...lead, ...b.shape.slice(-2)]),
    transposeA,
    transposeB,
  );
}

/** x · weightᵀ + bias, with PyTorch's weight layout [out, in]. */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  const rows = x.shape.length === 1 ? reshape(x, [1, x.size]) : x;
  const y = matmul(rows, weight, { transposeB: true });
  return bias ? add(y, bias) : y;
}

function ordered({ shape }: Tensor, transposed: boolean): [number, number] {
  const [rows, columns] = shape.slice(-2);
  return transposed ? [columns, rows] : [rows, columns];
}

/**
 * The product of matrices of one batch. Extents that lie along memory are padded with zeros to whole vec4s: a copy costs
 * little, and the kernels then never meet a ragged row, which on software adapters takes seconds more to compile.
 */
function product(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): Tensor {
  const [m, k] = ordered(a, transposeA);
  const [, n] = ordered(b, transposeB);
  const lead = a.shape.slice(0, -2);
  if (!sameShape(lead, b.shape.slice(0, -2)))
    throw new UserError(`matmul of [${a.shape}] and [${b.shape}]: batches differ`);
  const whole = (extent: number) => Math.ceil(extent / 4) * 4;
  const [rows, inner, columns] = [transposeA ? whole(m) : m, whole(k), whole(n)];
  const padded = new Tensor(
    'matmul',
    [
      padMatrix(a, transposeA ? [inner, rows] : [rows, inner]),
      padMatrix(b, transposeB ? [columns, inner] : [inner, columns]),
    ],
    { transposeA, transposeB },
    [...lead, rows, columns],
  );
  return slice(slice(padded, -1, 0, n), -2, 0, m);
}

const padMatrix = (x: Tensor, matrix: readonly [number, number]) =>
  pad(
    x,
    x.shape.map(() => 0),
    [...x.shape.slice(0, -2), ...matrix],
  );

/** Rows and columns of the result that one workgroup computes. */
export interface Tile {
  rows: number;
  columns: number;
}

/** Taller tiles of lanes run 10-15 % faster and compile twice as long: half a second for each shape. */
const worthTallTiles = 2 ** 24;

/**
 * The tile of each kernel, which stands for a class of adapters, by rows of the result and operations.
 * `npm run bench -- --tiles` measures all that a kernel can take.
 */
export const tiles: Record<
  `matmul-${'subgroup' | 'register' | 'tiled' | 'tensor'}`,
  (rows: number, flops: number) => Tile
> = {
  /** Software adapters: subgroups of 8. */
  'matmul-subgroup': (rows, flops) => ({
    rows: rows > 16 && flops >= worthTallTiles ? 32 : 16,
    columns: 32,
  }),
  /** The same without subgroups, or with others. */
  'matmul-register': () => ({ rows: 32, columns: 64 }),
  /** GPUs. */
  'matmul-tiled': () => ({ rows: 64, columns: 64 }),
  /** GPUs with tensor cores, in programs of f16. */
  'matmul-tensor': () => ({ rows: 64, columns: 64 }),
};

function sourceFor(profile: Profile): keyof typeof tiles {
  if (usesTensorCores(profile)) return 'matmul-tensor';
  if (profile.family !== 'plain') return 'matmul-tiled';
  return profile.subgroupSize === 8 ? 'matmul-subgroup' : 'matmul-register';
}

export const matmulRule: KernelRule<'matmul'> = {
  kind: 'kernel',
  halfOperands: true,
  kernel: ({ inputs: [a, b], attributes: { transposeA, transposeB }, shape }, profile) => {
    const [m, n] = shape.slice(-2);
    const [, k] = ordered(a, transposeA);
    const batch = sizeOf(shape.slice(0, -2));
    const source = sourceFor(profile);
    const flops = 2 * batch * m * n * k;
    const tile = tiles[source](m, flops);
    return {
      source,
      constants: {
        ROWS: u32(tile.rows),
        COLS: u32(tile.columns),
        TRANSPOSE_A: bool(transposeA),
        TRANSPOSE_B: bool(transposeB),
      },
      numbers: { BATCH: batch, M: m, N: n, K: k, A_BATCH_STRIDE: m * k, B_BATCH_STRIDE: k * n },
      operands: [
        { name: 'a', tensor: a, fusion: 'views', run: a.shape.at(-1)! },
        { name: 'b', tensor: b, fusion: 'views', run: b.shape.at(-1)! },
      ],
      workgroups: batch * Math.ceil(m / tile.rows) * Math.ceil(n / tile.columns),
      run: n,
      flops,
    };
  },
  gradient: ({ inputs: [a, b], attributes: { transposeA, transposeB } }, g) => [
    transposeA ? product(b, g, transposeB, true) : product(g, b, false, !transposeB),
    transposeB ? product(g, a, true, transposeA) : product(a, g, !transposeA, false),
  ],
};
