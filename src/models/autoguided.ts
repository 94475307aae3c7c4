import { add, mul, sub } from '../ops/pointwise.js';
import type { Model } from './model.js';

/** What the names of the weaker network's parameters begin with. */
export const weakPrefix = 'weak.';

/**
 * A network that is led away from a weaker one of the same backbone, such as its own earlier weights: weak + w (strong − weak)
 * of what both return (Karras et al., "Guiding a diffusion model with a bad version of itself", 2024). What is read from an
 * output, such as a velocity, is led away alike, since it is an affine function of that.
 * @param scale w; 1 is the stronger alone
 */
export function autoguided(strong: Model, scale: number): Model {
  return {
    ...strong,
    parameters: [...strong.parameters, ...strong.parameters.map((one) => ({ ...one, name: weakPrefix + one.name }))],
    apply: (p, inputs) => {
      const weak = strong.apply((name) => p(weakPrefix + name), inputs);
      return add(weak, mul(sub(strong.apply(p, inputs), weak), scale));
    },
  };
}
