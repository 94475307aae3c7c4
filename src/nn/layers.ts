import { UserError } from '../errors.js';
import {
  conv1d,
  conv2d,
  convTranspose2d,
  type ConvolutionOptions,
  type LineOptions,
  type TransposedConvolutionOptions,
} from '../ops/convolution.js';
import { sum } from '../ops/broadcast.js';
import { linear, matmul } from '../ops/matmul.js';
import { concat, gather, pad, reshape, slice } from '../ops/movement.js';
import { batchNorm, groupNorm, layerNorm, rmsNorm } from '../ops/normalization.js';
import { pair, type Extents } from '../ops/patches.js';
import { gelu, geluTanh, selu, silu } from '../ops/activations.js';
import { add, cos, mul, sin, sub } from '../ops/pointwise.js';
import { sameShape, sizeOf, type Shape } from '../tensor/shape.js';
import { fromStorage, tensor, withGradient, type Tensor } from '../tensor/tensor.js';
import { fanIn, normal, ones, zeros, type Initializer } from './initializers.js';
import { besideConvolution, besideMatrix, byGap } from './opened.js';
import type { Parameter, Parameters } from './parameters.js';

export const activations = { silu, selu, gelu, 'gelu-tanh': geluTanh } as const;

/** Weight and bias of a linear layer under PyTorch's names. */
export function linearParameters(
  name: string,
  inputs: number,
  outputs: number,
  weight: Initializer = fanIn(inputs),
  bias: Initializer = fanIn(inputs),
): Parameter[] {
  return [
    { name: `${name}.weight`, shape: [outputs, inputs], initializer: weight },
    { name: `${name}.bias`, shape: [outputs], initializer: bias },
  ];
}

/** The linear layer of that name; a convolution's weight [out, in, p, p] is taken as a matrix over patches. */
export const applyLinear = (parameters: Parameters, name: string, x: Tensor): Tensor =>
  applyMatrix(parameters, `${name}.weight`, x, `${name}.bias`);

/** x times the weight of that name, transposed, with the bias of another name if there is one. */
export function applyMatrix(parameters: Parameters, name: string, x: Tensor, bias?: string): Tensor {
  const weight = parameters(name);
  const y = besideMatrix(parameters, name, x, linear(x, reshape(weight, [weight.shape[0], -1])));
  return bias === undefined ? y : add(y, parameters(bias));
}

/** Weights that are put together for one product: more are not worth the copy. */
const mostJoined = 2 ** 20;

/**
 * Several linear layers of one input x [B, inputs] by one product, as what modulates the blocks of a network. Weights of
 * equal blocks, which lie evenly in an arena, are a view of it; a few others are put together, and many multiply each by
 * themselves. Gradients are those of each layer.
 */
export function applyLinears(parameters: Parameters, names: readonly string[], x: Tensor): Tensor[] {
  const weights = names.map((name) => parameters(`${name}.weight`));
  const biases = names.map((name) => parameters(`${name}.bias`));
  const whole = (parts: readonly Tensor[]) => evenRows(parts) ?? concat(parts, 0);
  const few = weights.reduce((sum, { size }) => sum + size, 0) <= mostJoined;
  const vectors = weights.every(({ shape }) => shape.every((extent) => extent % 4 === 0));
  if (names.length < 2 || !vectors || !(few || evenRows(weights)))
    return names.map((name) => applyLinear(parameters, name, x));
  // Gradients of the weights are each layer's, that of the input is one product as well.
  const all = withGradient(linear(x, whole(weights), whole(biases)), [x], (g) => [matmul(g, whole(weights))]);
  let start = 0;
  return weights.map((weight, i) => {
    const [first, end] = [start, start + weight.shape[0]];
    start = end;
    return withGradient(slice(all, 1, first, end), [all, weight, biases[i]], (g) => [
      pad(g, [0, first], all.shape),
      matmul(g, x, { transposeA: true }),
      sum(g, [0]),
    ]);
  });
}

