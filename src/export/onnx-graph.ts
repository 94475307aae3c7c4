import { reachable } from '../autodiff/gradients.js';
import { rewrite } from '../autodiff/rewrite.js';
import type { HostArray, TensorStorage } from '../gpu/storage.js';
import { materializedAttention } from '../ops/attention.js';
import { broadcastShapes, sameShape, type Shape } from '../tensor/shape.js';
import type { Tensor } from '../tensor/tensor.js';
import type { OnnxNode, OnnxTensor } from './onnx-file.js';
import { onnxForm } from './onnx-operations.js';

/** An extent as it depends on the batch: fixed + perSample · batch. */
export interface Extent {
  fixed: number;
  perSample: number;
}

/** A graph as it is traced for one size of the batch. */
export interface Traced {
  output: Tensor;
  /** Names of the storages that it is given: those of the batch, and weights with their shapes. */
  names: ReadonlyMap<TensorStorage, string>;
}

/** A graph in ONNX's operations, for a batch of any size. */
export interface OnnxGraph {
  nodes: OnnxNode[];
  /** Constants that the graph itself needs, beside the weights. */
  initializers: OnnxTensor[];
  /** The name of its output. */
  output: string;
}

/**
 * A batch's graph as one for batches of any size: the same network is traced for two sizes, and what differs between them
 * is what depends on the size. Both are prime and large, so that no other extent is taken for one of them.
 * @param input name of a tensor whose first axis is the batch
 */
export function onnxGraph(trace: (batch: number) => Traced, input: string): OnnxGraph {
  const [few, more] = [1009, 1013];
  const [first, second] = [trace(few), trace(more)].map((traced) => ({ ...traced, output: inProducts(traced.output) }));
  const [nodes, others] = [reachable([first.output]), reachable([second.output])];
  if (nodes.length !== others.length) throw new Error('the graph depends on the size of its batch');
  const twins = new Map<Tensor, Tensor>();
  nodes.forEach((node, i) => {
    if (node.op !== others[i].op) throw new Error(`${node.op} is ${others[i].op} in another batch`);
    twins.set(node, others[i]);
  });
  const builder = new GraphBuilder(input, first.names, (node, numbersOf) => {
    const others = numbersOf(twins.get(node) as typeof node);
    return numbersOf(node).map((number, i) => {
      const perSample = (others[i] - number) / (more - few);
      return { fixed: number - few * perSample, perSample };
    });
  });
  for (const node of nodes) builder.add(node);
  return builder.finish(first.output);
}

/** The same graph with all attention written as matrix products. */
function inProducts(output: Tensor): Tensor {
  const [written] = rewrite([output], (node, [q, k, v]) => {
    if (node.op !== 'attention') return null;
    const { heads, scale, causal } = (node as Tensor<'attention'>).attributes;
    return materializedAttention(q, k, v, heads, { scale, causal });
  });
  return written;
}

/** Collects nodes and constants while operations say their form. */
export class GraphBuilder {
  private readonly names = new Map<Tensor, string>();
  private readonly nodes: OnnxNode[] = [];
  private readonly constants = new Map<string, OnnxTensor>();
  private batch: string | null = null;

  constructor(
    private readonly input: string,
    private readonly given: ReadonlyMap<TensorStorage, string>,
    /** Numbers of a tensor, such as where a slice starts, as they depend on the batch. */
    readonly numbers: <T extends Tensor>(tensor: T, of: (tensor: T) => readonly number[]) => Extent[],
  ) {}

  /** The shape of a tensor as it depends on the batch. */
  extents(tensor: Tensor): Extent[] {
    return this.numbers(tensor, ({ shape }) => shape);
  }

  /** The name of a tensor's value. */
  name(tensor: Tensor): string {
    const name = this.names.get(tensor);
    if (!name) throw new Error(`${tensor.op} has no value in ONNX`);
    return name;
  }

