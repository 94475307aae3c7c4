import { UserError } from '../errors.js';
import { isLora } from '../checkpoint/lora.js';
import type { SafetensorsFile, StreamedTensor } from '../checkpoint/safetensors.js';
import type { Profile } from '../gpu/profile.js';
import { bytesPerElement, TensorStorage, type DType, type Filler } from '../gpu/storage.js';
import type { InputShapes } from '../models/backbone.js';
import { autoguided, weakPrefix } from '../models/autoguided.js';
import { buildModel, fitArchitecture } from '../models/index.js';
import type { Model } from '../models/model.js';
import { sameShape, sizeOf, type Shape } from '../tensor/shape.js';
import type { Wanted } from '../checkpoint/pytorch/file.js';
import { below, isKin, prefixesOf } from '../nn/near-miss.js';
import { ParameterLayout, type Page, type Parameter, type Parameters } from '../nn/parameters.js';
import { joinedWeights, type Weights } from '../nn/weights.js';
import {
  adapterKey,
  fileDescription,
  metadataKey,
  parseDescription,
  parseJson,
  type Description,
} from './description.js';

/**
 * A backbone with its weights and what they mean. The weights are read a tensor at a time when a device wants them, so a
 * network takes no memory by itself.
 */
export interface Network {
  description: Description;
  model: Model;
  layout: ParameterLayout;
  weights: Weights;
  /** The options of the scheduler beside it in a folder, for samplers that take its timesteps. */
  scheduler?: Readonly<Record<string, unknown>>;
}

/**
 * Any model as a network, with the weights that are given (`fileWeights` has those of a file, `layout.weightsOf` those of
 * an arena in memory) or, by a seed, those of its initialisers.
 * @param description what its output means; its architecture is what files of it will say
 * @throws UserError where source and samples do not fit, or there are more weights than any machine holds
 */
export function networkOf(model: Model, description: Description, weights: number | Weights): Network {
  checkSource(description, model.sampleShape);
  const layout = new ParameterLayout(model.parameters);
  layout.checkSize();
  return { description, model, layout, weights: typeof weights === 'number' ? layout.drawn(weights) : weights };
}

/**
 * The weights of an opened file, which keeps them: each tensor is read when it is asked for.
 * @param layout of what the file holds
 * @throws UserError where the file holds something else, by its header alone, or numbers that are none in f32
 */
export async function fileWeights(file: SafetensorsFile, layout: ParameterLayout): Promise<Weights> {
  layout.check(file.tensors, file.name);
  const held = layout.parameters.filter(({ name }) => file.tensors.has(name));
  const dtypeOf = (name: string) => file.tensors.get(name)!.dtype;
  // Of other types not every number is one in f32: that is told now, not when a device wants them.
  for (const { name } of held) if (!alwaysFloats.has(dtypeOf(name))) await file.readF32(name);
  const half = held.every(({ name }) => dtypeOf(name) === 'F16');
  const own: Weights = { dtype: half ? 'f16' : 'f32', read: (name) => file.readF32(name) };
  if (held.length === layout.parameters.length) return own;
  return joinedWeights(own, (name) => file.tensors.has(name), layout.drawn(0));
}

const alwaysFloats = new Set(['F32', 'F16', 'BF16']);

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
  // Of one layout: what is on a device already stays shared.
  const { layout, scheduler } = network;
  return { ...networkOf(modelOf(fitted, false), fitted, network.weights), layout, ...(scheduler && { scheduler }) };
}

/** The same network, whose backward pass computes each block anew. */
export const checkpointed = (network: Network): Network => ({
  ...network,
  model: modelOf(network.description, true),
});

