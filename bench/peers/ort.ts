// onnxruntime-web's WebGPU provider: forwards only. The graph is written as ONNX here, inputs and output stay on the GPU.
import './gpu.js';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import onnxProto from 'onnx-proto';
import type * as Ort from 'onnxruntime-web/webgpu';
import { apply, inputsOf, isImages, type Case } from './cases.js';
import type { Ops } from './ops.js';
import { serve } from './worker.js';

const { onnx } = onnxProto;
const require = createRequire(import.meta.url);
const dist = require.resolve('onnxruntime-web').replace(/[^/]*$/, '');
// Dawn for Node refuses views of shared memory, which the WebAssembly heap is.
const queue = (globalThis as unknown as { GPUQueue: { prototype: GPUQueue } }).GPUQueue.prototype;
const writeBuffer = queue.writeBuffer;
queue.writeBuffer = function (buffer, offset, data, start?: number, size?: number) {
  const view = ArrayBuffer.isView(data) ? data : new Uint8Array(data);
  const unit = ArrayBuffer.isView(data) && 'BYTES_PER_ELEMENT' in data ? (data.BYTES_PER_ELEMENT as number) : 1;
  const from = view.byteOffset + (start ?? 0) * unit;
  const bytes = size === undefined ? view.byteLength - (start ?? 0) * unit : size * unit;
  const copy = new Uint8Array(bytes);
  copy.set(new Uint8Array(view.buffer as ArrayBuffer, from, bytes));
  writeBuffer.call(this, buffer, offset, copy);
};
const ort = (await import(`${dist}ort.webgpu.mjs`)) as typeof Ort;
ort.env.wasm.wasmBinary = readFileSync(`${dist}ort-wasm-simd-threaded.asyncify.wasm`);
ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';

interface Value {
  name: string;
  shape: number[];
}

const FLOAT = 1;
const INT64 = 7;
type Attribute = number | number[] | string;

/** An ONNX graph under construction. Images are [N, C, H, W], filters [out, in, rows, columns]. */
class Graph {
  readonly nodes: object[] = [];
  readonly constants: object[] = [];
  private count = 0;

  node(op: string, inputs: Value[], shape: number[], attributes: Record<string, Attribute> = {}, outputs = 1): Value[] {
    const names = Array.from({ length: outputs }, () => `v${this.count++}`);
    const attribute = Object.entries(attributes).map(([name, value]) => {
      if (typeof value === 'string') return { name, type: 3, s: Buffer.from(value) };
      if (Array.isArray(value)) return { name, type: 7, ints: value };
      return Number.isInteger(value) ? { name, type: 2, i: value } : { name, type: 1, f: value };
    });
    this.nodes.push({ opType: op, input: inputs.map(({ name }) => name), output: names, attribute });
    return names.map((name) => ({ name, shape }));
  }

  one(op: string, inputs: Value[], shape: number[], attributes: Record<string, Attribute> = {}): Value {
    return this.node(op, inputs, shape, attributes)[0];
  }

  floats(values: number[], shape = [values.length]): Value {
    const name = `c${this.count++}`;
    this.constants.push({ name, dataType: FLOAT, dims: shape, floatData: values });
    return { name, shape };
  }

  reshape(x: Value, shape: number[]): Value {
    const name = `c${this.count++}`;
    this.constants.push({ name, dataType: INT64, dims: [shape.length], int64Data: shape });
    return this.one('Reshape', [x, { name, shape: [shape.length] }], shape);
  }

  transpose(x: Value, perm: number[]): Value {
    return this.one(
      'Transpose',
      [x],
      perm.map((axis) => x.shape[axis]),
      { perm },
    );
  }
}

const sizeOf = (shape: number[]) => shape.reduce((a, b) => a * b, 1);

