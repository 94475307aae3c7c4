import { matmul } from '../ops/matmul.js';
import { reshape } from '../ops/movement.js';
import { add, mul } from '../ops/pointwise.js';
import { sizeOf } from '../tensor/shape.js';
import type { Tensor } from '../tensor/tensor.js';
import { fanIn, zeros } from './initializers.js';
import type { Parameter, Parameters } from './parameters.js';
import type { Weights } from './weights.js';

/** Low-rank adaptation (Hu et al., 2022): W + alpha / rank · B A, with A drawn as a layer's weight is and B zero. */
export interface LoraOptions {
  rank: number;
  alpha: number;
}

const prefix = 'base_model.model.';
const keysOf = (name: string) => {
  const module = prefix + name.replace(/\.weight$/, '');
  return { a: `${module}.lora_A.weight`, b: `${module}.lora_B.weight` };
};

/** The module that a matrix of an adapter belongs to, and which of the two it is; null for what is trained in full. */
export function moduleOf(key: string): { module: string; side: 'a' | 'b' } | null {
  const [, module, side] = /^base_model\.model\.(.+)\.lora_([AB])\.weight$/.exec(key) ?? [];
  return module === undefined ? null : { module, side: side === 'A' ? 'a' : 'b' };
}

/** Whether a parameter gets an adapter: a matrix or a convolution of the layers that the model names. */
export const isAdapted = ({ name, shape }: Parameter, adapted: RegExp): boolean =>
  shape.length > 1 && adapted.test(name);

/**
 * An adapter's parameters under PEFT's keys: A [rank, in, ...] and B [out, rank, ...] of each adapted weight, and the
 * parameters that are trained in full.
 */
export function loraParameters(
  parameters: readonly Parameter[],
  adapted: RegExp,
  whole: ReadonlySet<string>,
  rank: number,
): Parameter[] {
  return parameters.flatMap((parameter) => {
    const { name, shape, order } = parameter;
    if (whole.has(name)) return [{ ...parameter, name: prefix + name }];
    if (!isAdapted(parameter, adapted)) return [];
    const [outputs, ...inputs] = shape;
    const { a, b } = keysOf(name);
    return [
      { name: a, shape: [rank, ...inputs], initializer: fanIn(sizeOf(inputs)), order },
      { name: b, shape: [outputs, rank, ...inputs.slice(1).map(() => 1)], initializer: zeros, order },
    ];
  });
}

/** The adapted network's parameters: the fixed ones of `base` with the adapter's products added. */
export function adaptedParameters(
  base: Parameters,
  adapter: Parameters,
  parameters: readonly Parameter[],
  adapted: RegExp,
  whole: ReadonlySet<string>,
  { rank, alpha }: LoraOptions,
): Parameters {
  const made = new Map<string, Tensor>();
  const make = (parameter: Parameter): Tensor => {
    const { name, order } = parameter;
    if (whole.has(name)) return adapter(prefix + name);
    const weight = base(name);
    if (!isAdapted(parameter, adapted)) return weight;
    const [a, b] = [adapter(keysOf(name).a), adapter(keysOf(name).b)];
    // A convolution's axes lie the other way round in memory: its product is transposed.
    const product = order
      ? matmul(reshape(a, [-1, rank]), reshape(b, [rank, -1]))
      : matmul(reshape(b, [-1, rank]), reshape(a, [rank, -1]));
    return add(weight, mul(reshape(product, weight.shape), alpha / rank));
  };
  const index = new Map(parameters.map((parameter) => [parameter.name, parameter]));
  return (name) => {
    const known = made.get(name) ?? make(index.get(name)!);
    made.set(name, known);
    return known;
  };
}

/**
 * Adds scale · B A, computed in float64, to a weight [out, …], B [out, rank] and A [rank, …] being as files have them: the
 * axes of a convolution behind the first count as one.
 */
export function addProduct(
  weight: Float32Array,
  down: Float32Array,
  up: Float32Array,
  rank: number,
  scale: number,
): void {
  const inputs = down.length / rank;
  const product = new Float64Array(inputs);
  for (let row = 0; row * inputs < weight.length; row++) {
    product.fill(0);
    for (let k = 0; k < rank; k++) {
      const factor = up[row * rank + k];
      for (let column = 0; column < inputs; column++) product[column] += factor * down[k * inputs + column];
    }
    for (let column = 0; column < inputs; column++) weight[row * inputs + column] += scale * product[column];
  }
}

/**
 * Weights with an adapter folded in: every adapted one plus its product, every parameter trained in full replaced.
 * @param parameters those of the adapted network
 */
export function mergeLora(
  base: Weights,
  adapter: Weights,
  parameters: readonly Parameter[],
  adapted: RegExp,
  whole: ReadonlySet<string>,
  { rank, alpha }: LoraOptions,
): Weights {
  const index = new Map(parameters.map((parameter) => [parameter.name, parameter]));
  const read = async (name: string): Promise<Float32Array> => {
    if (whole.has(name)) return adapter.read(prefix + name);
    const values = await base.read(name);
    const parameter = index.get(name)!;
    if (!isAdapted(parameter, adapted)) return values;
    const [a, b] = [keysOf(name).a, keysOf(name).b];
    const [down, up] = [await adapter.read(a), await adapter.read(b)];
    addProduct(values, down, up, rank, alpha / rank);
    return values;
  };
  return { dtype: 'f32', read };
}
