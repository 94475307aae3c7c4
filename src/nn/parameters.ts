import { UserError } from '../errors.js';
import type { Storage } from '../gpu/storage.js';
import { sameShape, sizeOf, type Shape } from '../tensor/shape.js';
import { fromStorage, type Tensor } from '../tensor/tensor.js';
import type { Initializer } from './initializers.js';

/** One named tensor of a network, under the name that the public PyTorch model gives it. */
export interface Parameter {
  name: string;
  shape: Shape;
  initializer: Initializer;
  /** Fixed: never trained, though saved and loaded. */
  frozen?: boolean;
}

/** Where parameters get their tensors from while a network's graph is built. */
export type Parameters = (name: string) => Tensor;

/** Tensors read from a file, by name. */
export type State = ReadonlyMap<string, { shape: Shape; data: Float32Array }>;

// Offsets are multiples of 256 bytes, the largest alignment that WebGPU asks of a binding.
const alignment = 64;

/** The order and place of a network's parameters in one flat arena. */
export class ParameterLayout {
  readonly offsets: readonly number[];
  /** Elements of the arena, padding included: a multiple of 64. */
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
  bind(storage: Storage, base = 0): Parameters {
    const tensors = this.parameters.map(({ shape }, i) => fromStorage(storage, shape, base + this.offsets[i]));
    return (name) => tensors[this.position(name)];
  }

  /** A fresh arena by each parameter's initialiser. */
  initialize(seed: number): Float32Array {
    const arena = new Float32Array(this.length);
    this.parameters.forEach(({ shape, initializer }, i) => {
      arena.set(initializer(shape, seed, i), this.offsets[i]);
    });
    return arena;
  }

  /**
   * An arena filled from a state dict.
   * @param origin the file's name, for messages
   * @param optional parameters that may be missing, with the arena they then come from
   * @throws UserError naming what is missing, has another shape, or is unknown
   */
  load(state: State, origin: string, optional?: { names: ReadonlySet<string>; arena: Float32Array }): Float32Array {
    const arena = new Float32Array(this.length);
    this.parameters.forEach(({ name, shape }, i) => {
      const found = state.get(name);
      const offset = this.offsets[i];
      if (!found && optional?.names.has(name)) {
        arena.set(optional.arena.subarray(offset, offset + sizeOf(shape)), offset);
        return;
      }
      if (!found) throw new UserError(`${origin} has no tensor "${name}": is the described architecture the file's?`);
      if (!sameShape(found.shape, shape)) {
        throw new UserError(
          `${origin}: "${name}" has shape [${found.shape}], the described architecture needs [${shape}]`,
        );
      }
      arena.set(found.data, offset);
    });
    for (const name of state.keys()) {
      if (!this.index.has(name))
        throw new UserError(`${origin} holds "${name}", which the described architecture does not have`);
    }
    return arena;
  }

  /** The tensors of an arena by name, as a state dict to be written. */
  unpack(arena: Float32Array, base = 0): Map<string, { shape: Shape; data: Float32Array }> {
    return new Map(
      this.parameters.map(({ name, shape }, i) => {
        const start = base + this.offsets[i];
        return [name, { shape, data: arena.slice(start, start + sizeOf(shape)) }];
      }),
    );
  }

  private position(name: string): number {
    const position = this.index.get(name);
    if (position === undefined) throw new Error(`the network has no parameter ${name}`);
    return position;
  }
}
