import { UserError } from '../errors.js';
import type { TensorStorage } from '../gpu/storage.js';
import { sameShape, sizeOf, stridesOf, type Shape } from '../tensor/shape.js';
import { fromStorage, type Tensor } from '../tensor/tensor.js';
import { concat, reshape } from '../ops/movement.js';
import type { Initializer } from './initializers.js';
import { nearMiss } from './near-miss.js';
import { drawnWeights, type Weights } from './weights.js';

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
  /** It came later: a file may lack it, and is read as if it held what the initialiser gives, which changes nothing. */
  later?: boolean;
}

/** Where parameters get their tensors from while a network's graph is built. */
export interface Parameters {
  (name: string): Tensor;
  /** Of a student: what its jumps open (`opened.ts`). */
  readonly opening?: Opening;
}

/** What jumps open: products of low rank beside some weights, by how far each sample jumps. */
export interface Opening {
  /** Length t - s of each sample's jump [B], below 0 towards noise. */
  readonly gap: Tensor;
  /** The weights that have such a product. */
  readonly weights: ReadonlySet<string>;
}

/** Elements from `start` to before `end` of an arena. */
export interface Span {
  start: number;
  end: number;
}

/** A span of an arena in a storage of its own, from its element `base` on. */
export interface Page extends Span {
  storage: TensorStorage;
  base?: number;
}

// Offsets are multiples of 256 bytes even in f16, the largest alignment that WebGPU asks of a binding.
const alignment = 128;

/** 4 TiB in f32, beyond what any machine holds: a description of more is a slip. */
const mostWeights = 2 ** 40;
/** What kernels can count. */
const largestTensor = 2 ** 31;