/** What one binding holds on every adapter, in bytes. */
const bindable = 2 ** 27;

/**
 * Parameters of one shape as one, rows after rows, without a copy: a view of the storage in which they lie at even
 * distances. Null where they do not.
 */
function evenRows(parts: readonly Tensor[]): Tensor | null {
  const places = parts.map((part) => (part.op === 'storage' ? (part as Tensor<'storage'>).attributes : null));
  const [first, second] = places;
  if (!first || !second) return null;
  const [{ size, shape }] = parts;
  const step = second.offset - first.offset;
  const even = places.every(
    (place, i) =>
      place?.storage === first.storage && place.offset === first.offset + i * step && sameShape(parts[i].shape, shape),
  );
  if (!even || step < size || step % 4 || first.offset % 4 || 4 * parts.length * step > bindable) return null;
  // Where the last step would end beyond the storage, all begin that much earlier.
  const beyond = Math.max(0, first.offset + parts.length * step - first.storage.length);
  const lead = Math.ceil(beyond / 4) * 4;
  if (lead > Math.min(first.offset, step - size)) return null;
  const steps = fromStorage(first.storage, [parts.length, step], first.offset - lead);
  return reshape(slice(steps, 1, lead, lead + size), [parts.length * shape[0], ...shape.slice(1)]);
}

/**
 * Weight and bias of a convolution, [out, in, rows, columns] in files, under PyTorch's names.
 * @param inputs channels of one group
 */
export function convolutionParameters(
  name: string,
  inputs: number,
  outputs: number,
  size: number | Extents,
  initializer?: Initializer,
): Parameter[] {
  const [rows, columns] = pair(size);
  return kernelParameters(name, [outputs, inputs, rows, columns], outputs, initializer);
}

/** Weight and bias of a convolution along one axis, [out, in, size] in files. @param inputs channels of one group */
export const lineConvolutionParameters = (
  name: string,
  inputs: number,
  outputs: number,
  size: number,
  initializer?: Initializer,
): Parameter[] => kernelParameters(name, [outputs, inputs, size], outputs, initializer);

/** Weight and bias of a transposed convolution, [in, out / groups, rows, columns] in files, under PyTorch's names. */
export function transposedConvolutionParameters(
  name: string,
  inputs: number,
  outputs: number,
  size: number | Extents,
  groups = 1,
  initializer?: Initializer,
): Parameter[] {
  const [rows, columns] = pair(size);
  return kernelParameters(name, [inputs, outputs / groups, rows, columns], outputs, initializer);
}

/** A weight whose first two axes come last in memory, and a bias; both by PyTorch's default where nothing else is asked for. */
function kernelParameters(name: string, shape: Shape, outputs: number, initializer?: Initializer): Parameter[] {
  const drawn = initializer ?? fanIn(sizeOf(shape.slice(1)));
  const order = [...shape.map((_, axis) => axis).slice(2), 1, 0];
  return [
    { name: `${name}.weight`, shape, order, initializer: drawn },
    { name: `${name}.bias`, shape: [outputs], initializer: drawn },
  ];
}

/** The convolution of that name over images [N, H, W, C]. */
export function applyConvolution(
  parameters: Parameters,
  name: string,
  x: Tensor,
  options: ConvolutionOptions = {},
): Tensor {
  const weight = `${name}.weight`;
  const y = besideConvolution(parameters, weight, x, conv2d(x, parameters(weight), undefined, options), options);
  return add(y, parameters(`${name}.bias`));
}

/** The convolution of that name over lines [N, L, C]. */
export function applyLineConvolution(
  parameters: Parameters,
  name: string,
  x: Tensor,
  options: LineOptions = {},
): Tensor {
  return conv1d(x, parameters(`${name}.weight`), parameters(`${name}.bias`), options);
}

