import { parse } from 'yaml';
import { blobSource, loadNetwork, parseDescription, UserError } from '../../index.js';
import { openWeights } from '../../src/checkpoint/weights.js';
import { isClassifier } from '../../src/features/classifier-file.js';
import { excessOf } from '../../src/files/yaml-bounds.js';
import { adapterKey, metadataKey, type Description } from '../../src/flow/description.js';
import { fitFor } from '../../src/flow/network.js';
import { missingSummary, networkSummary, storageSummary, tensorSummary } from '../../src/flow/summary.js';
import { nounOf } from '../../trainers/evaluation/words.js';
import type { Opened } from '../protocol.js';
import { memberName, type Models } from './models.js';

/**
 * What a file is, read by ranges; a network in it becomes one that all parts can choose.
 * @param description YAML that says what weights mean which do not say it themselves
 * @throws UserError where the file is none of weights, or does not fit its description
 */
export async function open(models: Models, file: File, description: File | null): Promise<Opened> {
  const described = description ? await descriptionIn(description) : undefined;
  const weights = await openWeights(blobSource(file), described ? { fit: fitFor(described) } : {});
  const known = { tensors: [], missing: [], families: models.families };
  if (!described && weights.metadata[metadataKey] === undefined) {
    const stored = [['tensors', `${weights.tensors.size}, ${storageSummary(weights)}`]] as const;
    if (isClassifier(weights)) return { ...known, title: 'a classifier, whose features judge samples', lines: stored };
    if (adapterKey in weights.metadata)
      return {
        ...known,
        title: 'a low-rank adapter',
        lines: stored,
        missing: [['its teacher', 'fold it in with `semiflow merge`, and drop what comes of it']],
      };
    const tensors = tensorSummary(weights.tensors);
    return {
      ...known,
      title: 'weights that do not say what they are',
      lines: stored,
      tensors,
      missing: missingSummary,
    };
  }
  const network = await loadNetwork(weights, described);
  const { role } = network.description;
  const { model } = network;
  const lines = [...networkSummary(weights, network), ...(weights.notes ?? []).map((note) => ['note', note] as const)];
  const needed = Object.entries(model.conditions).filter(([, { optional }]) => !optional);
  const title = role === 'teacher' ? 'a teacher, v(x, t)' : `a ${nounOf(network)}, f(x, t, s)`;
  if (needed.length)
    return { ...known, title, lines, missing: needed.map(([name]) => [name, 'it is told this of each sample']) };
  models.add('opened', file.name, new Map([[memberName(network), network]]));
  return { ...known, title, lines, families: models.families };
}

/** @throws UserError where the text is no description */
async function descriptionIn(file: File): Promise<Description> {
  const text = await file.text();
  const excess = excessOf(text);
  if (excess) throw new UserError(`${file.name}: ${excess}; mend it`);
  let tree: unknown;
  try {
    tree = parse(text);
  } catch (error) {
    throw new UserError(`${file.name}: ${(error as Error).message.split('\n')[0]}`);
  }
  return parseDescription(tree, file.name);
}
