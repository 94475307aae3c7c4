import { UserError } from '../errors.js';
import { usesTensorCores, type Profile } from '../gpu/profile.js';
import { requireFloats } from './floats.js';
import { iota, permute, reshape } from './movement.js';
import { broadcastShapes, sameShape } from '../tensor/shape.js';
import { Tensor } from '../tensor/tensor.js';
import { max, sum } from './broadcast.js';
import { matmul } from './matmul.js';
import { softmax } from './normalization.js';
import { secondary } from './memory.js';
import { about, stored, taken, type Choice } from './choice.js';
import { add, exp, greater, log, mul, sub, toFloat, where } from './pointwise.js';
import { bool, f32, u32, type Kernel, type KernelRule, type Operand } from './rule.js';

/** What attention may be limited to. */
export interface AttentionOptions {
  /** Of the scores; default 1 / √d. */
  scale?: number;
  /** Query i sees keys 0 … i only. */
  causal?: boolean;
  /** 0 where a query does not see a key; broadcasts to [B, heads, queries, keys]. A query that sees none gives 0. */
  mask?: Tensor;
  /** Added to the scores, such as relative positions; broadcasts to [B, heads, queries, keys]. */
  bias?: Tensor;
}

/** How attention weighs values: queries see all keys, or only those up to their own place. */
export interface Weighing {
  heads: number;
  scale: number;
  causal: boolean;
}

declare module '../tensor/tensor.js' {
  interface OpAttributes {
    attention: Weighing;
    attentionGradientQ: Weighing;
    attentionGradientKV: Weighing;
  }
}

/**
 * Scaled dot-product attention over `heads` heads: q [B, N, heads · d] with each head's d channels together, k and v
 * [B, M, heads · d]; the result is like q. FlashAttention-2 plan (Dao, 2023): scores are never stored; the forward pass
 * saves the log-sum-exp of each row, the backward pass recomputes probabilities from it, once by query and once by key.
 * With a mask or a bias all scores are in memory.
 * @throws UserError when the shapes differ or the heads do not divide the width
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, heads: number, options: AttentionOptions = {}): Tensor {
  checkShapes(q, k, v, heads);
  if (options.mask ?? options.bias) return materializedAttention(q, k, v, heads, options);
  const { scale = (q.shape[2] / heads) ** -0.5, causal = false } = options;
  return new Tensor('attention', [q, k, v], { heads, scale, causal }, q.shape);
}

function checkShapes(q: Tensor, k: Tensor, v: Tensor, heads: number): void {
  requireFloats('attention', q, k, v);
  if (q.shape.length !== 3 || q.shape[2] % heads) {
    throw new UserError(
      `attention over ${heads} heads needs [batch, tokens, a multiple of ${heads}], not [${q.shape}]`,
    );
  }
  const [batch, , width] = q.shape;
  if (!sameShape(k.shape, v.shape) || !sameShape(k.shape, [batch, k.shape[1], width])) {
    throw new UserError(
      `attention of [${q.shape}] with keys [${k.shape}] and values [${v.shape}]: they differ from queries in the tokens only`,
    );
  }
}

/** Heads as a batch axis, [B, heads, tokens, d], and back. */
const apart = (x: Tensor, heads: number) =>
  permute(reshape(x, [x.shape[0], x.shape[1], heads, x.shape[2] / heads]), [0, 2, 1, 3]);
const together = (x: Tensor) => reshape(permute(x, [0, 2, 1, 3]), [x.shape[0], x.shape[2], x.shape[1] * x.shape[3]]);

/** 1 where query i sees key j ≤ i, [queries, keys]. */
const causalMask = (queries: number, keys: number): Tensor =>
  sub(1, greater(toFloat(iota([1, keys])), toFloat(iota([queries, 1]))));

// Of the scores that are not seen: low enough to have no weight beside any other, without an infinity's NaN.
const unseen = -1e30;

