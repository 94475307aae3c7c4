import type { SafetensorsFile } from '../checkpoint/safetensors.js';
import { UserError } from '../errors.js';
import { fileWeights, saidOf, tensorsOf, type WeightsFile } from '../flow/network.js';
import { classifier, classifierSchema, type Classifier, type ClassifierConfig } from '../models/classifier.js';
import { ParameterLayout } from '../nn/parameters.js';
import type { Weights } from '../nn/weights.js';

/** A classifier with its weights. */
export interface ClassifierNetwork {
  config: ClassifierConfig;
  model: Classifier;
  layout: ParameterLayout;
  weights: Weights;
}

/** Metadata key under which a classifier's file carries its architecture as JSON. */
const classifierKey = 'semiflow-classifier';

/** A classifier with weights by their initialisers. */
export function createClassifier(config: ClassifierConfig, seed: number): ClassifierNetwork {
  const model = classifier(config);
  const layout = new ParameterLayout(model.parameters);
  return { config, model, layout, weights: layout.drawn(seed) };
}

/**
 * Reads a classifier from an opened file; counters of PyTorch's batch norms are passed over.
 * @param config what the file is, where it does not say so itself
 * @throws UserError when nothing describes the file, or it does not fit its description
 */
export async function loadClassifier(file: SafetensorsFile, config?: ClassifierConfig): Promise<ClassifierNetwork> {
  const chosen = config ?? ownConfig(file);
  const named = [...file.tensors].filter(([name]) => !name.endsWith('.num_batches_tracked'));
  const model = saidOf(file.name, () => classifier(chosen));
  const layout = new ParameterLayout(model.parameters);
  const weights = await fileWeights({ ...file, tensors: new Map(named) }, layout);
  return { config: chosen, model, layout, weights };
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

/** Tensors and metadata of a classifier, for `streamSafetensors`. */
export function exportClassifier(
  { layout, weights, config }: ClassifierNetwork,
  about: Record<string, string> = {},
): WeightsFile {
  return { tensors: tensorsOf(layout, weights), metadata: { [classifierKey]: JSON.stringify(config), ...about } };
}
