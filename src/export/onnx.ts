import { UserError } from '../errors.js';
import { fileDescription, metadataKey } from '../flow/description.js';
import { averageVelocityOf, velocityOf, type Condition } from '../flow/field.js';
import type { Network } from '../flow/network.js';
import { checkGuidance, guidanceOf, isGuided } from '../flow/runner.js';
import { samplerEntry, strengthOf, type Sampler } from '../flow/samplers.js';
import { samplerOf, timesOf } from '../flow/sampling.js';
import { TensorStorage } from '../gpu/storage.js';
import type { Parameters } from '../nn/parameters.js';
import { permute } from '../ops/movement.js';
import { normal } from '../ops/random.js';
import { sizeOf, type Shape } from '../tensor/shape.js';
import { constant, fromStorage, tensor, type Tensor } from '../tensor/tensor.js';
import { version } from '../version.js';
import { checkWeights, encodeOnnx, type OnnxTensor, type OnnxValue } from './onnx-file.js';
import { onnxGraph, type Traced } from './onnx-graph.js';

/** What of a network is exported. */
export interface OnnxOptions {
  /**
   * Steps of a sampler, equal ones or falling times from 1 to where the path ends: noise goes in, samples come out. Without
   * them the network itself: x, t and s to f(x, t, s) of a flow map, x and t to v(x, t) of a teacher.
   */
  steps?: number | readonly number[];
  /** Default as `samplerOf` says. */
  sampler?: Sampler;
  /** Scale of classifier-free guidance, fixed in the file. */
  guidance?: number;
}

/** A network as an ONNX file: what goes in and comes out, for people, beside its bytes. */
export interface OnnxExport {
  bytes: Uint8Array;
  inputs: readonly OnnxValue[];
  output: OnnxValue;
}

/**
 * A network in ONNX's operations, with its weights under their public names and a batch of any size. Times are ours: 1 is
 * noise, 0 data, all of them [batch]; labels are whole numbers, of which the class after the last means none.
 * @throws UserError where a sampler draws fresh noise or chooses its own steps, or the weights do not fit one file
 */
export async function exportOnnx(network: Network, options: OnnxOptions = {}): Promise<OnnxExport> {
  const { model, description } = network;
  const { sampleShape } = model;
  const { guidance = guidanceOf(network), steps, sampler = samplerOf(network) } = options;
  checkGuidance(network, guidance);
  if (steps === undefined && options.sampler) throw new UserError('a sampler needs its steps', 'nfe');
  const jumps = steps === undefined && description.role === 'flow-map';
  const inputs: OnnxValue[] = [
    { name: 'x', type: 'f32', shape: sampleShape },
    ...(steps === undefined ? (jumps ? ['t', 's'] : ['t']) : []).map((name) => scalarInput(name, 'f32')),
    ...(model.classes ? [scalarInput('labels', 'i64')] : []),
    ...Object.entries(model.conditions).flatMap(([name, { shape }]): OnnxValue[] =>
      [name, ...(isGuided(network, guidance) ? [negativeOf(name)] : [])].map((said) => ({
        name: said,
        type: 'f32',
        shape,
      })),
    ),
  ];
  const trace = (batch: number) => traced(network, inputs, { steps, sampler, guidance }, batch);
  const graph = onnxGraph(trace, 'x');
  const output: OnnxValue = { name: 'y', type: 'f32', shape: sampleShape };
  const used = new Set(graph.nodes.flatMap((node) => node.inputs));
  checkWeights(4 * network.layout.count);
  const initializers: OnnxTensor[] = [];
  for (const { name, shape } of model.parameters)
    if (used.has(name)) initializers.push({ name, type: 'f32', shape, data: await network.weights.read(name) });
  const about =
    steps === undefined ? (jumps ? 'y = f(x, t, s)' : 'y = v(x, t)') : `noise x to samples y, ${sampler.name}`;
  return {
    bytes: encodeOnnx({
      nodes: [...graph.nodes, { op: 'Identity', inputs: [graph.output], output: output.name, attributes: {} }],
      initializers: [...initializers, ...graph.initializers],
      inputs,
      outputs: [output],
      producer: version,
      about,
      metadata: { [metadataKey]: JSON.stringify(fileDescription(description)) },
    }),
    inputs,
    output,
  };
}

