import { UserError } from '../errors.js';
import type { TensorStorage } from '../gpu/storage.js';
import { sameShape, sizeOf, stridesOf, type Shape } from '../tensor/shape.js';
import { fromStorage, type Tensor } from '../tensor/tensor.js';
import type { Initializer } from './initializers.js';

/** One named tensor of a network, under the name that the public PyTorch model gives it. */
export interface Parameter {
  name: string;
  /** As in files. */
  shape: Shape;
  initializer: Initializer;
  /** In which order axes lie in memory, where that is not the file's: [2, 3, 1, 0] puts a convolution's kernel first. */
  order?: readonly number[];
  /** Fixed: never trained, though saved and loaded. */
  frozen?: boolean;
  /** A student has it beyond its teacher, and at the start it changes nothing. */
  student?: boolean;
}

/** Where parameters get their tensors from while a network's graph is built. */
export type Parameters = (name: string) => Tensor;

/** Tensors read from a file, by name. */
export type State = ReadonlyMap<string, { shape: Shape; data: Float32Array }>;

// Offsets are multiples of 256 bytes even in f16, the largest alignment that WebGPU asks of a binding.
const alignment = 128;

/** 8 GiB in f32: beyond what one buffer of any adapter holds. */
const mostWeights = 2 ** 31;

/** The order and place of a network's parameters in one flat arena. */
export class ParameterLayout {
  readonly offsets: readonly number[];
  /** Elements of the arena, padding included: a multiple of 128. */
  readonly length: number;
  private readonly index: ReadonlyMap<string, number>;

  constructor(readonly parameters: readonly Parameter[]) {
    let offset = 0;
    this.offsets = parameters.map(({ shape }) => {
      const start = offset;
      offset += Math.ceil(sizeOf(shape) / alignment) * alignment;
      return start;
    });
    this.length = Math.max(alignment, offset);
    this.index = new Map(parameters.map(({ name }, i) => [name, i]));
  }

  /** Number of parameters without padding. */
  get count(): number {
    return this.parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  }

  /** Tensors over an arena; `base` is where this layout starts in it. One tensor per name, however often asked. */
  bind(storage: TensorStorage, base = 0): Parameters {
    const tensors = this.parameters.map((parameter, i) =>
      fromStorage(storage, memoryShape(parameter), base + this.offsets[i]),
    );
    return (name) => tensors[this.position(name)];
  }

  /** A fresh arena by each parameter's initialiser. */
  initialize(seed: number): Float32Array {
    const arena = this.allocate();
    this.parameters.forEach((_, i) => this.draw(arena, i, seed));
    return arena;
  }

  /**
   * Whether a file holds what is described, by its header alone: nothing is read or allocated.
   * @param origin the file's name, for messages
   * @param optional parameters that may be missing
   * @throws UserError naming what is missing, has another shape, or is unknown
   */
  check(
    state: ReadonlyMap<string, { readonly shape: Shape }>,
    origin: string,
    optional: ReadonlySet<string> = new Set(),
  ): void {
    for (const { name, shape } of this.parameters) {
      const found = state.get(name);
      if (!found && !optional.has(name))
        throw new UserError(`${origin} has no tensor "${name}": is the described architecture the file's?`);
      if (found && !sameShape(found.shape, shape))
        throw new UserError(
          `${origin}: "${name}" has shape [${found.shape}], the described architecture needs [${shape}]`,
        );
    }
    for (const name of state.keys()) {
      if (!this.index.has(name))
        throw new UserError(`${origin} holds "${name}", which the described architecture does not have`);
    }
  }

  /**
   * An arena filled from a state dict.
   * @param origin the file's name, for messages
   * @param optional parameters that may be missing, and the seed of their initialisers
   * @throws UserError as `check` does
   */
  load(state: State, origin: string, optional?: { names: ReadonlySet<string>; seed: number }): Float32Array {
    this.check(state, origin, optional?.names);
    const arena = this.allocate();
    this.parameters.forEach((parameter, i) => {
      const found = state.get(parameter.name);
      if (found) arena.set(toMemory(parameter, found.data), this.offsets[i]);
      else this.draw(arena, i, optional!.seed);
    });
    return arena;
  }

  /** The tensors of an arena by name, as a state dict to be written. */
  unpack(arena: Float32Array, base = 0): Map<string, { shape: Shape; data: Float32Array }> {
    return new Map(
      this.parameters.map((parameter, i) => {
        const { name, shape } = parameter;
        const start = base + this.offsets[i];
        return [name, { shape, data: fromMemory(parameter, arena.subarray(start, start + sizeOf(shape))) }];
      }),
    );
  }

  private allocate(): Float32Array {
    if (this.length > mostWeights)
      throw new UserError(
        `the architecture has ${this.count} weights, and at most ${mostWeights} can be held: describe a smaller one`,
        'architecture',
      );
    return new Float32Array(this.length);
  }

  /** Fills a parameter by its initialiser. */
  private draw(arena: Float32Array, i: number, seed: number): void {
    const parameter = this.parameters[i];
    arena.set(toMemory(parameter, parameter.initializer(parameter.shape, seed, i)), this.offsets[i]);
  }

  private position(name: string): number {
    const position = this.index.get(name);
    if (position === undefined) throw new Error(`the network has no parameter ${name}`);
    return position;
  }
}

const memoryShape = ({ shape, order }: Parameter): Shape => (order ? order.map((axis) => shape[axis]) : shape);

function toMemory({ shape, order }: Parameter, values: Float32Array): Float32Array {
  return order ? transposed(values, shape, order) : values;
}

function fromMemory(parameter: Parameter, values: Float32Array): Float32Array {
  const { order } = parameter;
  if (!order) return values.slice();
  const inverse = order.map((_, axis) => order.indexOf(axis));
  return transposed(values, memoryShape(parameter), inverse);
}

/** The values with axis `i` of the result being axis `order[i]`. */
function transposed(values: Float32Array, shape: Shape, order: readonly number[]): Float32Array {
  const strides = stridesOf(shape);
  const extents = order.map((axis) => shape[axis]);
  const steps = order.map((axis) => strides[axis]);
  return Float32Array.from(values, (_, i) => {
    let from = 0;
    for (let axis = extents.length - 1; axis >= 0; axis--) {
      from += (i % extents[axis]) * steps[axis];
      i = Math.floor(i / extents[axis]);
    }
    return values[from];
  });
}
