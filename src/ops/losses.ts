import { UserError } from '../errors.js';
import { sameShape } from '../tensor/shape.js';
import type { Tensor } from '../tensor/tensor.js';
import { softplus } from './activations.js';
import { sum } from './broadcast.js';
import { clamp, less } from './comparison.js';
import { logSoftmax } from './normalization.js';
import { abs, add, greater, log, mul, neg, square, sub, where } from './pointwise.js';
import { mean, oneHot } from './statistics.js';

/** What becomes of the losses of single elements. */
export type Reduction = 'mean' | 'sum' | 'none';

function reduced(losses: Tensor, reduction: Reduction): Tensor {
  if (reduction === 'none') return losses;
  return reduction === 'sum' ? sum(losses) : mean(losses);
}

/** (a - b)². */
export const meanSquaredError = (a: Tensor, b: Tensor, reduction: Reduction = 'mean'): Tensor =>
  reduced(square(sub(a, b)), reduction);

/** |a - b|. */
export const meanAbsoluteError = (a: Tensor, b: Tensor, reduction: Reduction = 'mean'): Tensor =>
  reduced(abs(sub(a, b)), reduction);

/** d² / 2 of d = a - b where |d| ≤ delta, else delta (|d| - delta / 2) (Huber, 1964). */
export function huberLoss(a: Tensor, b: Tensor, delta = 1, reduction: Reduction = 'mean'): Tensor {
  const distance = sub(a, b);
  const far = mul(sub(abs(distance), delta / 2), delta);
  return reduced(where(greater(abs(distance), delta), far, mul(square(distance), 0.5)), reduction);
}

/** PyTorch's smooth L1 loss: Huber's over beta. */
export const smoothL1Loss = (a: Tensor, b: Tensor, beta = 1, reduction: Reduction = 'mean'): Tensor =>
  mul(huberLoss(a, b, beta, reduction), 1 / beta);

/**
 * -log softmax(logits)[label] of logits [..., classes] and labels u32 [...].
 * @param smoothing share of the label that is spread over all classes (Szegedy et al., 2016)
 * @throws UserError when the labels have not the shape of the logits without classes
 */
export function crossEntropy(
  logits: Tensor,
  labels: Tensor,
  { reduction = 'mean', smoothing = 0 }: { reduction?: Reduction; smoothing?: number } = {},
): Tensor {
  const rank = logits.shape.length;
  if (!sameShape(labels.shape, logits.shape.slice(0, rank - 1)) || !rank)
    throw new UserError(`cross entropy of logits [${logits.shape}] with labels [${labels.shape}]: classes come last`);
  const logarithms = logSoftmax(logits);
  const own = neg(sum(where(oneHot(labels, logits.shape[rank - 1]), logarithms, 0), [-1]));
  if (!smoothing) return reduced(own, reduction);
  const all = neg(mean(logarithms, [-1]));
  return reduced(add(mul(own, 1 - smoothing), mul(all, smoothing)), reduction);
}

/** -(y log p + (1 - y) log(1 - p)) of probabilities p and targets y, the logarithms at least -100 as in PyTorch. */
export function binaryCrossEntropy(probabilities: Tensor, targets: Tensor, reduction: Reduction = 'mean'): Tensor {
  const bounded = (p: Tensor) => {
    const none = less(p, smallest);
    return where(none, -100, clamp(log(where(none, 1, p)), -100, 0));
  };
  const [yes, no] = [bounded(probabilities), bounded(sub(1, probabilities))];
  return reduced(mul(add(mul(targets, yes), mul(sub(1, targets), no)), -1), reduction);
}
// exp(-100) is below it.
const smallest = 2 ** -126;

/** Binary cross entropy of sigmoid(logits) and targets, without overflow. */
export const binaryCrossEntropyWithLogits = (logits: Tensor, targets: Tensor, reduction: Reduction = 'mean'): Tensor =>
  reduced(sub(softplus(logits), mul(logits, targets)), reduction);