/** The input of a condition that guidance leads away from. */
const negativeOf = (name: string) => `negative_${name}`;

const scalarInput = (name: string, type: 'f32' | 'i64'): OnnxValue => ({ name, type, shape: [] });

/** The graph for one size of the batch. */
function traced(
  { model, description }: Network,
  inputs: readonly OnnxValue[],
  { steps, sampler, guidance }: Required<Omit<OnnxOptions, 'steps'>> & Pick<OnnxOptions, 'steps'>,
  batch: number,
): Traced {
  const names = new Map<TensorStorage, string>();
  const given = (name: string, shape: Shape, dtype: 'f32' | 'u32' = 'f32'): Tensor => {
    const storage = new TensorStorage(name, dtype, sizeOf(shape));
    names.set(storage, name);
    return fromStorage(storage, shape);
  };
  const input = Object.fromEntries(
    inputs.map(({ name, type, shape }) => [name, given(name, [batch, ...shape], type === 'i64' ? 'u32' : 'f32')]),
  );
  const parameters = weightsByName(model.parameters, given);
  const scale = constant(guidance, [batch]);
  const { from, to } = description.guidance ?? { from: 1, to: 1 };
  const flowMap = description.role === 'flow-map';
  const told = Object.keys(model.conditions);
  const condition: Condition = {
    labels: input.labels,
    guidance: (flowMap && from < to) || isGuided({ description }, guidance) ? scale : undefined,
    conditions: Object.fromEntries(told.map((name) => [name, input[name]])),
    negative: Object.fromEntries(
      told.flatMap((name) => (input[negativeOf(name)] ? [[name, input[negativeOf(name)]]] : [])),
    ),
  };
  const average = averageVelocityOf(model, parameters, description, condition);
  const velocity = flowMap
    ? (x: Tensor, t: Tensor) => average(x, t, t)
    : velocityOf(model, parameters, description, condition);
  if (steps === undefined && !flowMap) return { output: velocity(input.x, input.t), names };
  const entry = samplerEntry(steps === undefined ? 'jump' : sampler.name);
  if (!entry.step)
    throw new UserError(
      `${sampler.name} ${entry.measured ? 'chooses its own steps: export one of fixed steps' : 'is computed outside of the network: export the network alone, or euler'}`,
      'sampler',
    );
  if (entry.jumps && !flowMap)
    throw new UserError(`${sampler.name} is for flow maps: a teacher is integrated, by euler for example`, 'sampler');
  const strength = strengthOf(steps === undefined ? { name: 'jump' } : sampler);
  const noise = normal(tensor(new Uint32Array(3)), 0, input.x.shape);
  const { step } = entry;
  const reach = (x: Tensor, t: Tensor, s: Tensor) =>
    step({ x, t, s, velocity, average, strength: constant(strength, [1]), noise });
  if (steps === undefined) return { output: reach(input.x, input.t, input.s), names };
  const times = timesOf(steps, description);
  const at = (time: number) => constant(time, [batch]);
  const output = times.slice(1).reduce((x, s, i) => reach(x, at(times[i]), at(s)), input.x);
  return { output, names };
}

/** Weights as files have them, moved to where a network wants them in memory. */
function weightsByName(
  parameters: Network['model']['parameters'],
  given: (name: string, shape: Shape) => Tensor,
): Parameters {
  const made = new Map(
    parameters.map(({ name, shape, order }) => {
      const weight = given(name, shape);
      return [name, order ? permute(weight, order) : weight];
    }),
  );
  return (name) => made.get(name)!;
}
