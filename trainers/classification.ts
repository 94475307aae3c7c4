import type { ClassifierNetwork } from '../src/features/classifier-file.js';
import { crossEntropy } from '../src/ops/losses.js';
import { add, mul } from '../src/ops/pointwise.js';
import type { SampleSource } from './batches.js';
import { UserError } from '../src/errors.js';
import type { Loss, LossContext } from './trainer.js';

/**
 * The loss of a step of training a classifier on labelled images.
 * @throws UserError where the images have no labels
 */
export function classificationLoss({ model }: ClassifierNetwork, source: SampleSource) {
  const data = source.set;
  if (!data.labels) throw new UserError('a classifier learns from labels, and these images have none');
  const [black, white] = data.range;
  return ({ parameters, rows, profile }: LossContext): Loss => {
    const { x, labels } = source.draw(rows, profile);
    const pixels = mul(add(x, -black), 1 / (white - black));
    const errors = crossEntropy(model.apply(parameters, pixels).logits, labels!, { reduction: 'none' });
    return { total: rows.mean(errors), parts: {} };
  };
}
