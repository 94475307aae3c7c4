import type { ClassifierNetwork } from '../src/features/classifier-file.js';
import { expand, max, sum } from '../src/ops/broadcast.js';
import { iota, reshape } from '../src/ops/movement.js';
import { add, equal, exp, log, mul, stopGradient, sub, toFloat } from '../src/ops/pointwise.js';
import type { Tensor } from '../src/tensor/tensor.js';
import { SampleSource, type SampleSet } from './batches.js';
import { UserError } from '../src/errors.js';
import type { Loss, LossContext } from './trainer.js';

/** Mean of −log softmax(logits)[label], for logits [B, C] and labels u32 [B]. */
export function crossEntropy(logits: Tensor, labels: Tensor): Tensor {
  const [count, classes] = logits.shape;
  const shifted = sub(logits, stopGradient(max(logits, [1], true)));
  const normalizer = log(sum(exp(shifted), [1]));
  const columns = expand(reshape(toFloat(iota([classes])), [1, classes]), [count, classes]);
  const chosen = equal(columns, expand(reshape(toFloat(labels), [count, 1]), [count, classes]));
  return mul(sum(sub(normalizer, sum(mul(shifted, chosen), [1]))), 1 / count);
}

/**
 * The loss of a step of training a classifier on labelled images.
 * @throws UserError where the images have no labels
 */
export function classificationLoss({ model }: ClassifierNetwork, data: SampleSet, batch: number) {
  if (!data.labels) throw new UserError('a classifier learns from labels, and these images have none');
  const source = new SampleSource(data);
  const [black, white] = data.range;
  return ({ parameters, key }: LossContext): Loss => {
    const { x, labels } = source.draw(key, batch);
    const pixels = mul(add(x, -black), 1 / (white - black));
    return { total: crossEntropy(model.apply(parameters, pixels).logits, labels!), parts: {} };
  };
}
