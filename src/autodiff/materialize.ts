import { apart, causalMask, together, unseen } from '../ops/attention.js';
import { max, sum } from '../ops/broadcast.js';
import { matmul } from '../ops/matmul.js';
import { permute, reshape } from '../ops/movement.js';
import { softmax } from '../ops/normalization.js';
import { add, exp, log, mul, sub, where } from '../ops/pointwise.js';
import { Tensor } from '../tensor/tensor.js';
import { reachable } from './gradients.js';

type Attention = Tensor<'attention' | 'attentionGradientQ' | 'attentionGradientKV'>;

/**
 * Attention and its gradients by matrix products with all probabilities in memory, in place of the kernels that never
 * store them: where products run on tensor cores, the sequences of small models are short enough for that to win. The
 * backward pass finds the forward pass's probabilities by the sharing of equal nodes.
 */
export function materializeAttention(outputs: readonly Tensor[]): Tensor[] {
  const replaced = new Map<Tensor, Tensor>();
  const seconds = new Map<Tensor, Tensor>();
  for (const node of reachable(outputs)) {
    const inputs = node.inputs.map((input) => replaced.get(input)!);
    const rewritten = node.op.startsWith('attention') ? rewrite(node as Attention, inputs) : null;
    if (rewritten) {
      replaced.set(node, rewritten.value);
      if (rewritten.second) seconds.set(node, rewritten.second);
    } else if (node.op === 'secondary' && seconds.has(node.inputs[0])) {
      replaced.set(node, seconds.get(node.inputs[0])!);
    } else {
      // Made anew even when nothing changed, so that ids keep the order of creation.
      replaced.set(node, inputs.length ? new Tensor(node.op, inputs, node.attributes, node.shape, node.dtype) : node);
    }
  }
  return outputs.map((output) => replaced.get(output)!);
}

function rewrite(node: Attention, inputs: Tensor[]): { value: Tensor; second?: Tensor } {
  const { heads, scale, causal } = node.attributes;
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
  const [delta, g] = [reshape(permute(inputs[4], [0, 2, 1]), [batch, heads, queries, 1]), apart(inputs[5], heads)];
  const ds = mul(mul(p, sub(matmul(g, v, { transposeB: true }), delta)), scale);
  if (node.op === 'attentionGradientQ') return { value: together(matmul(ds, k)) };
  return {
    value: together(matmul(ds, q, { transposeA: true })),
    second: together(matmul(p, g, { transposeA: true })),
  };
}
