import { UserError } from '../errors.js';
import type { SafetensorsFile } from '../checkpoint/safetensors.js';
import { TensorStorage } from '../gpu/storage.js';
import { buildModel } from '../models/index.js';
import type { Model } from '../models/model.js';
import type { Shape } from '../tensor/shape.js';
import { ParameterLayout, type Parameters, type State } from '../nn/parameters.js';
import { adapterKey, metadataKey, parseDescription, type Description } from './description.js';

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
  const { role, guidance, architecture } = description;
  const guided = guidance !== undefined && guidance.from < guidance.to;
  const model = buildModel(architecture, { twoTime: role === 'flow-map', checkpointBlocks, guided });
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
  if (own === undefined && adapterKey in file.metadata)
    throw new UserError(
      `${file.name} is an adapter, not a network: fold it into its teacher with \`semiflow merge --model TEACHER --lora ${file.name} --out FILE\``,
    );
  const chosen =
    description ?? (own === undefined ? undefined : parseDescription(parseJson(own, file.name), file.name));
  if (!chosen) {
    throw new UserError(`${file.name} does not say what it is: describe it with --arch FILE.yaml (docs/teachers.md)`);
  }
  const network = createNetwork(chosen, 0);
  return { ...network, arena: network.layout.load(await readState(file), file.name) };
}

/** All tensors of an opened file. */
export async function readState(file: SafetensorsFile): Promise<State> {
  return new Map(
    await Promise.all(
      [...file.tensors].map(async ([name, { shape }]) => [name, { shape, data: await file.readF32(name) }] as const),
    ),
  );
}

function parseJson(text: string, origin: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UserError(`${origin}: its "${metadataKey}" metadata is not JSON: the file was not written by semiflow`);
  }
}

/** What is written to a file of weights. */
export interface WeightsFile {
  tensors: Record<string, { dtype: 'F32'; shape: readonly number[]; data: Float32Array }>;
  metadata: Record<string, string>;
}

/** Tensors and metadata of a network, to be written as safetensors. */
export function exportNetwork({ layout, arena, description }: Network): WeightsFile {
  return { tensors: tensorsOf(layout, arena), metadata: { [metadataKey]: JSON.stringify(description) } };
}

/** An arena as tensors of a file. */
export function tensorsOf(layout: ParameterLayout, arena: Float32Array): WeightsFile['tensors'] {
  const entry = ([name, { shape, data }]: [string, { shape: Shape; data: Float32Array }]) =>
    [name, { dtype: 'F32' as const, shape, data }] as const;
  return Object.fromEntries([...layout.unpack(arena)].map(entry));
}

/**
 * The two-time student of a teacher (DESIGN §1): the same backbone with a second time input whose last layer is zero,
 * all else copied, so that at the start u(x, t, s) = v(x, t) exactly.
 * @param description the student's, which may add to the teacher's how it is sampled and guided
 */
export function studentOf(
  teacher: Network,
  description: Description = { ...teacher.description, role: 'flow-map' },
  seed = 0,
  checkpointBlocks = false,
): Network {
  const student = createNetwork(description, seed, checkpointBlocks);
  const state = teacher.layout.unpack(teacher.arena);
  const optional = { names: student.model.studentParameters, arena: student.arena };
  return { ...student, arena: student.layout.load(state, 'the teacher', optional) };
}

/** A network's weights in a storage of their own. */
export function bindNetwork(
  network: Network,
  name: string,
  precision: 'f32' | 'f16' = 'f32',
): { storage: TensorStorage; parameters: Parameters } {
  const storage = new TensorStorage(name, precision, network.layout.length, network.arena);
  return { storage, parameters: network.layout.bind(storage) };
}
