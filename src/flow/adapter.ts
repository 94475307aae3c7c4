import type { SafetensorsFile } from '../checkpoint/safetensors.js';
import { UserError } from '../errors.js';
import { adaptedParameters, loraParameters, mergeLora, type LoraOptions } from '../nn/lora.js';
import { ParameterLayout, type Parameters } from '../nn/parameters.js';
import { adapterKey, parseDescription, type Description } from './description.js';
import { readState, studentOf, tensorsOf, type Network, type WeightsFile } from './network.js';

/** A low-rank adapter over a fixed network. */
export interface Adapter {
  layout: ParameterLayout;
  /** Its weights at the start. */
  arena: Float32Array;
  /** The network's parameters, from the fixed ones and those of the adapter. */
  adapt(base: Parameters, adapter: Parameters): Parameters;
  /** The network's weights with the adapter's folded in. */
  merge(arena: Float32Array): Float32Array;
}

/** A fresh adapter for a network; what a student has beyond its teacher is trained in full. */
export function adapterOf({ model, layout: whole, arena: base }: Network, lora: LoraOptions, seed: number): Adapter {
  const { parameters, adapted, studentParameters } = model;
  const layout = new ParameterLayout(loraParameters(parameters, adapted, studentParameters, lora.rank));
  return {
    layout,
    arena: layout.initialize(seed),
    adapt: (fixed, trained) => adaptedParameters(fixed, trained, parameters, adapted, studentParameters, lora),
    merge: (arena) => whole.load(mergeLora(whole.unpack(base), layout.unpack(arena), lora), 'the adapter'),
  };
}

/** Tensors and metadata of an adapter, to be written as safetensors. */
export function adapterFile(
  { description }: Network,
  { layout }: Adapter,
  lora: LoraOptions,
  arena: Float32Array,
): WeightsFile {
  return { tensors: tensorsOf(layout, arena), metadata: { [adapterKey]: JSON.stringify({ ...lora, description }) } };
}

/**
 * What an adapter's file says of itself; null for other files.
 * @throws UserError where it cannot be understood
 */
export function adapterOptions({
  metadata,
  name,
}: SafetensorsFile): (LoraOptions & { description: Description }) | null {
  const text = metadata[adapterKey];
  if (text === undefined) return null;
  const { rank, alpha, description } = JSON.parse(text) as LoraOptions & { description: unknown };
  if (!(rank > 0 && alpha > 0))
    throw new UserError(`${name}: its adapter has rank ${rank} and alpha ${alpha}: it is damaged`);
  return { rank, alpha, description: parseDescription(description, name) };
}

/**
 * The student that a teacher and its adapter make.
 * @throws UserError where the file is no adapter, or not of this teacher
 */
export async function mergeAdapter(teacher: Network, file: SafetensorsFile): Promise<Network> {
  const options = adapterOptions(file);
  if (!options) throw new UserError(`${file.name} is no adapter: those are made by \`semiflow train --lora-rank\``);
  const student = studentOf(teacher, options.description, 0);
  const adapter = adapterOf(student, options, 0);
  return { ...student, arena: adapter.merge(adapter.layout.load(await readState(file), file.name)) };
}
