import { UserError } from '../errors.js';
import type { Profile } from '../gpu/profile.js';
import { reshape, permute } from './movement.js';
import { sameShape } from '../tensor/shape.js';
import { Tensor } from '../tensor/tensor.js';
import { sum } from './broadcast.js';
import { matmul } from './matmul.js';
import { softmax } from './normalization.js';
import { mul } from './pointwise.js';
import { f32, u32, type Kernel, type KernelRule, type Operand } from './rule.js';

/**
 * Scaled dot-product attention over `heads` heads: q, k, v are [B, S, heads · d] with each head's d channels together;
 * so is the result. FlashAttention-2 plan (Dao, 2023): scores are never stored; the forward pass saves the
 * log-sum-exp of each row, the backward pass recomputes probabilities from it, once by query and once by key.
 * @throws UserError when the shapes differ or the heads do not divide the width
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  heads: number,
  scale = (q.shape[2] / heads) ** -0.5,
): Tensor {
  if (q.shape.length !== 3 || q.shape[2] % heads) {
    throw new UserError(
      `attention over ${heads} heads needs [batch, tokens, a multiple of ${heads}], not [${q.shape}]`,
    );
  }
  for (const { shape } of [k, v]) {
    if (!sameShape(shape, q.shape))
      throw new UserError(`attention of [${q.shape}] with [${shape}]: q, k and v have one shape`);
  }
  return new Tensor('attention', [q, k, v], { heads, scale }, q.shape);
}

/** The same with all scores in memory: the oracle of `attention`, built from matmul and softmax. */
export function materializedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  heads: number,
  scale = (q.shape[2] / heads) ** -0.5,
): Tensor {
  const [batch, tokens, width] = q.shape;
  const split = (x: Tensor) => permute(reshape(x, [batch, tokens, heads, width / heads]), [0, 2, 1, 3]);
  const scores = matmul(split(q), split(k), { transposeB: true });
  const mixed = matmul(softmax(mul(scores, scale)), split(v));
  return reshape(permute(mixed, [0, 2, 1, 3]), q.shape);
}

/** The second output of a kernel, such as the log-sum-exp of attention. */
const secondary = (node: Tensor, shape: readonly number[]): Tensor => new Tensor('secondary', [node], {}, shape);

const operandNames = ['q', 'k', 'v', 'lse', 'delta', 'g'];

function attentionKernel(
  source: string,
  node: Tensor<'attention' | 'attentionGradientQ' | 'attentionGradientKV'>,
  profile: Profile,
  matmuls: number,
): Kernel {
  const { heads, scale } = node.attributes;
  const [batch, tokens, width] = node.inputs[0].shape;
  const depth = width / heads;
  const operands = node.inputs.map((tensor, i): Operand => {
    const dense = operandNames[i] !== 'lse' && operandNames[i] !== 'delta';
    return { name: operandNames[i], tensor, fusion: dense ? 'views' : 'none', run: dense ? depth : 1 };
  });
  const variant = profile.family !== 'plain' ? 'tiled' : profile.subgroupSize === 8 ? 'subgroup' : 'direct';
  const rows = evenRows(tokens, mostRows[variant]);
  return {
    source: variant === 'subgroup' ? `${source}-subgroup` : source,
    library: variant === 'subgroup' ? undefined : `attention-${variant}`,
    constants: {
      BATCH: u32(batch),
      TOKENS: u32(tokens),
      HEADS: u32(heads),
      DEPTH: u32(depth),
      DEPTH4: u32(Math.ceil(depth / 4)),
      SCALE: f32(scale),
      ROWS: u32(rows),
    },
    operands,
    workgroups: batch * heads * Math.ceil(tokens / rows),
    run: depth,
    flops: 2 * matmuls * batch * tokens * tokens * width,
  };
}

/** Queries (or keys) that one workgroup handles at most: one an invocation, or what the registers of a subgroup hold. */
const mostRows = { direct: 64, tiled: 32, subgroup: 16 };

/** Rows of a workgroup when the fewest that can share the tokens, do so evenly. */
const evenRows = (tokens: number, most: number) => Math.ceil(tokens / Math.ceil(tokens / most));

export const attentionRule: KernelRule<'attention'> = {
  kind: 'kernel',
  kernel: (node, profile) => ({
    ...attentionKernel('attention', node, profile, 2),
    secondary: node.inputs[0].shape[0] * node.attributes.heads * node.inputs[0].shape[1],
  }),
  gradient: (node, g) => {
    const [q, k, v] = node.inputs;
    const [batch, tokens, width] = q.shape;
    const { heads } = node.attributes;
    const lse = secondary(node, [batch, heads, tokens]);
    // Row sums of g ∘ output, the term that softmax subtracts in its gradient: [B, S, heads]
    const delta = sum(reshape(mul(g, node), [batch, tokens, heads, width / heads]), [-1]);
    const inputs = [q, k, v, lse, delta, g];
    const dk = new Tensor('attentionGradientKV', inputs, node.attributes, q.shape);
    return [new Tensor('attentionGradientQ', inputs, node.attributes, q.shape), dk, secondary(dk, q.shape)];
  },
};

export const attentionGradientQRule: KernelRule<'attentionGradientQ'> = {
  kind: 'kernel',
  kernel: (node, profile) => attentionKernel('attention-gradient-q', node, profile, 3),
  gradient: null,
};

/** dK, with dV as second output. */
export const attentionGradientKVRule: KernelRule<'attentionGradientKV'> = {
  kind: 'kernel',
  kernel: (node, profile) => ({ ...attentionKernel('attention-gradient-kv', node, profile, 4), secondary: node.size }),
  gradient: null,
};