/**
 * The order and place of a network's parameters in one flat arena. It is the same on every device, as state files are;
 * where an adapter has no buffer of that size, the arena lies in several, its `pages`.
 */
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

  /** @throws UserError where there are more weights than any machine holds */
  checkSize(): void {
    const large = this.parameters.find(({ shape }) => sizeOf(shape) > largestTensor);
    if (this.length <= mostWeights && !large) return;
    throw new UserError(
      large
        ? `the architecture's "${large.name}" has ${sizeOf(large.shape)} weights, and a tensor holds at most ${largestTensor}: describe a smaller one`
        : `the architecture has ${this.count} weights, and at most ${mostWeights} can be held: describe a smaller one`,
      'architecture',
    );
  }

  /**
   * The arena in spans of at most so many elements, cut between parameters; one that is longer by itself is cut at
   * multiples of 128.
   */
  pages(most: number): Span[] {
    const longest = Math.max(alignment, Math.floor(most / alignment) * alignment);
    const pages: Span[] = [];
    let [start, end] = [0, 0];
    const close = (at: number) => {
      if (at > start) pages.push({ start, end: at });
      start = at;
    };
    this.parameters.forEach((_, i) => {
      const next = this.offsets[i + 1] ?? this.length;
      if (next - start > longest) close(end);
      while (next - start > longest) close(start + longest);
      end = next;
    });
    close(this.length);
    return pages;
  }

  /** Number of parameters without padding. */
  get count(): number {
    return this.parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  }

  /**
   * Tensors over an arena, one per name, however often asked. What lies in several pages is put together where it is read.
   * @param place where the arena lies: its pages, or one storage that has it from `base` on
   */
  bind(place: TensorStorage | readonly Page[], base = 0): Parameters {
    const pages = 'dtype' in place ? [{ storage: place, start: 0, end: this.length, base }] : place;
    const tensors = this.parameters.map((parameter, i) => {
      const shape = memoryShape(parameter);
      const parts = overlaps(pages, this.spanOf(i)).map(({ page, from, to }) => ({
        storage: page.storage,
        first: (page.base ?? 0) + from - page.start,
        size: to - from,
      }));
      const [{ storage, first }] = parts;
      if (parts.length === 1) return fromStorage(storage, shape, first);
      const pieces = parts.map(({ storage, first, size }) => fromStorage(storage, [size], first));
      return reshape(concat(pieces, 0), shape);
    });
    return (name) => tensors[this.position(name)];
  }

  /** Where the parameter of a number lies in the arena, without padding. */
  spanOf(i: number): Span {
    return { start: this.offsets[i], end: this.offsets[i] + sizeOf(this.parameters[i].shape) };
  }

  /** What a student has beyond its teacher, from the first such parameter to the last, padding included; else nothing. */
  get studentSpan(): Span {
    const own = this.parameters.flatMap(({ student }, i) => (student ? [i] : []));
    if (!own.length) return { start: 0, end: 0 };
    return { start: this.offsets[own[0]], end: this.offsets[own.at(-1)! + 1] ?? this.length };
  }

  /**
   * Reads the weights of a span of the arena, a tensor at a time.
   * @param write gets values and the place in the span that they begin at; what it does not get is padding
   */
  async fill(
    weights: Weights,
    { start, end }: Span,
    write: (values: Float32Array, offset: number) => Promise<void> | void,
  ): Promise<void> {
    for (let i = 0; i < this.parameters.length; i++) {
      const parameter = this.parameters[i];
      const span = this.spanOf(i);
      const [from, to] = [Math.max(start, span.start), Math.min(end, span.end)];
      if (from >= to) continue;
      const values = toMemory(parameter, await weights.read(parameter.name));
      if (values.length !== span.end - span.start)
        throw new Error(`the weights of ${parameter.name} are ${values.length} of ${span.end - span.start}`);
      await write(values.subarray(from - span.start, to - span.start), from - start);
    }
  }

  /** A whole arena on the host: for networks that fit there. */
  async collect(weights: Weights): Promise<Float32Array> {
    const arena = new Float32Array(this.length);
    await this.fill(weights, { start: 0, end: this.length }, (values, offset) => arena.set(values, offset));
    return arena;
  }

  /** The weights of an arena: one on the host, or one whose elements `start` to before `end` are read from elsewhere. */
  weightsOf(arena: Float32Array | ((start: number, end: number) => Promise<Float32Array>)): Weights {
    const values = typeof arena === 'function' ? arena : async (start: number, end: number) => arena.slice(start, end);
    const read = async (name: string) => {
      const i = this.position(name);
      const { start, end } = this.spanOf(i);
      return fromMemory(this.parameters[i], await values(start, end));
    };
    return { dtype: 'f32', read };
  }

  /** Fresh weights by each parameter's initialiser. */
  drawn(seed: number): Weights {
    return drawnWeights(this.parameters, seed);
  }

  /**
   * Whether a file holds what is described, by its header alone: nothing is read or allocated.
   * @param origin the file's name, for messages
   * @param optional parameters that may be missing; by default those that came later
   * @throws UserError naming what is missing, has another shape, or is unknown, and the likely cause
   */
  check(
    state: ReadonlyMap<string, { readonly shape: Shape }>,
    origin: string,
    optional: ReadonlySet<string> = this.later,
  ): void {
    // The names as they are: what they begin with is dropped where files are opened.
    const as = this.parameters.every(({ name, shape }) => {
      const found = state.get(name);
      return found ? sameShape(found.shape, shape) : optional.has(name);
    });
    if (as && [...state.keys()].every((name) => this.index.has(name))) return;
    throw new UserError(`${origin}${nearMiss(this.parameters, state, optional)}`);
  }

  /** Names of the parameters that files of before lack. */
  private get later(): ReadonlySet<string> {
    return new Set(this.parameters.flatMap(({ name, later }) => (later ? [name] : [])));
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
  if (!order) return values;
  const inverse = order.map((_, axis) => order.indexOf(axis));
  return transposed(values, memoryShape(parameter), inverse);
}

/** The values with axis `i` of the result being axis `order[i]`. */
function transposed(values: Float32Array, shape: Shape, order: readonly number[]): Float32Array {
  const strides = stridesOf(shape);
  const extents = order.map((axis) => shape[axis]);
  const steps = order.map((axis) => strides[axis]);
  const result = new Float32Array(values.length);
  const at = extents.map(() => 0);
  const last = extents.length - 1;
  const [inner, step] = [extents[last], steps[last]];
  let from = 0;
  for (let i = 0; i < result.length; i += inner) {
    for (let j = 0; j < inner; j++) result[i + j] = values[from + j * step];
    for (let axis = last - 1; axis >= 0; axis--) {
      from += steps[axis];
      if (++at[axis] < extents[axis]) break;
      from -= extents[axis] * steps[axis];
      at[axis] = 0;
    }
  }
  return result;
}

/** The pages that hold something of a span, with the elements of the arena that they hold of it. */
function overlaps<P extends Span>(pages: readonly P[], { start, end }: Span): { page: P; from: number; to: number }[] {
  return pages
    .map((page) => ({ page, from: Math.max(start, page.start), to: Math.min(end, page.end) }))
    .filter(({ from, to }) => from < to);
}
