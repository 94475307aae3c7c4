import type { Parameter, Parameters } from '../nn/parameters.js';
import type { Shape } from '../tensor/shape.js';
import type { Jump } from '../nn/layers.js';
import type { Tensor } from '../tensor/tensor.js';

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
}

/** A backbone: its parameters and its graph. It knows nothing of flows, teachers or students. */
export interface Model {
  readonly sampleShape: Shape;
  /** Number of classes, 0 where unconditional. */
  readonly classes: number;
  /** Whether the label `classes` stands for no class. */
  readonly nullClass: boolean;
  readonly parameters: readonly Parameter[];
  /** Names of the parameters that a student has beyond its teacher; at the start they change nothing. */
  readonly studentParameters: ReadonlySet<string>;
  /** Names of the matrices and convolutions that a low-rank adapter goes with: attention, MLP and convolution layers. */
  readonly adapted: RegExp;
  /** The network's output [B, ...sampleShape]. */
  apply(parameters: Parameters, inputs: NetworkInputs): Tensor;
}

export interface BuildOptions {
  /** Whether it has the second time input of a flow map. */
  twoTime: boolean;
  /** Whether the backward pass computes each block anew: less memory, a third more time. Blocks of an MLP are too small. */
  checkpointBlocks: boolean;
  /** Whether a scale of classifier-free guidance is an input; only for networks that know no class as well as classes. */
  guided: boolean;
}
