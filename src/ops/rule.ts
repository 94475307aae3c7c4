import type { TensorStorage } from '../gpu/storage.js';
import type { Profile } from '../gpu/profile.js';
import type { OpName, Tensor } from '../tensor/tensor.js';
import type { Choice } from './choice.js';

/** Elements that one WGSL value holds: a scalar or a vec4 of consecutive elements. */
export type Width = 1 | 4;

/** Writes the body of a WGSL function that computes elements of tensors from their flat index. */
export interface Emitter {
  /** Emits `let name = expression;`, once for one expression, and returns the name. */
  line(expression: string): string;
  /** A name for elements `index … index + width - 1` of a tensor; `index` is a u32 name or literal. */
  value(tensor: Tensor, index: string, width: Width): string;
  /** Makes the functions of kernels/lib/`library`.wgsl available. */
  include(library: string): void;
}

/** Gradients with respect to each input, given the node and the gradient of its result; null where none flows. */
export type GradientRule<K extends OpName> = (node: Tensor<K>, gradient: Tensor) => (Tensor | null)[];

/** What every rule says of its operation; shapes are the matter of the function that makes the node. */
interface BaseRule<K extends OpName> {
  /** Null where none flows. */
  gradient: GradientRule<K> | null;
  /** Its result stays f32 where a program stores f16. */
  precise?: true;
  /** Its values mean something only beside what they were computed from: random numbers do not stand for them. */
  dependent?: true;
  /** What its kernel, or what takes its place, leaves open. */
  choices?: (node: Tensor<K>, profile: Profile) => readonly Choice[];
  /**
   * The same by other operations, made of the given inputs, where an adapter wants it so; null where it does not.
   * `second` stands for the second output.
   */
  decompose?: (
    node: Tensor<K>,
    inputs: readonly Tensor[],
    profile: Profile,
  ) => { value: Tensor; second?: Tensor } | null;
}

/** A tensor whose elements are a function of their index: computed where they are needed, or tabulated. */
export interface IndexRule<K extends OpName> extends BaseRule<K> {
  kind: 'index';
  /** Rough instructions per element: 0 is a mere view, which is never worth a table. */
  cost: number;
  /**
   * Where in its inputs an element looks: at its own flat index and nowhere else (`same`); elsewhere, but an element of an
   * input serves about one element of the result (`moved`); or many (`repeated`), so that inputs are computed repeatedly.
   */
  access: 'same' | 'moved' | 'repeated';
  /** Computed again in each kernel that needs it rather than tabulated, however many there are. */
  inline?: boolean;
  /** Never computed inside another kernel: its code is long, and compiling it over and over is slow. */
  tabulate?: boolean;
  emit: (node: Tensor<K>, emitter: Emitter, index: string, width: Width) => string;
  /**
   * Its whole numbers stay text: it is evaluated in inner loops, where what the compiler knows pays, and they are the same
   * for every number of samples.
   */
  textual?: true;
  /** Whether 4 aligned elements come from 4 aligned elements of the input, or from one. Default true. */
  vectorizes?: (node: Tensor<K>) => boolean;
  /**
   * A kernel that computes this and at once, as its second output, the input of the given number: chosen where both are
   * wanted and the input has a kernel of its own.
   */
  joint?: { input: number; kernel: (node: Tensor<K>, profile: Profile) => Kernel };
}

/**
 * How much of the index functions before an operand a kernel computes itself while loading: `none`; `views`, which
 * cost nothing even when loaded many times; `any`.
 */
export type Fusion = 'none' | 'views' | 'any';

/** One of the tensors that a kernel reads. */
export interface Operand {
  /**
   * The kernel reads it as `load_<name>1(index)` and `load_<name>4(index, count)`, or with another at the same index as
   * `load_<name>_<other>4(index, count)`, the columns of a matrix.
   */
  name: string;
  tensor: Tensor;
  fusion: Fusion;
  /** Elements in one contiguous run; vec4 access needs a multiple of 4. */
  run: number;
}

/** A hand-written kernel with what the engine supplies to it. */
export interface Kernel {
  /** kernels/`source`.wgsl */
  source: string;
  /** kernels/lib/`library`.wgsl is included beside those that the source names itself. */
  library?: string;
  /** WGSL literals by the name of a constant: what the compiler is to know, because it pays in speed. */
  constants?: Record<string, string>;
  /** Whole numbers that the kernel reads as `numbers.NAME`: data, so that kernels which differ in them are compiled once. */
  numbers?: Record<string, number>;
  operands: Operand[];
  workgroups: number;
  /** Contiguous run of the output, as for operands. */
  run: number;
  /** Elements of the second output, written with `store_second1`. */
  secondary?: number;
  /** Storages that the kernel reads and writes in place, as `array<vec4f>`. */
  state?: Record<string, TensorStorage>;
  /** Written with `store_rounded4`, which does nothing where there is none. */
  rounded?: TensorStorage;
  flops?: number;
}

/** A tensor that only a kernel of its own can tabulate. */
export interface KernelRule<K extends OpName> extends BaseRule<K> {
  kind: 'kernel';
  kernel: (node: Tensor<K>, profile: Profile) => Kernel;
  /** What it reads may lie in memory as f16. */
  halfOperands?: true;
  /** A kernel that computes this and at once, as its second output, another node of what it reads; null where none does. */
  beside?: (node: Tensor<K>, other: Tensor, profile: Profile) => Kernel | null;
  /** An effect: the storages that it changes. It has no value that others could read. */
  writes?: (node: Tensor<K>) => readonly TensorStorage[];
  /** An effect that computes each element where it writes it, so that it may read what it changes there. */
  inPlace?: true;
}

/** A name for memory that is there without it: a storage, a second output, tensors side by side. */
export interface MemoryRule<K extends OpName> extends BaseRule<K> {
  kind: 'memory';
}

export type Rule<K extends OpName> = IndexRule<K> | KernelRule<K> | MemoryRule<K>;

export const u32 = (value: number): string => `${value}u`;
export const f32 = (value: number): string => {
  if (!Number.isFinite(value)) throw new Error(`${value} has no WGSL literal`);
  return Object.is(Math.fround(value), -0) ? '0f' : `${Math.fround(value)}f`;
};
export const bool = (value: boolean): string => String(value);
