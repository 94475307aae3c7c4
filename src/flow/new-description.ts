import type { Dataset } from '../data/dataset.js';
import { UserError } from '../errors.js';
import { defaultArchitecture } from '../models/index.js';
import { parseDescription, type Description } from './description.js';

/** Paths on which a network can be trained, by name. */
const paths = {
  straight: { kind: 'straight' },
  'vp-linear': { kind: 'vp', schedule: 'linear' },
  'vp-cosine': { kind: 'vp', schedule: 'cosine' },
  'vp-scaled-linear': { kind: 'vp', schedule: 'scaled-linear' },
  ve: { kind: 've' },
};

/** Time inputs of levels up to 1000 are made small for networks whose embedding is of t itself. */
const levelScale = 1e-3;

/** What is said of a network that is yet to be trained. */
export interface NewNetworkOptions {
  /** The backbone, of its default size for the data; by default the first that has one. */
  model?: string;
  /** What it is to predict. Default velocity. */
  prediction?: string;
  /** On which path, by name. Default straight. */
  path?: string;
  /** Keys of a description that are stated in full, the architecture among them: they come before all else. */
  stated?: { architecture: unknown };
  /** Where these come from, for messages. */
  origin?: string;
}

/**
 * The description of a network to be trained on a data set.
 * @throws UserError naming what does not fit
 */
export function newDescription(data: Dataset, options: NewNetworkOptions = {}): Description {
  const { model, prediction = 'velocity', path = 'straight', stated, origin = 'the new network' } = options;
  if (!Object.hasOwn(paths, path))
    throw new UserError(`${path}: choose one of ${Object.keys(paths).join(', ')}`, 'path');
  const description = {
    architecture: stated?.architecture ?? defaultArchitecture(data, model),
    prediction,
    path: paths[path as keyof typeof paths],
    ...(path.startsWith('vp') && !stated && { timeScale: levelScale }),
    data: data.name,
    ...(data.kind === 'images' && { dataRange: data.range }),
    ...stated,
  };
  return parseDescription(description, origin);
}
