import { gradients, reachable } from '../autodiff/gradients.js';
import { barrier } from '../ops/movement.js';
import { withGradient, type Tensor } from '../tensor/tensor.js';
import { opened } from './opened.js';
import type { Parameters } from './parameters.js';

/** Part of a network, as a function of parameters and activations. */
export type Block = (parameters: Parameters, ...inputs: Tensor[]) => Tensor;

/**
 * The block's value, with a backward pass that computes the block anew from its inputs instead of keeping everything
 * inside it (Chen et al., "Training deep nets with sublinear memory cost", 2016): memory for one more forward pass.
 */
export function rematerialize(block: Block, parameters: Parameters, inputs: readonly Tensor[]): Tensor {
  const used = new Map<string, Tensor>();
  const { opening } = parameters;
  // Lengths of jumps are an input as well.
  const given = opening ? [...inputs, opening.gap] : inputs;
  const run = (parameters: Parameters, given: readonly Tensor[]) => {
    const told = opening ? opened(parameters, opening.weights, given[inputs.length]) : parameters;
    return block(told, ...given.slice(0, inputs.length));
  };
  const value = run((name) => {
    const parameter = parameters(name);
    used.set(name, parameter);
    return parameter;
  }, given);
  return withGradient(value, [...given, ...used.values()], (g) => {
    // Behind barriers, or the second pass would be merged with the first. What was made later runs later where it may: after g.
    const again = given.map(barrier);
    const y = run(parameters, again);
    const needed = new Set(reachable([y]));
    const wrt = [...again, ...used.values()];
    const flowing = gradients(
      y,
      wrt.filter((tensor) => needed.has(tensor)),
      g,
    );
    return wrt.map((tensor) => (needed.has(tensor) ? flowing.shift()! : null));
  });
}

/** The block's value, rematerialised or not. */
export const runBlock = (block: Block, parameters: Parameters, inputs: readonly Tensor[], again: boolean): Tensor =>
  again ? rematerialize(block, parameters, inputs) : block(parameters, ...inputs);
