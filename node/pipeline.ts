import { UserError } from '../src/errors.js';
import type { ChosenAdapter } from '../src/flow/adapter.js';
import { openPipeline, type Pipeline } from '../src/pipelines/pipeline.js';
import { chosenAt } from './files.js';
import { filesAt } from './folder.js';

/**
 * The pipeline of a folder with all of its networks; `path#fp16` names a variant of their weights.
 * @param untrained whether its network is yet to be trained
 * @throws UserError where there is no such folder, or it lacks a part
 */
export async function pipelineAt(
  path: string,
  adapters: readonly ChosenAdapter[] = [],
  untrained = false,
): Promise<Pipeline> {
  const { path: place, chosen: variant } = await chosenAt(path);
  const files = await filesAt(place);
  if (!files) throw new UserError(`${place} is no folder: give one as diffusers saves a pipeline`, 'pipeline');
  return openPipeline(files, { variant, adapters, untrained });
}
