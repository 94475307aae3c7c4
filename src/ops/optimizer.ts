import { TensorStorage } from '../gpu/storage.js';
import { UserError } from '../errors.js';
import { constant, Tensor, type OptimizerState } from '../tensor/tensor.js';
import { u32, type KernelRule } from './rule.js';

/** Scalars of an optimizer step, in this order, then one decay for each average. All are data, so that none can go stale. */
export const adamScalars = [
  'learningRate',
  'beta1',
  'beta2',
  'epsilon',
  'weightDecay',
  'clipNorm',
  'correction1',
  'correction2',
] as const;

/** Writes `value` over a whole storage when the program runs. */
export function assign(storage: TensorStorage, value: Tensor): Tensor<'assign'> {
  if (value.size !== storage.length) throw new UserError(`[${value.shape}] does not fill storage ${storage.name}`);
  return new Tensor('assign', [value], { storage }, value.shape, value.dtype);
}

/** Lays gradients out one after another at the given offsets of one flat buffer; the gaps are zero. */
export function pack(parts: readonly Tensor[], offsets: readonly number[], length: number): Tensor<'pack'> {
  return new Tensor('pack', parts, { offsets }, [length]);
}

/**
 * One step of AdamW (Loshchilov and Hutter, 2019) with clipping by global norm and moving averages of the parameters,
 * all in one dispatch over flat arenas. A gradient that is not finite changes nothing.
 * @param gradient packed gradients, as long as the arenas
 * @param squaredNorm [1], Σ g²
 * @param scalars the values of `adamScalars`, then one decay per average
 * @param lossScale [1], what gradients were multiplied by
 */
export function adam(
  gradient: Tensor<'pack'>,
  squaredNorm: Tensor,
  scalars: Tensor,
  state: OptimizerState,
  lossScale: Tensor = constant(1, [1]),
): Tensor<'adam'> {
  return new Tensor('adam', [gradient, squaredNorm, scalars, lossScale], { state }, [1]);
}

export const assignRule: KernelRule<'assign'> = {
  kind: 'kernel',
  kernel: ({ inputs: [x] }) => ({
    ...pointwiseKernel(x),
    operands: [{ name: 'x', tensor: x, fusion: 'any', run: x.size }],
  }),
  gradient: null,
};

/** Tabulates an index function. */
export function pointwiseKernel(x: Tensor) {
  const run = x.size;
  const vectors = Math.ceil(run / 4);
  const workgroups = Math.ceil(vectors / (64 * vectorsPerInvocation));
  return {
    source: 'pointwise',
    constants: { SIZE: u32(run), VECTORS: u32(vectors), STRIDE: u32(workgroups * 64) },
    workgroups,
    run,
  };
}
const vectorsPerInvocation = 4;

export const adamRule: KernelRule<'adam'> = {
  kind: 'kernel',
  kernel: ({ inputs: [gradient, squaredNorm, scalars, lossScale], attributes: { state } }) => ({
    source: 'adam',
    constants: { VECTORS: u32(gradient.size / 4), AVERAGES: u32(state.averages.length / state.parameters.length) },
    operands: [
      { name: 'gradient', tensor: gradient, fusion: 'none', run: gradient.size },
      { name: 'squared_norm', tensor: squaredNorm, fusion: 'none', run: 1 },
      { name: 'scalars', tensor: scalars, fusion: 'views', run: 1 },
      { name: 'loss_scale', tensor: lossScale, fusion: 'any', run: 1 },
    ],
    workgroups: Math.ceil(gradient.size / 4 / 64),
    run: 1,
    state: {
      parameters: state.parameters,
      first_moment: state.firstMoment,
      second_moment: state.secondMoment,
      averages: state.averages,
    },
    rounded: state.rounded,
  }),
  gradient: null,
};