/** The same with all scores in memory: the oracle of `attention`, built from matmul and softmax. @throws UserError as it */
export function materializedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  heads: number,
  { scale = (q.shape[2] / heads) ** -0.5, causal = false, mask, bias }: AttentionOptions = {},
): Tensor {
  checkShapes(q, k, v, heads);
  const shape = [q.shape[0], heads, q.shape[1], k.shape[1]];
  const fit = (x: Tensor) => {
    if (x.shape.length > 4 || !sameShape(broadcastShapes(x.shape, shape), shape))
      throw new UserError(`attention's mask or bias [${x.shape}] does not broadcast to [${shape}]`);
    return x;
  };
  const products = mul(matmul(apart(q, heads), apart(k, heads), { transposeB: true }), scale);
  const scores = bias ? add(products, fit(bias)) : products;
  const order = causal ? causalMask(shape[2], shape[3]) : undefined;
  const seen = mask && order ? mul(where(fit(mask), 1, 0), order) : ((mask && fit(mask)) ?? order);
  const weights = seen ? where(seen, softmax(where(seen, scores, unseen)), 0) : softmax(scores);
  return together(matmul(weights, apart(v, heads)));
}

type AttentionNode = Tensor<'attention' | 'attentionGradientQ' | 'attentionGradientKV'>;

const operandNames = {
  attention: ['q', 'k', 'v'],
  attentionGradientQ: ['q', 'k', 'v', 'lse', 'o', 'g'],
  attentionGradientKV: ['q', 'k', 'v', 'lse', 'delta', 'g'],
};

function attentionKernel(source: string, node: AttentionNode, profile: Profile, matmuls: number): Kernel {
  const { heads, scale, causal } = node.attributes;
  const [batch, queries, width] = node.inputs[0].shape;
  const keys = node.inputs[1].shape[1];
  const own = node.op === 'attentionGradientKV' ? keys : queries;
  const depth = width / heads;
  const operands = node.inputs.map((tensor, i): Operand => {
    const name = operandNames[node.op][i];
    const dense = name !== 'lse' && name !== 'delta';
    return { name, tensor, fusion: dense ? 'views' : 'none', run: dense ? depth : 1 };
  });
  const variant = variantOf(profile);
  const { rows: most } = taken(attentionChoice(node, profile), profile);
  const rows = evenRows(own, most || mostRows[variant][0]);
  return {
    source: variant === 'subgroup' ? `${source}-subgroup` : source,
    library: variant === 'subgroup' ? undefined : `attention-${variant}`,
    numbers: { BATCH: batch },
    constants: {
      QUERIES: u32(queries),
      KEYS: u32(keys),
      HEADS: u32(heads),
      DEPTH: u32(depth),
      DEPTH4: u32(Math.ceil(depth / 4)),
      SCALE: f32(scale),
      CAUSAL: bool(causal),
      ROWS: u32(rows),
    },
    operands,
    workgroups: batch * heads * Math.ceil(own / rows),
    run: depth,
    flops: 2 * matmuls * batch * queries * keys * width,
  };
}

/** Channels of a head beyond which its sums do not fit the registers of an invocation. */
const deepestHead = 256;

/**
 * Attention and its gradients by matrix products with all probabilities in memory, in place of the kernels that never
 * store them: where products run on tensor cores, the sequences of small models are short enough for that to win; and for
 * heads that are deeper than registers, such as the one of an autoencoder. The backward pass finds the forward pass's
 * probabilities by the sharing of equal nodes.
 */
function byProducts(node: AttentionNode, inputs: readonly Tensor[], profile: Profile) {
  const { heads, scale, causal } = node.attributes;
  if (taken(attentionChoice(node, profile), profile).rows) return null;
  const [batch, queries] = node.inputs[0].shape;
  const [q, k, v] = inputs.slice(0, 3).map((x) => apart(x, heads));
  const products = mul(matmul(q, k, { transposeB: true }), scale);
  const scores = causal ? where(causalMask(queries, k.shape[2]), products, unseen) : products;
  const p = softmax(scores);
  if (node.op === 'attention') {
    const top = max(scores, [-1], true);
    const logSumExp = add(top, log(sum(exp(sub(scores, top)), [-1], true)));
    return { value: together(matmul(p, v)), second: reshape(logSumExp, [batch, heads, queries]) };
  }
  const g = apart(inputs[5], heads);
  const ofQueries = node.op === 'attentionGradientQ';
  const delta = ofQueries
    ? sum(mul(g, apart(inputs[4], heads)), [-1], true)
    : reshape(inputs[4], [batch, heads, queries, 1]);
  const ds = mul(mul(p, sub(matmul(g, v, { transposeB: true }), delta)), scale);
  if (ofQueries) return { value: together(matmul(ds, k)), second: reshape(delta, [batch, heads, queries]) };
  return {
    value: together(matmul(ds, q, { transposeA: true })),
    second: together(matmul(p, g, { transposeA: true })),
  };
}

