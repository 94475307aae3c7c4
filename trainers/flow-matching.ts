import { interpolate, velocityOf } from '../src/flow/field.js';
import type { Network } from '../src/flow/network.js';
import { sum } from '../src/ops/broadcast.js';
import { mul, sub } from '../src/ops/pointwise.js';
import { drawSource, dropLabels, type SampleSource } from './batches.js';
import { squaredErrors } from './regression.js';
import { drawTimes, type TimeLaw } from './times.js';
import type { Loss, LossContext } from './trainer.js';

export interface FlowMatchingOptions {
  batch: number;
  times: TimeLaw;
  /** Share of labels replaced by none, so that the network can also be asked without a class. */
  labelDropout: number;
}

/** Flow matching on the straight path (Lipman et al., 2023; Liu et al., 2023): E‖v_θ(x_t, t) - (z - x0)‖². */
export function flowMatchingLoss(
  network: Network,
  data: SampleSource,
  { batch, times, labelDropout }: FlowMatchingOptions,
) {
  const { description, model } = network;
  return ({ parameters, key }: LossContext): Loss => {
    const { x: x0, labels } = data.draw(key, batch);
    const dropped = labels && model.nullClass ? dropLabels(labels, key, labelDropout, model.classes) : labels;
    const shown = model.classes ? (dropped ?? undefined) : undefined;
    const z = drawSource(description.source, key, batch, model.sampleShape);
    const t = drawTimes(times, key, batch, description.minimumTime);
    const v = velocityOf(model, parameters, description, shown)(interpolate(x0, z, t), t);
    const errors = squaredErrors(v, sub(z, x0), t, { kind: 'none', power: 0, offset: 0 });
    return { total: mul(sum(errors), 1 / batch), parts: {} };
  };
}
