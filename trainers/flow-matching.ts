import { interpolate } from '../src/flow/field.js';
import type { Network } from '../src/flow/network.js';
import { predictionOf } from '../src/models/model.js';
import { parametrization } from '../src/flow/parametrization.js';
import { minimum, stopGradient, sub } from '../src/ops/pointwise.js';
import { drawSource, shownConditions, shownLabels, type SampleSource } from './batches.js';
import { meanSquares } from '../src/ops/normalization.js';
import { drawTimes, type TimeLaw } from './times.js';
import type { Loss, LossContext } from './trainer.js';

export interface FlowMatchingOptions {
  times: TimeLaw;
  /** Share of labels and texts replaced by none, so that the network can also be asked without. */
  labelDropout: number;
}

/**
 * Regression of a teacher on what its network is to predict: for a velocity flow matching on the straight path,
 * E‖v_θ(x_t, t) - (z - x0)‖² (Lipman et al., 2023; Liu et al., 2023), for noise or v denoising under a diffusion's path
 * (Ho et al., 2020; Salimans and Ho, 2022), always in the network's own output.
 */
export function flowMatchingLoss(network: Network, data: SampleSource, { times, labelDropout }: FlowMatchingOptions) {
  const { description, model } = network;
  const { lowest, highest, point, time, output } = parametrization(description);
  return ({ parameters, rows, profile }: LossContext): Loss => {
    const { x: x0, labels, conditions: told, negative } = data.draw(rows, profile);
    const shown = shownLabels(model, labels, rows, labelDropout);
    const conditions = shownConditions(told, negative, rows, labelDropout);
    const z = drawSource(description.source, rows, model.sampleShape);
    const t = minimum(drawTimes(times, rows, lowest), highest);
    const x = interpolate(x0, z, t);
    const inputs = { x: point(x, t), time: time(t), labels: shown, conditions };
    const predicted = predictionOf(model, parameters, inputs);
    const errors = meanSquares(sub(predicted, stopGradient(output(x0, z, t))));
    return { total: rows.mean(errors), parts: {} };
  };
}
