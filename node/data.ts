import { UserError } from '../src/errors.js';
import type { Dataset, LoadOptions } from '../src/data/dataset.js';
import { datasetNames, namedDataset } from '../src/data/named.js';
import { readDataset } from '../src/data/read.js';
import { filesAt } from './folder.js';

/**
 * A data set by its name, or by the path of a file or folder; docs/data.md lists the kinds.
 * @throws UserError in one line: no such set or file, or a file that is not what its name or header claims
 */
export async function loadDataset(spec: string, options: LoadOptions = {}): Promise<Dataset> {
  const named = namedDataset(spec, options);
  if (named) return named;
  const files = await filesAt(spec);
  if (!files)
    throw new UserError(
      `${spec}: no data set has this name and there is no such file; names are ${datasetNames.join(', ')}`,
      'data',
    );
  return readDataset(files, options);
}