  /** Adds a tensor of the graph, its inputs being there already. */
  add(tensor: Tensor): void {
    this.names.set(tensor, onnxForm(tensor, this));
  }

  /** Adds a node, and returns the name of its value. */
  node(op: string, inputs: readonly string[], attributes: OnnxNode['attributes'] = {}): string {
    const output = `${op}_${this.nodes.length}`;
    this.nodes.push({ op, inputs, output, attributes });
    return output;
  }

  /** The name of a storage that the graph is given; undefined for literals. */
  storage(storage: TensorStorage): string | undefined {
    return this.given.get(storage);
  }

  /** A constant of f32. */
  reals(values: ArrayLike<number>, shape: Shape): string {
    return this.constant('f32', Float32Array.from(values), shape);
  }

  /** A constant of whole numbers. */
  integers(values: ArrayLike<number>, shape: Shape = [values.length]): string {
    return this.constant('i64', BigInt64Array.from(Array.from(values, BigInt)), shape);
  }

  /** A literal of the graph, as ONNX has it. */
  literal(values: HostArray, shape: Shape): string {
    return values instanceof Float32Array ? this.reals(values, shape) : this.integers(values, shape);
  }

  /** Extents as a list of whole numbers, computed where they depend on the batch. */
  shape(extents: readonly Extent[]): string {
    const fixed = this.integers(extents.map((extent) => extent.fixed));
    if (extents.every(({ perSample }) => perSample === 0)) return fixed;
    this.batch ??= this.node('Gather', [this.node('Shape', [this.input]), this.integers([0])], { axis: 0 });
    const growing = this.node('Mul', [this.batch, this.integers(extents.map(({ perSample }) => perSample))]);
    return this.node('Add', [growing, fixed]);
  }

  /** A value under other extents; one that depends on the batch alone is left to be found. */
  reshape(value: string, extents: readonly Extent[]): string {
    const free = extents.filter(({ perSample }) => perSample);
    const shape =
      free.length === 1
        ? this.integers(extents.map(({ fixed, perSample }) => (perSample ? -1 : fixed)))
        : this.shape(extents);
    return this.node('Reshape', [value, shape]);
  }

  /** The inputs of an elementwise operation, before they were repeated wherever ONNX repeats them itself. */
  broadcast(tensor: Tensor): string[] {
    const sources = tensor.inputs.map(unrepeated);
    const shapes = sources.map((source) => (source.op === 'constant' ? [] : source.shape));
    if (!sameShape(shapes.reduce(broadcastShapes), tensor.shape)) return tensor.inputs.map((input) => this.name(input));
    return sources.map((source) =>
      source.op === 'constant' ? this.scalar(source as Tensor<'constant'>) : this.name(source),
    );
  }

  /** A constant of the graph as one number. */
  scalar({ attributes: { value }, dtype }: Tensor<'constant'>): string {
    return dtype === 'f32' ? this.reals([value], []) : this.integers([value], []);
  }

  /** What the output needs, and no more. */
  finish(output: Tensor): OnnxGraph {
    const needed = new Set([this.name(output)]);
    const nodes = this.nodes.toReversed().filter((node) => {
      if (!needed.has(node.output)) return false;
      for (const input of node.inputs) needed.add(input);
      return true;
    });
    const initializers = [...this.constants.values()].filter(({ name }) => needed.has(name));
    return { nodes: nodes.reverse(), initializers, output: this.name(output) };
  }

  private constant(type: 'f32' | 'i64', data: Float32Array | BigInt64Array, shape: Shape): string {
    // Equal ones are one, as long as comparing them costs little.
    const key = data.length <= 64 ? `${type} ${shape.join()} ${data.join()}` : `large ${this.constants.size}`;
    let known = this.constants.get(key);
    if (!known) this.constants.set(key, (known = { name: `constant_${this.constants.size}`, type, shape, data }));
    return known.name;
  }
}

const unrepeated = (tensor: Tensor): Tensor => (tensor.op === 'expand' ? unrepeated(tensor.inputs[0]) : tensor);
