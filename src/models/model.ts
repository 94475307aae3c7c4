import type { Parameter, Parameters } from '../nn/parameters.js';
import type { Shape } from '../tensor/shape.js';
import type { Tensor } from '../tensor/tensor.js';

/** What a network is called with. */
export interface NetworkInputs {
  /** [B, ...sampleShape] */
  x: Tensor;
  /** [B], in the network's own convention and range. */
  time: Tensor;
  /** t - s [B], scaled like the time; only for networks with a second time input. */
  gap?: Tensor;
  /** u32 [B]; only for class-conditional networks. */
  labels?: Tensor;
}

/** A backbone: its parameters and its graph. It knows nothing of flows, teachers or students. */
export interface Model {
  readonly sampleShape: Shape;
  /** Number of classes, 0 where unconditional. */
  readonly classes: number;
  /** Whether the label `classes` stands for no class. */
  readonly nullClass: boolean;
  readonly parameters: readonly Parameter[];
  /** Names of the parameters that only the second time input has; the last of them are zero at the start. */
  readonly gapParameters: ReadonlySet<string>;
  /** The network's output [B, ...sampleShape]. */
  apply(parameters: Parameters, inputs: NetworkInputs): Tensor;
}
