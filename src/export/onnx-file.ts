import { PbfWriter } from 'pbf';
import { UserError } from '../errors.js';

/** The messages of ONNX (onnx.proto, IR version 8) that a network needs, as a file. */

/** Types of elements by ONNX's numbers: f32, i64 and bool. */
export const elementTypes = { f32: 1, i64: 7, bool: 9 } as const;
/** What a value of an ONNX graph is made of. */
export type ElementType = keyof typeof elementTypes;

/** A tensor that the file holds. */
export interface OnnxTensor {
  name: string;
  type: 'f32' | 'i64';
  shape: readonly number[];
  data: Float32Array | BigInt64Array;
}

/** One operation; attributes are whole numbers or lists of them. */
export interface OnnxNode {
  op: string;
  inputs: readonly string[];
  output: string;
  attributes: Readonly<Record<string, number | readonly number[]>>;
}

/** What goes in or out: the first axis is the batch, which is free. */
export interface OnnxValue {
  name: string;
  type: ElementType;
  /** Of one sample. */
  shape: readonly number[];
}

/** A graph with what is said of it. */
export interface OnnxModel {
  nodes: readonly OnnxNode[];
  initializers: readonly OnnxTensor[];
  inputs: readonly OnnxValue[];
  outputs: readonly OnnxValue[];
  producer: string;
  /** What it computes, for people. */
  about: string;
  metadata: Readonly<Record<string, string>>;
}

/** The version of ONNX's operations: the first of which every runtime of the last years has all that is used here. */
const opset = 17;
const irVersion = 8;

/** What protocol buffers hold in one message. */
const mostBytes = 2 ** 31 - 1;

/** @throws UserError where so many bytes of weights do not fit one file */
export function checkWeights(bytes: number): void {
  if (bytes > mostBytes - 2 ** 24)
    throw new UserError(
      `${(bytes / 2 ** 30).toFixed(1)} GiB of weights pass the 2 GiB that an ONNX file holds: export a state dict for PyTorch instead`,
      'to',
    );
}

/** @throws UserError as `checkWeights` */
export function encodeOnnx(model: OnnxModel): Uint8Array {
  const weights = model.initializers.reduce((sum, { data }) => sum + data.byteLength, 0);
  checkWeights(weights);
  const room = weights + model.initializers.length * 512 + model.nodes.length * 512 + 2 ** 16;
  const file = new PbfWriter(new Uint8Array(room));
  file.writeVarintField(1, irVersion);
  file.writeStringField(2, 'semiflow');
  file.writeStringField(3, model.producer);
  file.writeStringField(6, model.about);
  file.writeMessage(7, writeGraph, model);
  file.writeMessage(8, (version: number, out) => out.writeVarintField(2, version), opset);
  for (const pair of Object.entries(model.metadata)) file.writeMessage(14, writePair, pair);
  return file.finish();
}

function writeGraph({ nodes, initializers, inputs, outputs }: OnnxModel, out: PbfWriter): void {
  for (const node of nodes) out.writeMessage(1, writeNode, node);
  out.writeStringField(2, 'network');
  for (const tensor of initializers) out.writeMessage(5, writeTensor, tensor);
  for (const value of inputs) out.writeMessage(11, writeValue, value);
  for (const value of outputs) out.writeMessage(12, writeValue, value);
}

function writeNode({ op, inputs, output, attributes }: OnnxNode, out: PbfWriter): void {
  for (const input of inputs) out.writeStringField(1, input);
  out.writeStringField(2, output);
  out.writeStringField(3, output);
  out.writeStringField(4, op);
  for (const attribute of Object.entries(attributes)) out.writeMessage(5, writeAttribute, attribute);
}

function writeAttribute([name, value]: [string, number | readonly number[]], out: PbfWriter): void {
  out.writeStringField(1, name);
  if (typeof value === 'number') out.writeVarintField(3, value);
  else for (const item of value) out.writeVarintField(8, item);
  out.writeVarintField(20, typeof value === 'number' ? 2 : 7);
}

function writeTensor({ name, type, shape, data }: OnnxTensor, out: PbfWriter): void {
  for (const extent of shape) out.writeVarintField(1, extent);
  out.writeVarintField(2, elementTypes[type]);
  out.writeStringField(8, name);
  out.writeBytesField(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

function writeValue({ name, type, shape }: OnnxValue, out: PbfWriter): void {
  out.writeStringField(1, name);
  const dimension = (extent: number | string, pbf: PbfWriter) =>
    typeof extent === 'string' ? pbf.writeStringField(2, extent) : pbf.writeVarintField(1, extent);
  const dimensions = (extents: readonly (number | string)[], pbf: PbfWriter) => {
    for (const extent of extents) pbf.writeMessage(1, dimension, extent);
  };
  const tensor = (_: null, pbf: PbfWriter) => {
    pbf.writeVarintField(1, elementTypes[type]);
    pbf.writeMessage(2, dimensions, ['batch', ...shape]);
  };
  out.writeMessage(2, (_: null, pbf) => pbf.writeMessage(1, tensor, null), null);
}

function writePair([key, value]: [string, string], out: PbfWriter): void {
  out.writeStringField(1, key);
  out.writeStringField(2, value);
}
