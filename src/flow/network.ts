import { UserError } from '../errors.js';
import type { SafetensorsFile } from '../checkpoint/safetensors.js';
import { Storage } from '../gpu/storage.js';
import { buildModel } from '../models/index.js';
import type { Model } from '../models/model.js';
import { ParameterLayout, type Parameters, type State } from '../nn/parameters.js';
import { metadataKey, parseDescription, type Description } from './description.js';

/** A backbone with its weights and what they mean. */
export interface Network {
  description: Description;
  model: Model;
  layout: ParameterLayout;
  /** Weights by `layout`. */
  arena: Float32Array;
}

/**
 * A network with weights by their initialisers.
 * @param checkpointBlocks whether its backward pass computes each block anew, to save memory
 */
export function createNetwork(description: Description, seed: number, checkpointBlocks = false): Network {
  const twoTime = description.role === 'flow-map';
  const model = buildModel(description.architecture, { twoTime, checkpointBlocks });
  const layout = new ParameterLayout(model.parameters);
  return { description, model, layout, arena: layout.initialize(seed) };
}

/**
 * Reads a network from an opened file.
 * @param description what the file means, where it does not say so itself
 * @throws UserError when nothing describes the file, or it does not fit its description
 */
export async function loadNetwork(file: SafetensorsFile, description?: Description): Promise<Network> {
  const own = file.metadata[metadataKey];
  const chosen =
    description ?? (own === undefined ? undefined : parseDescription(parseJson(own, file.name), file.name));
  if (!chosen) {
    throw new UserError(`${file.name} does not say what it is: describe it with --arch FILE.yaml (docs/teachers.md)`);
  }
  const network = createNetwork(chosen, 0);
  const state: State = new Map(
    await Promise.all(
      [...file.tensors].map(async ([name, { shape }]) => [name, { shape, data: await file.readF32(name) }] as const),
    ),
  );
  return { ...network, arena: network.layout.load(state, file.name) };
}

function parseJson(text: string, origin: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UserError(`${origin}: its "${metadataKey}" metadata is not JSON: the file was not written by semiflow`);
  }
}

/** Tensors and metadata of a network, to be written as safetensors. `arena` defaults to its own weights. */
export function exportNetwork(network: Network, arena = network.arena, base = 0) {
  const tensors = Object.fromEntries(
    [...network.layout.unpack(arena, base)].map(([name, { shape, data }]) => [
      name,
      { dtype: 'F32' as const, shape: [...shape], data },
    ]),
  );
  return { tensors, metadata: { [metadataKey]: JSON.stringify(network.description) } };
}

/**
 * The two-time student of a teacher (DESIGN §1): the same backbone with a second time input whose last layer is zero,
 * all else copied, so that at the start u(x, t, s) = v(x, t) exactly.
 */
export function studentOf(teacher: Network, seed: number, checkpointBlocks = false): Network {
  const student = createNetwork({ ...teacher.description, role: 'flow-map' }, seed, checkpointBlocks);
  const state = teacher.layout.unpack(teacher.arena);
  const optional = { names: student.model.gapParameters, arena: student.arena };
  return { ...student, arena: student.layout.load(state, 'the teacher', optional) };
}

/** A network's weights in a storage of their own. */
export function bindNetwork(
  network: Network,
  name: string,
  precision: 'f32' | 'f16' = 'f32',
): { storage: Storage; parameters: Parameters } {
  const storage = new Storage(name, precision, network.layout.length, network.arena);
  return { storage, parameters: network.layout.bind(storage) };
}
