import { UserError } from '../errors.js';
import { usesTensorCores, type Candidate, type Profile } from '../gpu/profile.js';
import { broadcastShapes, sameShape, sizeOf } from '../tensor/shape.js';
import { Tensor } from '../tensor/tensor.js';
import { expand, sum } from './broadcast.js';
import { about, stored, taken, type Choice } from './choice.js';
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
 * little, and the kernels then never meet a ragged row, which on software adapters takes seconds more to compile. The
 * inner extent of aᵀ · b lies along neither.
 */
function product(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): Tensor {
  const [m, k] = ordered(a, transposeA);
  const [, n] = ordered(b, transposeB);
  const lead = a.shape.slice(0, -2);
  if (!sameShape(lead, b.shape.slice(0, -2)))
    throw new UserError(`matmul of [${a.shape}] and [${b.shape}]: batches differ`);
  const whole = (extent: number) => Math.ceil(extent / 4) * 4;
  const [rows, inner, columns] = [transposeA ? whole(m) : m, transposeA && !transposeB ? k : whole(k), whole(n)];
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

/** Rows and columns of the result that one workgroup computes, and what else a kernel takes. */
type Tile = { rows: number; columns: number } & Candidate;

/**
 * Elements of a weight from which on taller tiles of lanes, which run 10-15 % faster, are worth that they compile a quarter
 * longer. How many samples there are has no say, or another number of them would be another kernel.
 */
const worthTallTiles = 2 ** 14;

/** The tiles of each kernel, which stands for a class of adapters; the first is the table's. */
const tiles: Record<
  `matmul-${'subgroup' | 'register' | 'tiled' | 'tensor'}`,
  (profile: Profile, weight: number) => readonly [Tile, ...Tile[]]
> = {
  /** Software adapters: subgroups of 8. */
  'matmul-subgroup': (_, weight) => {
    const [short, tall] = [16, 32].map((rows) => ({ rows, columns: 32 }));
    return weight >= worthTallTiles ? [tall, short] : [short, tall];
  },
  /** The same without subgroups, or with others. */
  'matmul-register': () => [{ rows: 32, columns: 64 }],
  /** GPUs: blocks of 4 or 8 rows and columns an invocation. */
  'matmul-tiled': ({ workgroupBytes }) => {
    const all = [
      [16, 64, 64, 16, 1],
      [16, 64, 64, 8, 2],
      [16, 64, 64, 16, 2],
      [16, 128, 64, 8, 2],
      [16, 128, 64, 16, 1],
      [16, 128, 128, 8, 1],
      [16, 128, 128, 8, 2],
      [16, 128, 128, 16, 1],
      [8, 64, 64, 8, 2],
      [8, 64, 64, 16, 1],
      [8, 64, 32, 16, 1],
      [8, 32, 32, 16, 2],
    ].map(([side, rows, columns, depth, stages]) => ({ side, rows, columns, depth, stages }));
    const fits = ({ rows, columns, depth, stages }: (typeof all)[number]) =>
      16 * stages * ((rows * depth) / 4 + Math.max(depth * (columns / 4 + 1), columns * (depth / 4 + 1))) <=
      workgroupBytes;
    return [all[0], ...all.slice(1).filter(fits)];
  },
  /** GPUs with tensor cores, in programs of f16. */
  'matmul-tensor': () => [{ rows: 64, columns: 64 }],
};

function sourceFor(profile: Profile): keyof typeof tiles {
  if (usesTensorCores(profile)) return 'matmul-tensor';
  if (profile.family !== 'plain') return 'matmul-tiled';
  return profile.subgroupSize === 8 ? 'matmul-subgroup' : 'matmul-register';
}

/** Whether the kernel can sum the rows of a transposed A on its way. */
const summing = (profile: Profile): boolean => sourceFor(profile) === 'matmul-subgroup';

const unshaped = (x: Tensor): Tensor => (x.op === 'reshape' ? unshaped(x.inputs[0]) : x);

/** What a product is, as far as its speed depends on it. */
function productKey(node: Tensor<'matmul'>, profile: Profile): string {
  const { batch, m, n, k, second } = extentsOf(node);
  const { transposeA, transposeB } = node.attributes;
  const patches = node.inputs.some(gathers) ? ' of patches' : '';
  const inner = second ? `${about(k)}+${about(second)}` : about(k);
  return `${sourceFor(profile)} ${[about(batch), about(m), inner, about(n)].join('x')}${transposeA ? ' A^T' : ''}${transposeB ? ' B^T' : ''}${patches}${stored(profile)}`;
}

const gathers = (x: Tensor): boolean => x.op === 'im2col' || (x.op === 'reshape' && gathers(x.inputs[0]));

function extentsOf({ inputs: [a, , c], attributes: { transposeA }, shape }: Tensor<'matmul'>) {
  const [m, n] = shape.slice(-2);
  const second = c && ordered(c, transposeA)[1];
  return { batch: sizeOf(shape.slice(0, -2)), m, n, k: ordered(a, transposeA)[1], second };
}

/** Of two products of matrices, A · B and C · D, stored alike and of one shape: their sum, [M, N]. */
export function sumOfTwo(first: Tensor<'matmul'>, second: Tensor<'matmul'>): Tensor {
  return new Tensor('matmul', [...first.inputs, ...second.inputs], first.attributes, first.shape);
}

/**
 * Whether `sumOfTwo` takes two products: none of them is such a sum itself or the gradient of a weight, and each of the four
 * matrices is bound as a whole, so that one kernel has bindings enough.
 */
export function canBeSummed(
  first: Tensor<'matmul'>,
  second: Tensor<'matmul'>,
  { maxBindingBytes }: Pick<Profile, 'maxBindingBytes'>,
): boolean {
  const products = [first, second];
  const plain = products.every(
    ({ inputs, shape, attributes }) => inputs.length === 2 && shape.length === 2 && !attributes.transposeA,
  );
  const alike = first.attributes.transposeB === second.attributes.transposeB && sameShape(first.shape, second.shape);
  const whole = products.every(({ inputs }) => inputs.every(({ size }) => 4 * size <= maxBindingBytes));
  return plain && alike && whole;
}

function tileChoice(node: Tensor<'matmul'>, profile: Profile): Choice<Tile> {
  const { m, n, k } = extentsOf(node);
  const weight = node.attributes.transposeA ? m * n : k * n;
  return { key: productKey(node, profile), candidates: tiles[sourceFor(profile)](profile, weight) };
}

/** A sum shorter than this is not worth a second dispatch. */
const shortestPart = 256;

/**
 * In how many parts the inner extent of a gradient of weights, aᵀ · g over all rows of a batch, is multiplied: few tiles
 * with long sums leave a GPU idle. The parts are summed in order afterwards.
 */
function splitChoice(node: Tensor<'matmul'>, profile: Profile): Choice<{ parts: number }> {
  const { batch, k } = extentsOf(node);
  const { transposeA, transposeB } = node.attributes;
  const whole = (parts: number) => parts === 1 || (k % (4 * parts) === 0 && k / parts >= shortestPart);
  const open = transposeA && !transposeB && batch === 1;
  return {
    key: `parts of ${productKey(node, profile)}`,
    candidates: (open ? [1, 2, 4, 8, 16, 32] : [1]).filter(whole).map((parts) => ({ parts })),
  };
}

export const matmulRule: KernelRule<'matmul'> = {
  kind: 'kernel',
  halfOperands: true,
  choices: (node, profile) => [splitChoice(node, profile), tileChoice(node, profile)],
  decompose: (node, [a, b], profile) => {
    const { parts } = taken(splitChoice(node, profile), profile);
    if (parts === 1) return null;
    const { m, n, k } = extentsOf(node);
    const cut = (x: Tensor, across: number) => reshape(x, [parts, k / parts, across]);
    const products = new Tensor('matmul', [cut(a, m), cut(b, n)], node.attributes, [parts, m, n]);
    return { value: reshape(sum(products, [0]), node.shape) };
  },
  kernel: (node, profile) => {
    const { inputs, attributes } = node;
    const { transposeA, transposeB } = attributes;
    const { batch, m, n, k, second } = extentsOf(node);
    const tile = taken(tileChoice(node, profile), profile);
    const { rows, columns, side, depth, stages } = tile;
    return {
      source: sourceFor(profile),
      library: second ? 'matmul-two' : 'matmul-one',
      constants: {
        ROWS: u32(rows),
        COLS: u32(columns),
        ...(side && { SIDE: u32(side), DEPTH: u32(depth), STAGES: u32(stages) }),
        TRANSPOSE_A: bool(transposeA),
        TRANSPOSE_B: bool(transposeB),
        ...(summing(profile) && { SUMS: 'false' }),
      },
      numbers: {
        BATCH: batch,
        M: m,
        N: n,
        K: k,
        A_BATCH_STRIDE: m * k,
        B_BATCH_STRIDE: k * n,
        ...(second && { K2: second }),
      },
      operands: inputs.map((tensor, i) => ({ name: 'abcd'[i], tensor, fusion: 'views', run: tensor.shape.at(-1)! })),
      workgroups: batch * Math.ceil(m / rows) * Math.ceil(n / columns),
      run: n,
      flops: 2 * batch * m * n * (k + (second ?? 0)),
    };
  },
  // The gradient of a bias: columns of what the gradient of the weight is made of, summed.
  beside: (node, other, profile) => {
    const {
      inputs: [a],
      attributes: { transposeA },
    } = node;
    const { batch, m, k } = extentsOf(node);
    if (!summing(profile) || !transposeA || batch > 1 || other.op !== 'reduce') return null;
    const { kind, outer, length, inner } = (other as Tensor<'reduce'>).attributes;
    const same =
      kind === 'sum' && outer === 1 && length === k && inner === m && unshaped(other.inputs[0]) === unshaped(a);
    if (!same) return null;
    const kernel = matmulRule.kernel(node, profile);
    return { ...kernel, constants: { ...kernel.constants, SUMS: 'true' }, secondary: m };
  },
  // Sums of two are made of graphs that have their gradients already.
  gradient: ({ inputs: [a, b], attributes: { transposeA, transposeB } }, g) => [
    transposeA ? product(b, g, transposeB, true) : product(g, b, false, !transposeB),
    transposeB ? product(g, a, true, transposeA) : product(a, g, !transposeA, false),
  ],
};
