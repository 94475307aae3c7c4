import type { SafetensorsFile } from '../checkpoint/safetensors.js';
import { UserError } from '../errors.js';
import { saidOf, tensorsOf, type WeightsFile } from '../flow/network.js';
import { classifier, classifierSchema, type Classifier, type ClassifierConfig } from '../models/classifier.js';
import { ParameterLayout, type State } from '../nn/parameters.js';

/** A classifier with its weights. */
export interface ClassifierNetwork {
  config: ClassifierConfig;
  model: Classifier;
  layout: ParameterLayout;
  arena: Float32Array;
}

/** Metadata key under which a classifier's file carries its architecture as JSON. */
const classifierKey = 'semiflow-classifier';

/** A classifier with weights by their initialisers. */
export function createClassifier(config: ClassifierConfig, seed: number): ClassifierNetwork {
  const model = classifier(config);
  const layout = new ParameterLayout(model.parameters);
  return { config, model, layout, arena: layout.initialize(seed) };
}

/**
 * Reads a classifier from an opened file; counters of PyTorch's batch norms are passed over.
 * @param config what the file is, where it does not say so itself
 * @throws UserError when nothing describes the file, or it does not fit its description
 */
export async function loadClassifier(file: SafetensorsFile, config?: ClassifierConfig): Promise<ClassifierNetwork> {
  const chosen = config ?? ownConfig(file);
  const names = [...file.tensors.keys()].filter((name) => !name.endsWith('.num_batches_tracked'));
  const model = saidOf(file.name, () => classifier(chosen));
  const layout = new ParameterLayout(model.parameters);
  // What the description claims is compared with the header before anything of its size is made.
  layout.check(new Map(names.map((name) => [name, file.tensors.get(name)!])), file.name);
  const state: State = new Map(
    await Promise.all(
      names.map(
        async (name) => [name, { shape: file.tensors.get(name)!.shape, data: await file.readF32(name) }] as const,
      ),
    ),
  );
  return { config: chosen, model, layout, arena: layout.load(state, file.name) };
}

/** Whether a file says itself that it is a classifier. */
export const isClassifier = ({ metadata }: SafetensorsFile): boolean => classifierKey in metadata;

function ownConfig({ metadata, name }: SafetensorsFile): ClassifierConfig {
  const own = metadata[classifierKey];
  if (own === undefined)
    throw new UserError(`${name} does not say what classifier it is: describe it with --features-arch FILE.yaml`);
  try {
    return classifierSchema.parse(JSON.parse(own));
  } catch {
    throw new UserError(`${name}: its "${classifierKey}" metadata describes no classifier that semiflow knows`);
  }
}

/** Tensors and metadata of a classifier, to be written as safetensors. */
export function exportClassifier(
  { layout, arena, config }: ClassifierNetwork,
  about: Record<string, string> = {},
): WeightsFile {
  return { tensors: tensorsOf(layout, arena), metadata: { [classifierKey]: JSON.stringify(config), ...about } };
}
