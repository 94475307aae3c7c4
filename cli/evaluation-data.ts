import type { Dataset } from '../src/data/dataset.js';
import { distributions } from '../src/data/distributions.js';
import { loadDataset } from '../node/data.js';
import { UserError } from '../src/errors.js';
import type { Network } from '../src/flow/network.js';
import { sameShape } from '../src/tensor/shape.js';

/** The data to judge by: what the user gave, or the named set that the teacher was trained on; null where there is none. */
export async function evaluationDataset(teacher: Network, given?: string): Promise<Dataset | null> {
  const { data: named, dataRange } = teacher.description;
  const spec = given ?? (named && Object.hasOwn(distributions, named) ? named : undefined);
  if (!spec) return null;
  const data = await loadDataset(spec, { range: dataRange });
  if (!sameShape(data.shape, teacher.model.sampleShape)) {
    throw new UserError(
      `${spec} holds samples of shape [${data.shape}], the teacher makes [${teacher.model.sampleShape}]`,
      'data',
    );
  }
  return data;
}