function opsOf(graph: Graph): Ops<Value> {
  const ones = (count: number, value: number) => graph.floats(Array<number>(count).fill(value));
  const not = (what: string) => (): never => {
    throw new Error(`${what} is no part of the forwards`);
  };
  return {
    matmul: (x, w) => graph.one('MatMul', [x, w], [...x.shape.slice(0, -1), w.shape.at(-1)!]),
    add: (x, y) => graph.one('Add', [x, y], x.shape),
    mul: (x, y) => graph.one('Mul', [x, y], x.shape),
    offset: (x, k) => graph.one('Add', [x, graph.floats([k])], x.shape),
    silu: (x) => graph.one('Mul', [x, graph.one('Sigmoid', [x], x.shape)], x.shape),
    gelu: (x) => graph.one('Gelu', [x], x.shape, { approximate: 'tanh' }),
    softmax: (x) => graph.one('Softmax', [x], x.shape, { axis: -1 }),
    layerNorm: (x) => {
      const width = x.shape.at(-1)!;
      return graph.one('LayerNormalization', [x, ones(width, 1), ones(width, 0)], x.shape, { axis: -1, epsilon: 1e-5 });
    },
    attention: (q, k, v, heads) => {
      const [batch, tokens, width] = q.shape;
      const apart = (t: Value, perm: number[]) =>
        graph.transpose(graph.reshape(t, [batch, tokens, heads, width / heads]), perm);
      const square = [batch, heads, tokens, tokens];
      const products = graph.one('MatMul', [apart(q, [0, 2, 1, 3]), apart(k, [0, 2, 3, 1])], square);
      const scores = graph.one('Mul', [products, graph.floats([(width / heads) ** -0.5])], square);
      const weights = graph.one('Softmax', [scores], square, { axis: -1 });
      const mixed = graph.one('MatMul', [weights, apart(v, [0, 2, 1, 3])], [batch, heads, tokens, width / heads]);
      return graph.reshape(graph.transpose(mixed, [0, 2, 1, 3]), q.shape);
    },
    reshape: (x, shape) => graph.reshape(x, shape),
    images: (x) => graph.transpose(x, [0, 3, 1, 2]),
    pixels: (x) => graph.transpose(x, [0, 2, 3, 1]),
    filter: (w) => graph.transpose(w, [3, 2, 0, 1]),
    conv: (x, w, stride) => {
      const reach = (w.shape[2] - 1) / 2;
      const end = stride === 1 ? reach : 0;
      const shape = [x.shape[0], w.shape[0], x.shape[2] / stride, x.shape[3] / stride];
      return graph.one('Conv', [x, w], shape, { pads: [reach, reach, end, end], strides: [stride, stride] });
    },
    groupNorm: (x, groups) => {
      const flat = graph.reshape(x, [x.shape[0], groups, sizeOf(x.shape) / x.shape[0] / groups]);
      const inputs = [flat, ones(groups, 1), ones(groups, 0)];
      return graph.reshape(graph.one('InstanceNormalization', inputs, flat.shape, { epsilon: 1e-5 }), x.shape);
    },
    split: not('split'),
    addToChannels: not('addToChannels'),
    upsample: not('upsample'),
    concatChannels: not('concatChannels'),
    tokens: not('tokens'),
    fromTokens: not('fromTokens'),
    meanSquare: not('meanSquare'),
  };
}

const valueInfo = ({ name, shape }: Value) => ({
  name,
  type: { tensorType: { elemType: FLOAT, shape: { dim: shape.map((n) => ({ dimValue: n })) } } },
});

/** The model of a case. Images and filters come in and leave as the provider likes them, [N, C, H, W]. */
function modelOf(c: Case, shapes: number[][]): Uint8Array {
  const graph = new Graph();
  const inputs = shapes.map((shape, i) => ({ name: `x${i}`, shape }));
  const output = apply(opsOf(graph), c, inputs);
  const model = onnx.ModelProto.create({
    irVersion: 9,
    opsetImport: [{ domain: '', version: 20 }],
    graph: {
      name: 'case',
      node: graph.nodes as never,
      initializer: graph.constants as never,
      input: inputs.map(valueInfo) as never,
      output: [valueInfo(output)] as never,
    },
  });
  return onnx.ModelProto.encode(model).finish();
}

/** [A, B, C, D] as [A, D, B, C] (images) or, for filters, as [D, C, A, B]; `back` undoes the first. */
function permuted({ shape, data }: { shape: number[]; data: Float32Array }, perm: number[]) {
  const strides = shape.map((_, i) => sizeOf(shape.slice(i + 1)));
  const out = perm.map((axis) => shape[axis]);
  const values = new Float32Array(data.length);
  for (let i = 0, place = out.map(() => 0); i < values.length; i++) {
    values[i] = data[place.reduce((at, p, d) => at + p * strides[perm[d]], 0)];
    for (let d = place.length - 1; d >= 0 && ++place[d] === out[d]; d--) place[d] = 0;
  }
  return { shape: out, data: values };
}

serve(async (c, mode) => {
  if (mode !== 'forward') throw new Error('no gradients');
  const inputs = inputsOf(c).map((input, i) =>
    isImages(c) ? permuted(input, i === 0 ? [0, 3, 1, 2] : [3, 2, 0, 1]) : input,
  );
  const session = await ort.InferenceSession.create(
    modelOf(
      c,
      inputs.map(({ shape }) => shape),
    ),
    { executionProviders: ['webgpu'], preferredOutputLocation: 'gpu-buffer' },
  );
  const device = (await ort.env.webgpu.device) as GPUDevice;
  const buffers = inputs.map(({ data }) => {
    const usage = 0x80 | 0x08 | 0x04; // STORAGE, COPY_DST, COPY_SRC
    const buffer = device.createBuffer({ size: data.byteLength, usage });
    device.queue.writeBuffer(buffer, 0, data as Float32Array<ArrayBuffer>);
    return buffer;
  });
  const feeds = Object.fromEntries(
    buffers.map((buffer, i) => [
      `x${i}`,
      ort.Tensor.fromGpuBuffer(buffer as never, { dataType: 'float32', dims: inputs[i].shape }),
    ]),
  );
  const compute = async () => Object.values(await session.run(feeds))[0];
  return {
    run: async () => (await compute()).dispose(),
    finish: () => device.queue.onSubmittedWorkDone() as Promise<never>,
    read: async () => {
      const tensor = await compute();
      const data = (await tensor.getData(true)) as Float32Array;
      return isImages(c) ? permuted({ shape: [...tensor.dims], data }, [0, 2, 3, 1]).data : data;
    },
    dispose: () => {
      void session.release();
      buffers.forEach((buffer) => buffer.destroy());
    },
  };
});