/** The model that a description describes. */
function modelOf(description: Description, checkpointBlocks: boolean): Model {
  const { role, guidance, architecture, jumpRank, autoguidance } = description;
  const guided = guidance !== undefined && guidance.from < guidance.to;
  const model = buildModel(architecture, { twoTime: role === 'flow-map', checkpointBlocks, guided, jumpRank });
  return autoguidance === undefined ? model : autoguided(model, autoguidance);
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
 * How a state dict holds the tensors of a description's network: what their names begin with, as wrappers leave it
 * (`module.`, `ema_model.module.`), and what else is there that has nothing to do with it, such as a projector, counters or
 * another network. Null where it does not hold them.
 * @throws UserError where several sets of names fit, such as raw weights beside their average
 */
export function fitFor(description: Description): NonNullable<Wanted['fit']> {
  const { parameters } = new ParameterLayout(modelOf(description, false).parameters);
  const known = new Set(parameters.map(({ name }) => name));
  return (tensors, file, only) => {
    const fitting = prefixesOf(parameters, tensors.keys())
      .filter((prefix) => only === undefined || prefix === only)
      .filter((prefix) => {
        const inside = below(tensors, prefix);
        const whole = parameters.every(({ name, shape }) => sameShape(inside.get(name)?.shape ?? [], shape));
        return whole && ![...inside.keys()].some((name) => !known.has(name) && isKin(name, parameters));
      });
    if (fitting.length > 1)
      throw new UserError(
        `${file} holds several sets of weights that fit, whose names begin with ${fitting.map((prefix) => `"${prefix}"`).join(' and ')}: choose one (${fitting.map((prefix) => prefix.slice(0, -1) || '.').join(' or ')})`,
        'weights',
      );
    const [prefix] = fitting;
    if (prefix === undefined) return null;
    const extra = [...tensors.keys()].filter(
      (name) => !name.startsWith(prefix) || !known.has(name.slice(prefix.length)),
    );
    return { prefix, extra };
  };
}

/**
 * Reads a network from an opened file.
 * @param description what the file means, where it does not say so itself
 * @throws UserError when nothing describes the file, or it does not fit its description
 */
export async function loadNetwork(file: SafetensorsFile, description?: Description): Promise<Network> {
  const own = file.metadata[metadataKey];
  if (own === undefined && (adapterKey in file.metadata || (!description && isLora(file))))
    throw new UserError(
      `${file.name} is an adapter, not a network: fold it into its network with \`semiflow merge --model NETWORK --lora ${file.name} --out FILE\``,
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
  const weights = await fileWeights(file, new ParameterLayout(model.parameters));
  return saidOf(file.name, () => networkOf(model, chosen, weights));
}

/** What is wrong with a description, said of the file that carries it. */
export function saidOf<T>(origin: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw error instanceof UserError ? new UserError(`${origin}: ${error.message}`, error.field) : error;
  }
}

/** What is written to a file of weights. */
export interface WeightsFile {
  tensors: Record<string, StreamedTensor>;
  metadata: Record<string, string>;
}

/** Tensors and metadata of a network, for `streamSafetensors`. */
export function exportNetwork({ layout, weights, description }: Network): WeightsFile {
  return {
    tensors: tensorsOf(layout, weights),
    metadata: { [metadataKey]: JSON.stringify(fileDescription(description)) },
  };
}

/** Weights as tensors of a file, each read when it is written. */
export function tensorsOf({ parameters }: ParameterLayout, weights: Weights): WeightsFile['tensors'] {
  const entry = ({ name, shape }: Parameter): [string, StreamedTensor] => [
    name,
    {
      dtype: 'F32',
      shape,
      parts: async function* () {
        yield await weights.read(name);
      },
    },
  ];
  return Object.fromEntries(parameters.map(entry));
}

/**
 * A teacher that is led away from a weaker one of its kind, such as its own earlier weights, wherever it is asked.
 * @param scale 1 is the teacher as it is
 * @throws UserError where the two are not of one kind
 */
export function autoguidedNetwork(strong: Network, weak: Network, scale: number): Network {
  const [own, other] = [strong, weak].map(({ description }) => {
    const { role, architecture, prediction, path, time, timeScale, minimumTime, autoguidance } = description;
    return { role, architecture, prediction, path, time, timeScale, minimumTime, autoguidance };
  });
  const differing = (Object.keys(own) as (keyof typeof own)[]).find(
    (key) => JSON.stringify(own[key]) !== JSON.stringify(other[key]),
  );
  if (differing)
    throw new UserError(`the weaker network must be one of the same kind, and its ${differing} is another`, 'weak');
  if (own.role !== 'teacher' || own.autoguidance !== undefined)
    throw new UserError('it is teachers that are led away from weaker ones, and each once', 'model');
  const description = { ...strong.description, autoguidance: scale };
  const weights = joinedWeights(
    { dtype: 'f32', read: (name) => weak.weights.read(name.slice(weakPrefix.length)) },
    (name) => name.startsWith(weakPrefix),
    strong.weights,
  );
  return networkOf(modelOf(description, false), description, weights);
}

/**
 * The two-time student of a teacher: the same backbone with a second time input whose last layer is zero,
 * all else copied, so that at the start u(x, t, s) = v(x, t) exactly, of an autoguided teacher the velocity of the stronger
 * network.
 * @param description the student's, which may add to the teacher's how it is sampled and guided
 */
export function studentOf(
  teacher: Network,
  description: Description = { ...teacher.description, role: 'flow-map', autoguidance: undefined },
  seed = 0,
  checkpointBlocks = false,
): Network {
  const model = modelOf(description, checkpointBlocks);
  const student = networkOf(model, description, seed);
  // Of an autoguided teacher the stronger network.
  const away = teacher.description.autoguidance !== undefined;
  const copied = new Map(
    [...parametersByName(teacher.layout)].filter(([name]) => !(away && name.startsWith(weakPrefix))),
  );
  student.layout.check(copied, 'the teacher', model.studentParameters);
  const own = new Set(teacher.layout.parameters.map(({ name }) => name));
  return { ...student, weights: joinedWeights(teacher.weights, (name) => own.has(name), student.weights) };
}

/** The parameters of a layout as `ParameterLayout.check` wants those of a file. */
export const parametersByName = ({ parameters }: ParameterLayout) =>
  new Map(parameters.map((parameter) => [parameter.name, parameter]));

/** Bytes that every adapter binds (WebGPU's least): the pages of weights that are read only have no more. */
const pageBytes = 2 ** 27;

/**
 * A network's weights as fixed storages: whatever reads them on a device shares one copy there, which is filled tensor by
 * tensor and goes with the last program that reads it.
 * @param name for messages
 * @param precision f16 rounds; in f32, weights of a file in half stay half where the adapter knows it
 */
export function bindNetwork(
  { layout, weights }: Pick<Network, 'layout' | 'weights'>,
  name: string,
  { f16 }: Pick<Profile, 'f16'>,
  precision: 'f32' | 'f16' = 'f32',
): Parameters {
  const dtype = f16 ? (precision === 'f16' ? 'f16' : weights.dtype) : 'f32';
  const known = bound.get(weights)?.find((other) => other.layout === layout && other.dtype === dtype);
  if (known) return known.parameters;
  const pages = layout.pages(pageBytes / bytesPerElement[dtype]).map((span): Page => {
    const filler: Filler = (write) => layout.fill(weights, span, write);
    return { ...span, storage: new TensorStorage(name, dtype, span.end - span.start, filler, true) };
  });
  const parameters = layout.bind(pages);
  bound.set(weights, [...(bound.get(weights) ?? []), { layout, dtype, parameters }]);
  return parameters;
}

/** What was bound before, to be shared. */
const bound = new WeakMap<Weights, readonly { layout: ParameterLayout; dtype: DType; parameters: Parameters }[]>();
