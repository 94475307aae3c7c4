import type { Parameter } from './parameters.js';

/**
 * The values of a network's parameters, a tensor at a time: drawn, read from a file or cut from memory when somebody asks,
 * so that a network may be larger than what the host holds. A file of one's own needs no more than
 *
 *     const weights = { dtype: 'f32', read: (name) => file.readF32(name) };
 *     networkOf(model, description, weights);
 */
export interface Weights {
  /** How they can be kept without loss: f16 where each is a number in half. */
  readonly dtype: 'f32' | 'f16';
  /**
   * The values of a parameter, axes in the file's order; the caller may keep and change them.
   * @throws UserError where they cannot be read
   */
  read(name: string): Promise<Float32Array>;
}

/** Fresh weights by each parameter's initialiser. */
export function drawnWeights(parameters: readonly Parameter[], seed: number): Weights {
  const index = new Map(parameters.map(({ name }, i) => [name, i]));
  const read = async (name: string) => {
    const i = index.get(name)!;
    return parameters[i].initializer(parameters[i].shape, seed, i);
  };
  return { dtype: 'f32', read };
}

/** The weights of `some`, and of `others` where a parameter is not among those. */
export function joinedWeights(some: Weights, has: (name: string) => boolean, others: Weights): Weights {
  return { dtype: 'f32', read: (name) => (has(name) ? some : others).read(name) };
}
