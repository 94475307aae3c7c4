import { UserError } from '../errors.js';
import type { SafetensorsFile } from '../checkpoint/safetensors.js';
import { TensorStorage } from '../gpu/storage.js';
import type { InputShapes } from '../models/backbone.js';
import { buildModel, fitArchitecture } from '../models/index.js';
import type { Model } from '../models/model.js';
import { sameShape, sizeOf, type Shape } from '../tensor/shape.js';
import { ParameterLayout, type Parameters, type State } from '../nn/parameters.js';
import {
  adapterKey,
  fileDescription,
  metadataKey,
  parseDescription,
  parseJson,
  type Description,
} from './description.js';

/** A backbone with its weights and what they mean. */
export interface Network {
  description: Description;
  model: Model;
  layout: ParameterLayout;
  /** Weights by `layout`. */
  arena: Float32Array;
}

/**
 * Any model as a network, with the weights that are given or those of its initialisers.
 * @param description what its output means; its architecture is what files of it will say
 * @throws UserError where source and samples do not fit, or there are more weights than can be held
 */
export function networkOf(model: Model, description: Description, weights: number | Float32Array): Network {
  checkSource(description, model.sampleShape);
  const layout = new ParameterLayout(model.parameters);
  return {
    description,
    model,
    layout,
    arena: typeof weights === 'number' ? layout.initialize(weights) : weights,
  };
}

/**
 * A network with weights by their initialisers.
 * @param checkpointBlocks whether its backward pass computes each block anew, to save memory
 * @throws UserError naming what of the description cannot work
 */
export const createNetwork = (description: Description, seed: number, checkpointBlocks = false): Network =>
  networkOf(modelOf(description, checkpointBlocks), description, seed);

/**
 * A network as it takes samples and conditions of those shapes, with the same weights, where its backbone can; else as it
 * is, and whoever compares shapes will refuse it.
 */
export function fitNetwork(network: Network, shapes: InputShapes): Network {
  const { model, description } = network;
  const told = Object.entries(shapes.conditions ?? {}).filter(([name]) => Object.hasOwn(model.conditions, name));
  if (
    sameShape(model.sampleShape, shapes.sample) &&
    told.every(([name, shape]) => sameShape(model.conditions[name].shape, shape))
  )
    return network;
  const architecture = fitArchitecture(description.architecture, shapes);
  if (!architecture) return network;
  const fitted = { ...description, architecture };
  return networkOf(modelOf(fitted, false), fitted, network.arena);
}

/** The model that a description describes. */
function modelOf({ role, guidance, architecture }: Description, checkpointBlocks: boolean): Model {
  const guided = guidance !== undefined && guidance.from < guidance.to;
  return buildModel(architecture, { twoTime: role === 'flow-map', checkpointBlocks, guided });
}

/** @throws UserError where a mixture's centres are not places of samples */
function checkSource({ source }: Description, shape: Shape): void {
  if (source.kind === 'normal') return;
  const wrong = source.centers.find((center) => center.length !== sizeOf(shape));
  if (wrong)
    throw new UserError(
      `source.centers: a centre has ${wrong.length} coordinates, samples of shape [${shape}] have ${sizeOf(shape)}`,
      'source',
    );
}

/**
 * A test of what the names of a state dict begin with beyond those of a description's network, as wrappers leave them
 * (`module.`, `ema_model.module.`): empty where they fit as they are, null where they fit in no way.
 */
