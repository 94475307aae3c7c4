import { TensorStorage } from '../gpu/storage.js';
import type { Profile } from '../gpu/profile.js';
import { UserError } from '../errors.js';
import { constant, Tensor } from '../tensor/tensor.js';
import { about, taken, type Choice } from './choice.js';
import { concat, reshape, slice } from './movement.js';
import { u32, type KernelRule, type MemoryRule } from './rule.js';

/** The flat arenas that one optimizer step reads and writes. All are of one length, a multiple of 4. */
export interface OptimizerState {
  parameters: TensorStorage;
  firstMoment: TensorStorage;
  secondMoment: TensorStorage;
  /** Moving averages of the parameters, one after another: a multiple of the others' length. */
  averages: TensorStorage;
  /** Where f16 is used: parameters and averages, one after another, rounded. */
  rounded?: TensorStorage;
  /** Elements of the arena that learn at `ownRate`, in multiples of 4; by default none. */
  own?: { readonly start: number; readonly end: number };
}

declare module '../tensor/tensor.js' {
  interface OpAttributes {
    pack: { offsets: readonly number[] };
    assign: { storage: TensorStorage };
    adam: { state: OptimizerState };
  }
}

/** Scalars of an optimizer step, in this order, then one decay for each average. All are data, so that none can go stale. */
export const adamScalars = [
  'learningRate',
  'ownRate',
  'beta1',
  'beta2',
  'epsilon',
  'weightDecay',
  'clipNorm',
  'correction1',
  'correction2',
] as const;

/**
 * Writes `value` over a whole storage when the program runs, as the storage keeps numbers: f16 rounds, u8 keeps the lower
 * 8 bits of whole numbers.
 * @throws UserError where the value is of another size or type, or the storage is fixed
 */
export function assign(storage: TensorStorage, value: Tensor): Tensor<'assign'> {
  if (storage.fixed) throw new UserError(`storage ${storage.name} is fixed: nothing writes it`);
  const wanted = storage.dtype === 'f32' || storage.dtype === 'f16' ? 'f32' : 'u32';
  if (value.dtype !== wanted)
    throw new UserError(`storage ${storage.name} keeps ${storage.dtype}, the value is ${value.dtype}: convert it`);
  if (value.size !== storage.length) throw new UserError(`[${value.shape}] does not fill storage ${storage.name}`);
  return new Tensor('assign', [value], { storage }, value.shape, value.dtype);
}

/**
 * Lays gradients out one after another at the given offsets of one flat buffer; the gaps are zero.
 * @throws UserError when an offset is no multiple of 64: each part is a binding of its own, which begins at 256 bytes
 */
export function pack(parts: readonly Tensor[], offsets: readonly number[], length: number): Tensor<'pack'> {
  const odd = offsets.find((offset) => offset % 64);
  if (odd !== undefined) throw new UserError(`a part of a pack cannot begin at ${odd}: give multiples of 64`);
  return new Tensor('pack', parts, { offsets }, [length]);
}

/**
 * One step of AdamW (Loshchilov and Hutter, 2019) with clipping by global norm and moving averages of the parameters,
 * all in one dispatch over flat arenas. A gradient that is not finite changes nothing.
 * @param gradient gradients as `pack` lays them out, as long as the arenas
 * @param squaredNorm [1], Σ g²
 * @param scalars the values of `adamScalars`, then one decay per average
 * @param lossScale [1], what gradients were multiplied by
 * @throws UserError where the arenas' lengths do not fit each other, or scalars are too few or too many
 */
export function adam(
  gradient: Tensor,
  squaredNorm: Tensor,
  scalars: Tensor,
  state: OptimizerState,
  lossScale: Tensor = constant(1, [1]),
): Tensor<'adam'> {
  const { parameters, firstMoment, secondMoment, averages, own } = state;
  const { length } = parameters;
  if (length % 4) throw new UserError(`an arena of ${length} parameters: its length is a multiple of 4`);
  for (const other of [gradient.size, firstMoment.length, secondMoment.length])
    if (other !== length) throw new UserError(`an arena of ${other} values beside one of ${length} parameters`);
  if (averages.length % length)
    throw new UserError(`${averages.length} values are no averages of ${length} parameters`);
  const wanted = adamScalars.length + averages.length / length;
  if (scalars.size !== wanted)
    throw new UserError(
      `${scalars.size} scalars: ${wanted} are wanted, those of adamScalars and a decay for each average`,
    );
  if (own && (own.start % 4 || own.end % 4))
    throw new UserError(`a rate of its own from ${own.start} to ${own.end}: both are multiples of 4`);
  // One small table rather than a binding for each.
  const numbers = concat([reshape(squaredNorm, [1]), lossScale, scalars], 0);
  return new Tensor('adam', [gradient, numbers], { state }, [1]);
}

export const packRule: MemoryRule<'pack'> = {
  kind: 'memory',
  gradient: ({ inputs, attributes: { offsets } }, g) =>
    inputs.map(({ size, shape }, i) => reshape(slice(g, 0, offsets[i], offsets[i] + size), shape)),
};

export const assignRule: KernelRule<'assign'> = {
  kind: 'kernel',
  writes: ({ attributes: { storage } }) => [storage],
  inPlace: true,
  kernel: ({ inputs: [x] }, profile) => ({
    ...pointwiseKernel(x, profile),
    operands: [{ name: 'x', tensor: x, fusion: 'any', run: x.size }],
  }),
  gradient: null,
};

/** How many vectors an invocation of a pointwise kernel takes. */
export const pointwiseChoice = (size: number): Choice<{ vectors: number }> => ({
  key: `pointwise ${about(size)}`,
  candidates: [4, 1, 2, 8, 16].map((vectors) => ({ vectors })),
});

/** Tabulates an index function. */
export function pointwiseKernel(x: Tensor, profile: Profile) {
  const run = x.size;
  const vectors = Math.ceil(run / 4);
  const workgroups = Math.ceil(vectors / (64 * taken(pointwiseChoice(run), profile).vectors));
  return {
    source: 'pointwise',
    numbers: { SIZE: run, VECTORS: vectors, STRIDE: workgroups * 64 },
    workgroups,
    run,
  };
}

export const adamRule: KernelRule<'adam'> = {
  kind: 'kernel',
  writes: ({ attributes: { state } }) => {
    const { parameters, firstMoment, secondMoment, averages, rounded } = state;
    return [parameters, firstMoment, secondMoment, averages, ...(rounded ? [rounded] : [])];
  },
  kernel: ({ inputs: [gradient, numbers], attributes: { state } }) => ({
    source: 'adam',
    numbers: {
      VECTORS: gradient.size / 4,
      OWN_START: (state.own?.start ?? 0) / 4,
      OWN_END: (state.own?.end ?? 0) / 4,
    },
    constants: { AVERAGES: u32(state.averages.length / state.parameters.length) },
    operands: [
      { name: 'gradient', tensor: gradient, fusion: 'none', run: gradient.size },
      { name: 'numbers', tensor: numbers, fusion: 'none', run: 1 },
    ],
    workgroups: Math.ceil(gradient.size / 4 / 256),
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
