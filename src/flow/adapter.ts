import * as z from 'zod';
import { openLora, withLoras, type PeftOptions } from '../checkpoint/lora.js';
import type { SafetensorsFile } from '../checkpoint/safetensors.js';
import { UserError } from '../errors.js';
import { issueText } from '../issue.js';
import type { Model } from '../models/model.js';
import { extent } from '../models/sides.js';
import { adaptedParameters, loraParameters, mergeLora, type LoraOptions } from '../nn/lora.js';
import { ParameterLayout, type Parameters } from '../nn/parameters.js';
import { adapterKey, fileDescription, parseDescription, parseJson, type Description } from './description.js';
import type { Weights } from '../nn/weights.js';
import { fileWeights, studentOf, tensorsOf, type Network, type WeightsFile } from './network.js';

/** A low-rank adapter over a fixed network. */
export interface Adapter {
  layout: ParameterLayout;
  /** Its weights at the start. */
  weights: Weights;
  /** The network's parameters, from the fixed ones and those of the adapter. */
  adapt(base: Parameters, adapter: Parameters): Parameters;
  /** The network's weights with the adapter's folded in. */
  merge(adapter: Weights): Weights;
}

/** A fresh adapter for a network; what a student has beyond its teacher is trained in full. */
export function adapterOf({ model, weights: base }: Network, lora: LoraOptions, seed: number): Adapter {
  const { parameters, adapted, studentParameters } = model;
  const layout = adapterLayout(model, lora);
  return {
    layout,
    weights: layout.drawn(seed),
    adapt: (fixed, trained) => adaptedParameters(fixed, trained, parameters, adapted, studentParameters, lora),
    merge: (adapter) => mergeLora(base, adapter, parameters, adapted, studentParameters, lora),
  };
}

const adapterLayout = ({ parameters, adapted, studentParameters }: Model, { rank }: LoraOptions): ParameterLayout =>
  new ParameterLayout(loraParameters(parameters, adapted, studentParameters, rank));

/** Tensors and metadata of an adapter, for `streamSafetensors`. */
export function adapterFile(
  { description }: Network,
  { layout }: Adapter,
  lora: LoraOptions,
  weights: Weights,
): WeightsFile {
  return {
    tensors: tensorsOf(layout, weights),
    metadata: { [adapterKey]: JSON.stringify({ ...lora, description: fileDescription(description) }) },
  };
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
  const { rank, alpha, description } = parseAdapter(text, name);
  return { rank, alpha, description: parseDescription(description, name) };
}

const adapterSchema = z.object({ rank: extent, alpha: z.number().positive(), description: z.unknown() });

function parseAdapter(text: string, origin: string): z.infer<typeof adapterSchema> {
  const result = adapterSchema.safeParse(parseJson(text, adapterKey, origin));
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new UserError(
    `${origin}: its "${adapterKey}" metadata is damaged: ${issue.path.join('.') || 'all of it'}: ${issueText(issue)}`,
  );
}

/** An adapter's file, and how strongly it is applied: 1 is as it was trained. */
export interface ChosenAdapter {
  readonly file: SafetensorsFile;
  readonly scale: number;
  /** PEFT's adapter_config.json, where one lies beside the file. */
  readonly options?: PeftOptions;
}

/**
 * A network with adapters folded in, one after the other: those of others change its weights, and one that was distilled
 * here makes the teacher its student. Weights change when they are read, a tensor at a time.
 * @returns also what was done, a phrase an adapter
 * @throws UserError where a file is no adapter, or not one of this network
 */
export async function withAdapters(
  network: Network,
  adapters: readonly ChosenAdapter[],
): Promise<{ network: Network; notes: readonly string[] }> {
  const notes: string[] = [];
  for (const { file, scale, options } of adapters) {
    const own = adapterOptions(file);
    if (own) {
      network = await distilled(network, file, own, scale);
      notes.push(`${file.name} makes the teacher its flow map`);
    } else {
      const lora = await openLora(file, options);
      const folded = withLoras(network.weights, network.layout.parameters, [{ lora, scale }]);
      network = { ...network, weights: folded.weights };
      notes.push(...folded.notes);
    }
  }
  return { network, notes };
}

/** The student that a teacher and the adapter of its distillation make. */
async function distilled(
  teacher: Network,
  file: SafetensorsFile,
  { description, ...lora }: LoraOptions & { description: Description },
  scale: number,
): Promise<Network> {
  const refuse = (what: string) => new UserError(`${file.name} ${what}`, 'lora');
  if (scale !== 1) throw refuse(`makes a flow map of a teacher, which no other scale than 1 does, such as ${scale}`);
  if (teacher.description.role !== 'teacher')
    throw refuse('makes a flow map of a teacher, and this network is one already');
  const student = studentOf(teacher, description, 0);
  // Compared with the header before anything of the rank that it claims is made.
  adapterLayout(student.model, lora).check(file.tensors, file.name);
  const adapter = adapterOf(student, lora, 0);
  return { ...student, weights: adapter.merge(await fileWeights(file, adapter.layout)) };
}