/** The transposed convolution of that name over images [N, H, W, C]. */
export function applyTransposedConvolution(
  parameters: Parameters,
  name: string,
  x: Tensor,
  options: TransposedConvolutionOptions = {},
): Tensor {
  return convTranspose2d(x, parameters(`${name}.weight`), parameters(`${name}.bias`), options);
}

/** Rows of a learned table, under PyTorch's name. */
export const embeddingParameters = (name: string, rows: number, width: number): Parameter[] => [
  { name: `${name}.weight`, shape: [rows, width], initializer: normal(1) },
];

/** The rows of that name's table for u32 indices of any shape: [..., width]. */
export const applyEmbedding = (parameters: Parameters, name: string, indices: Tensor): Tensor =>
  gather(parameters(`${name}.weight`), indices);

/** Learned scale and shift of a norm. */
export function normParameters(name: string, channels: number): Parameter[] {
  return [
    { name: `${name}.weight`, shape: [channels], initializer: ones },
    { name: `${name}.bias`, shape: [channels], initializer: zeros },
  ];
}

/** Group norm of [N, ..., C] with learned scale and shift. */
export function affineGroupNorm(
  parameters: Parameters,
  name: string,
  x: Tensor,
  groups: number,
  epsilon: number,
): Tensor {
  return add(mul(groupNorm(x, groups, epsilon), parameters(`${name}.weight`)), parameters(`${name}.bias`));
}

/** Layer norm with learned scale and shift. */
export function affineLayerNorm(parameters: Parameters, name: string, x: Tensor, epsilon: number): Tensor {
  return add(mul(layerNorm(x, epsilon), parameters(`${name}.weight`)), parameters(`${name}.bias`));
}

/** Learned scale of a root mean square norm. */
export const rmsNormParameters = (name: string, channels: number): Parameter[] => [
  { name: `${name}.weight`, shape: [channels], initializer: ones },
];

/** Root mean square norm with learned scale. */
export const scaledRmsNorm = (parameters: Parameters, name: string, x: Tensor, epsilon?: number): Tensor =>
  mul(rmsNorm(x, epsilon), parameters(`${name}.weight`));

/** Scale, shift and running statistics of a batch norm, which training leaves as they are. */
export const batchNormParameters = (name: string, channels: number): Parameter[] => [
  ...normParameters(name, channels),
  { name: `${name}.running_mean`, shape: [channels], initializer: zeros, frozen: true },
  { name: `${name}.running_var`, shape: [channels], initializer: ones, frozen: true },
];

/** The batch norm of that name as in evaluation, channels last. */
export function applyBatchNorm(parameters: Parameters, name: string, x: Tensor, epsilon?: number): Tensor {
  const [weight, bias, mean, variance] = ['weight', 'bias', 'running_mean', 'running_var'].map((part) =>
    parameters(`${name}.${part}`),
  );
  return batchNorm(x, { weight, bias, mean, variance }, epsilon);
}

/**
 * Sines and cosines of t [B] at frequencies exp(-k · ln(10000) / span), k < count: transformer positions (Vaswani et al.,
 * 2017) with real-valued time. Returns both, [B, count] each.
 */
export function sinusoids(t: Tensor, count: number, span: number): { sines: Tensor; cosines: Tensor } {
  const frequencies = Float32Array.from({ length: count }, (_, k) => Math.exp((-k * Math.log(10000)) / span));
  const angles = mul(reshape(t, [t.size, 1]), tensor(frequencies, [1, count]));
  return { sines: sin(angles), cosines: cos(angles) };
}

/** Multiples of π for `harmonics`: for points, and slower ones for images, where what is learned at few times must serve all. */
export const [quickHarmonics, slowHarmonics] = [
  [1, 2, 4, 8],
  [0.25, 0.5, 1, 2],
] as const;

/** t [B] with sin and cos of four multiples of π times it: [B, 9]. Smooth enough to learn velocities from. */
export function harmonics(t: Tensor, multiples: readonly number[] = quickHarmonics): Tensor {
  const column = reshape(t, [t.size, 1]);
  const angles = mul(
    column,
    tensor(
      multiples.map((k) => k * Math.PI),
      [1, 4],
    ),
  );
  return concat([column, sin(angles), cos(angles)], 1);
}
/** Width of `harmonics`. */
export const harmonicsWidth = 9;