const variantOf = (profile: Profile) =>
  profile.family !== 'plain' ? 'tiled' : profile.subgroupSize === 8 ? 'subgroup' : 'direct';

/**
 * Queries (or keys) that one workgroup handles at most: one an invocation, or what the registers of a subgroup hold. The
 * first is the table's.
 */
const mostRows = { direct: [64], tiled: [32, 64, 128], subgroup: [16, 8] };

/** Probabilities of more bytes than this are not worth keeping. */
const mostProbabilities = 2 ** 28;

/** How many rows a workgroup takes at most; 0 stands for products with all probabilities in memory. */
function attentionChoice(node: AttentionNode, profile: Profile): Choice<{ rows: number }> {
  const [batch, queries, width] = node.inputs[0].shape;
  const keys = node.inputs[1].shape[1];
  const { heads, causal } = node.attributes;
  const rows = mostRows[variantOf(profile)];
  const kept = 4 * batch * heads * queries * keys <= mostProbabilities;
  const all = width / heads > deepestHead ? [0] : usesTensorCores(profile) ? [0, ...rows] : kept ? [...rows, 0] : rows;
  const extents = [batch, heads, queries, keys, width / heads].map(about).join('x');
  return {
    key: `${node.op} ${variantOf(profile)} ${extents}${causal ? ' causal' : ''}${stored(profile)}`,
    candidates: all.map((count) => ({ rows: count })),
  };
}

/** Rows of a workgroup when the fewest that can share the tokens, do so evenly. */
const evenRows = (tokens: number, most: number) => Math.ceil(tokens / Math.ceil(tokens / most));

export const attentionRule: KernelRule<'attention'> = {
  kind: 'kernel',
  dependent: true,
  halfOperands: true,
  choices: (node, profile) => [attentionChoice(node, profile)],
  decompose: byProducts,
  kernel: (node, profile) => ({
    ...attentionKernel('attention', node, profile, 2),
    secondary: node.inputs[0].shape[0] * node.attributes.heads * node.inputs[0].shape[1],
  }),
  gradient: (node, g) => {
    const [q, k, v] = node.inputs;
    const [batch, tokens] = q.shape;
    const { heads } = node.attributes;
    const lse = secondary(node, [batch, heads, tokens]);
    const dq = new Tensor('attentionGradientQ', [q, k, v, lse, node, g], node.attributes, q.shape);
    // Row sums of g ∘ output, the term that softmax subtracts in its gradient.
    const delta = secondary(dq, [batch, heads, tokens]);
    const dk = new Tensor('attentionGradientKV', [q, k, v, lse, delta, g], node.attributes, k.shape);
    return [dq, dk, secondary(dk, v.shape)];
  },
};

/** dQ, with the row sums that the other gradients need as second output. */
export const attentionGradientQRule: KernelRule<'attentionGradientQ'> = {
  kind: 'kernel',
  dependent: true,
  halfOperands: true,
  choices: (node, profile) => [attentionChoice(node, profile)],
  decompose: byProducts,
  kernel: (node, profile) => ({
    ...attentionKernel('attention-gradient-q', node, profile, 3),
    secondary: node.inputs[3].size,
  }),
  gradient: null,
};

/** dK, with dV as second output. */
export const attentionGradientKVRule: KernelRule<'attentionGradientKV'> = {
  kind: 'kernel',
  dependent: true,
  halfOperands: true,
  choices: (node, profile) => [attentionChoice(node, profile)],
  decompose: byProducts,
  kernel: (node, profile) => ({ ...attentionKernel('attention-gradient-kv', node, profile, 4), secondary: node.size }),
  gradient: null,
};