export function prefixFor(
  description: Description,
): (tensors: ReadonlyMap<string, { readonly shape: Shape }>) => string | null {
  const layout = new ParameterLayout(modelOf(description, false).parameters);
  const [{ name: first }] = layout.parameters;
  return (tensors) => {
    const ending = [...tensors.keys()].find((name) => name === first || name.endsWith(`.${first}`));
    const prefix = ending?.slice(0, ending.length - first.length);
    if (prefix === undefined || ![...tensors.keys()].every((name) => name.startsWith(prefix))) return null;
    try {
      layout.check(new Map([...tensors].map(([name, entry]) => [name.slice(prefix.length), entry])), '');
      return prefix;
    } catch (error) {
      if (error instanceof UserError) return null;
      throw error;
    }
  };
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
  if (own === undefined && file.tensors.has('firstMoment') && file.tensors.has('secondMoment'))
    throw new UserError(
      `${file.name} is a run's state, from which it goes on, not weights: give the student.safetensors or teacher.safetensors beside it`,
    );
  const chosen =
    description ??
    (own === undefined ? undefined : parseDescription(parseJson(own, metadataKey, file.name), file.name));
  if (!chosen) {
    throw new UserError(`${file.name} does not say what it is: describe it with --arch FILE.yaml (docs/teachers.md)`);
  }
  const model = saidOf(file.name, () => modelOf(chosen, false));
  // What the description claims is compared with the header before anything of its size is made.
  new ParameterLayout(model.parameters).check(file.tensors, file.name);
  const network = saidOf(file.name, () => networkOf(model, chosen, noWeights));
  return { ...network, arena: network.layout.load(await readState(file), file.name) };
}

const noWeights = new Float32Array(0);

/** What is wrong with a description, said of the file that carries it. */
export function saidOf<T>(origin: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw error instanceof UserError ? new UserError(`${origin}: ${error.message}`, error.field) : error;
  }
}

/** All tensors of an opened file. */
export async function readState(file: SafetensorsFile): Promise<State> {
  return new Map(
    await Promise.all(
      [...file.tensors].map(async ([name, { shape }]) => [name, { shape, data: await file.readF32(name) }] as const),
    ),
  );
}

/** What is written to a file of weights. */
export interface WeightsFile {
  tensors: Record<string, { dtype: 'F32'; shape: readonly number[]; data: Float32Array }>;
  metadata: Record<string, string>;
}

/** Tensors and metadata of a network, to be written as safetensors. */
export function exportNetwork({ layout, arena, description }: Network): WeightsFile {
  return {
    tensors: tensorsOf(layout, arena),
    metadata: { [metadataKey]: JSON.stringify(fileDescription(description)) },
  };
}

/** An arena as tensors of a file. */
export function tensorsOf(layout: ParameterLayout, arena: Float32Array): WeightsFile['tensors'] {
  const entry = ([name, { shape, data }]: [string, { shape: Shape; data: Float32Array }]) =>
    [name, { dtype: 'F32' as const, shape, data }] as const;
  return Object.fromEntries([...layout.unpack(arena)].map(entry));
}

/**
 * The two-time student of a teacher: the same backbone with a second time input whose last layer is zero,
 * all else copied, so that at the start u(x, t, s) = v(x, t) exactly.
 * @param description the student's, which may add to the teacher's how it is sampled and guided
 */
export function studentOf(
  teacher: Network,
  description: Description = { ...teacher.description, role: 'flow-map' },
  seed = 0,
  checkpointBlocks = false,
): Network {
  const student = networkOf(modelOf(description, checkpointBlocks), description, noWeights);
  const { layout, model } = student;
  layout.check(parametersByName(teacher.layout), 'the teacher', model.studentParameters);
  const state = teacher.layout.unpack(teacher.arena);
  return { ...student, arena: layout.load(state, 'the teacher', { names: model.studentParameters, seed }) };
}

const parametersByName = ({ parameters }: ParameterLayout) =>
  new Map(parameters.map((parameter) => [parameter.name, parameter]));

/**
 * A network's weights in a storage of their own.
 * @param name for messages
 * @param options how it keeps them, and whether it is fixed: part of the programs that read it, with nothing to dispose of
 */
export function bindNetwork(
  network: Network,
  name: string,
  { precision = 'f32', fixed = false }: { precision?: 'f32' | 'f16'; fixed?: boolean } = {},
): { storage: TensorStorage; parameters: Parameters } {
  const storage = new TensorStorage(name, precision, network.layout.length, network.arena, fixed);
  return { storage, parameters: network.layout.bind(storage) };
}
