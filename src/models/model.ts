import { UserError } from '../errors.js';
import type { Jump } from '../nn/layers.js';
import { opened, openedParameters } from '../nn/opened.js';
import type { Parameter, Parameters } from '../nn/parameters.js';
import { slice } from '../ops/movement.js';
import { sub } from '../ops/pointwise.js';
import { sizeOf, type Shape } from '../tensor/shape.js';
import { constant, type Tensor } from '../tensor/tensor.js';

/** What a network is called with. */
export interface NetworkInputs {
  /** [B, ...sampleShape] */
  x: Tensor;
  /** [B], in the network's own convention and range. */
  time: Tensor;
  /** From where to where it jumps, [B] each in our own time; only for networks with a second time input. */
  jump?: Jump;
  /** u32 [B]; only for class-conditional networks. */
  labels?: Tensor;
  /** Scale of classifier-free guidance [B]; only for networks that were built with that input. */
  guidance?: Tensor;
  /** What else it is told, by the names of `ModelParts.conditions`: [B, ...shape] each. */
  conditions?: Conditions;
}

/** Values of conditions by name, [B, ...shape] each. */
export type Conditions = Readonly<Record<string, Tensor>>;

/** What a network is told beside time and class: the states of a text, further channels of its input. */
export interface ConditionLaw {
  /** Of one sample's. */
  readonly shape: Shape;
  /** Whether it may be left out: zeros stand for none. Default false. */
  readonly optional?: boolean;
}

/** What a backbone builds: parameters and a graph. It knows nothing of flows, teachers or students. */
export interface ModelParts {
  /** Of one sample, any rank; pictures are [channels, height, width]. */
  readonly sampleShape: Shape;
  /** Number of classes; 0, unconditional, where it is left out. */
  readonly classes?: number;
  /** Whether the label `classes` stands for no class. Default false. */
  readonly nullClass?: boolean;
  /** What it is told beside time and class, by name. */
  readonly conditions?: Readonly<Record<string, ConditionLaw>>;
  readonly parameters: readonly Parameter[];
  /**
   * Names of the matrices and convolutions that a low-rank adapter goes with, such as attention, MLP and convolution
   * layers; all of them where it is left out.
   */
  readonly adapted?: RegExp;
  /**
   * Names of the matrices and convolutions beside which a student's jumps open products of low rank: of those that
   * `applyLinear`, `applyMatrix` and `applyConvolution` apply. None where it is left out.
   */
  readonly opens?: RegExp;
  /**
   * The network's output [B, ...sampleShape]. Of pictures it may have further channels behind those of the sample, such as
   * a variance: `predictionOf` leaves them out.
   */
  apply(parameters: Parameters, inputs: NetworkInputs): Tensor;
}

/** A network without weights. */
export interface Model extends Required<Omit<ModelParts, 'opens'>> {
  /** Names of the weights beside which jumps can open products; null where the backbone names none. */
  readonly opens: RegExp | null;
  /** Names of the parameters that a student has beyond its teacher; at the start they change nothing. */
  readonly studentParameters: ReadonlySet<string>;
}

/** In which form a backbone is built. */
export interface BuildOptions {
  /** Whether it has the second time input of a flow map: parameters of `jumpParameters`, and `jump` in `apply`. */
  twoTime: boolean;
  /** Whether the backward pass computes each block anew (`runBlock`): less memory, a third more time. */
  checkpointBlocks: boolean;
  /**
   * Whether a scale of classifier-free guidance is an input: parameters of `guidanceParameters`, and `guidance` in `apply`;
   * only asked of networks that know no class as well as classes.
   */
  guided: boolean;
}

/** In which form a network is made of what a backbone builds. */
export interface ModelOptions extends BuildOptions {
  /** Rank of the products that jumps open beside the weights that the backbone names; 0 for none. */
  jumpRank: number;
}

/**
 * A network without weights from what a backbone built.
 * @param jumpRank rank of what its jumps open, 0 for nothing
 * @throws UserError where shapes or names cannot be
 */
export function modelOf({ opens, ...given }: ModelParts, jumpRank = 0): Model {
  const parts = jumpRank && opens ? opening(given, opens, jumpRank) : given;
  const { sampleShape, parameters } = parts;
  for (const shape of [sampleShape, ...parameters.map((parameter) => parameter.shape)])
    if (shape.some((extent) => !(Number.isInteger(extent) && extent > 0)) || !Number.isSafeInteger(sizeOf(shape)))
      throw new UserError(`the architecture has a tensor of shape [${shape}], which cannot be`, 'architecture');
  const seen = new Set<string>();
  for (const { name } of parameters) {
    if (seen.has(name)) throw new UserError(`the architecture has two parameters named ${name}`, 'architecture');
    seen.add(name);
  }
  return {
    classes: 0,
    nullClass: false,
    conditions: {},
    adapted: /./,
    opens: opens ?? null,
    ...parts,
    studentParameters: new Set(parameters.flatMap(({ name, student }) => (student ? [name] : []))),
  };
}

/** A student whose jumps open products of low rank beside weights; what only a student has comes last. */
function opening(parts: ModelParts, opens: RegExp, rank: number): ModelParts {
  const beside = parts.parameters.filter(({ name, shape }) => shape.length > 1 && opens.test(name));
  const names = new Set(beside.map(({ name }) => name));
  const [own, inherited] = [true, false].map((ofStudent) =>
    parts.parameters.filter(({ student = false }) => student === ofStudent),
  );
  return {
    ...parts,
    parameters: [...inherited, ...own, ...openedParameters(beside, rank)],
    apply: (p, inputs) => {
      const { jump } = inputs;
      return parts.apply(jump ? opened(p, names, sub(jump.t, jump.s)) : p, inputs);
    },
  };
}

/**
 * What a network says of the sample: its output without the channels behind those of the sample. Conditions that may be left
 * out, and are, are zeros, so that every parameter has its part in the output.
 */
export function predictionOf(model: Model, parameters: Parameters, inputs: NetworkInputs): Tensor {
  const zeros = Object.entries(model.conditions).flatMap(([name, { shape, optional }]) =>
    optional ? [[name, constant(0, [inputs.x.shape[0], ...shape])] as const] : [],
  );
  const conditions = { ...Object.fromEntries(zeros), ...inputs.conditions };
  const output = model.apply(parameters, { ...inputs, conditions });
  const [channels] = model.sampleShape;
  return output.shape[1] === channels ? output : slice(output, 1, 0, channels);
}

/** Whether samples are points, [d], or lists of them, and not pictures, [channels, height, width]: by the rank of their shape. */
export const isPoints = (sampleShape: Shape): boolean => sampleShape.length !== 3;