/** Times t and s [B] of jumps. */
export interface Jump {
  t: Tensor;
  s: Tensor;
}

const ofStudent = (parameter: Parameter): Parameter => ({ ...parameter, student: true });

/** Parameters of `embedJump`, under which the embedding is zero at the start. */
export const jumpParameters = (width: number, outputs = width): Parameter[] => [
  ...linearParameters('jump_embedder.0', 2 * harmonicsWidth, width).map(ofStudent),
  ...linearParameters('jump_embedder.2', width, outputs, zeros, zeros).map(ofStudent),
];

/**
 * Parameters of `modulateByJump`, under which shift and gains are zero at the start. Flow maps of before have no gains.
 * @param units hidden units to be scaled
 */
export const modulationParameters = (width: number, units: number): Parameter[] => [
  ...jumpParameters(width),
  ...linearParameters('jump_embedder.gains', width, units, zeros, zeros).map((gain) => ({
    ...ofStudent(gain),
    later: true,
  })),
];

/**
 * The second time input of every backbone: an embedding [B, outputs] of t and of the length t - s. Harmonics, and not the
 * backbone's own sinusoids, which hardly tell lengths in [0, 1] apart where its time is not scaled up. Where jumps open
 * weights it is zero at s = t as they are.
 */
export function embedJump(
  parameters: Parameters,
  { t, s }: Jump,
  multiples: readonly number[] = slowHarmonics,
): Tensor {
  return byGap(parameters, applyLinear(parameters, 'jump_embedder.2', jumpHidden(parameters, { t, s }, multiples)));
}

/** The embedding [B, width] beside gains [B, units], which scale hidden units by one plus each. */
export function modulateByJump(parameters: Parameters, jump: Jump, multiples: readonly number[]): Tensor[] {
  const hidden = jumpHidden(parameters, jump, multiples);
  return applyLinears(parameters, ['jump_embedder.2', 'jump_embedder.gains'], hidden).map((y) => byGap(parameters, y));
}

function jumpHidden(parameters: Parameters, { t, s }: Jump, multiples: readonly number[]): Tensor {
  const when = concat([harmonics(t, multiples), harmonics(sub(t, s), multiples)], 1);
  return silu(applyLinear(parameters, 'jump_embedder.0', when));
}

/**
 * Rows of an embedding table; without labels the last row, which stands for none.
 * @throws UserError without labels where the table has no such row
 */
export function embedLabels(table: Tensor, labels: Tensor | undefined, count: number, nullClass = true): Tensor {
  if (!labels && !nullClass)
    throw new UserError('this network knows no sample without a class: give every one a label');
  const none = table.shape[0] - 1;
  return gather(table, labels ?? tensor(new Uint32Array(count).fill(none)));
}

/** Parameters of `embedGuidance`, under which the embedding is zero at the start. */
export const guidanceParameters = (width: number): Parameter[] => [
  ...linearParameters('guidance_embedder.0', harmonicsWidth, width).map(ofStudent),
  ...linearParameters('guidance_embedder.2', width, width, zeros, zeros).map(ofStudent),
];

/** An embedding [B, width] of the scale w [B] of classifier-free guidance. */
export function embedGuidance(parameters: Parameters, w: Tensor): Tensor {
  // Scales up to about 8 within the harmonics' period of 2.
  const hidden = silu(applyLinear(parameters, 'guidance_embedder.0', harmonics(mul(w, 0.2))));
  return applyLinear(parameters, 'guidance_embedder.2', hidden);
}

/** Refuses a configuration value that cannot work, by the name of its key. */
export function requireThat(holds: boolean, key: string, message: string): void {
  if (!holds) throw new UserError(`architecture.${key}: ${message}`);
}
