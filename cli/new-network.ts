import type { Dataset } from '../src/data/dataset.js';
import { UserError } from '../src/errors.js';
import { parseDescription, type Description } from '../src/flow/description.js';
import { parseYaml } from './config.js';
import { readText } from './networks.js';

/** What a user says of a network that is yet to be trained. */
export interface NewNetworkFlags {
  /** The architecture in full, as YAML. */
  arch?: string;
  /** A kind of network, of the default size for the data. */
  model?: string;
  /** What it is to predict, and on which path. */
  prediction?: string;
  path?: string;
}

const paths: Record<string, object> = {
  straight: { kind: 'straight' },
  'vp-linear': { kind: 'vp', schedule: 'linear' },
  'vp-cosine': { kind: 'vp', schedule: 'cosine' },
  'vp-scaled-linear': { kind: 'vp', schedule: 'scaled-linear' },
  ve: { kind: 've' },
};

/** Time inputs of levels up to 1000 are made small for networks whose embedding is of t itself. */
const levelScale = 1e-3;

/**
 * The description of a network to be trained on a data set.
 * @throws UserError naming the flag that does not fit
 */
export async function describeNetwork(
  { arch, model, prediction = 'velocity', path = 'straight' }: NewNetworkFlags,
  data: Dataset,
): Promise<Description> {
  if (!(path in paths)) throw new UserError(`--path ${path}: choose one of ${Object.keys(paths).join(', ')}`);
  const description = {
    architecture: arch ? parseYaml(await readText(arch), arch).tree : architectureFor(model, data),
    prediction,
    path: paths[path],
    ...(path.startsWith('vp') && !arch && { timeScale: levelScale }),
    data: data.name,
    ...(data.kind === 'images' && { dataRange: data.range }),
  };
  return parseDescription(description, arch ?? '--prediction and --path');
}

function architectureFor(model: string | undefined, data: Dataset): object {
  if (data.kind === 'points') {
    if (model && model !== 'mlp')
      throw new UserError(`${data.name} holds points: --model mlp is for them, not ${model}`);
    return { kind: 'mlp', dim: data.shape[0], width: 128, depth: 4, activation: 'silu', time: 'features' };
  }
  const [channels, size] = data.shape;
  const patchSize = size % 4 === 0 ? 4 : 1;
  if (!model || model === 'sit') {
    return {
      kind: 'sit',
      inputSize: size,
      patchSize,
      inChannels: channels,
      hiddenSize: 96,
      depth: 4,
      numHeads: 3,
      mlpRatio: 4,
      numClasses: data.classes,
      learnSigma: false,
    };
  }
  if (model === 'unet') {
    const halvings = [0, 1, 2].filter((level) => size % 2 ** level === 0);
    return {
      kind: 'unet',
      imageSize: size,
      inChannels: channels,
      modelChannels: 32,
      numResBlocks: 1,
      channelMult: halvings.map((level) => Math.min(2, level + 1)),
      attentionResolutions: [size / 2 ** (halvings.length - 1)],
      numHeads: 2,
      numClasses: data.classes,
    };
  }
  throw new UserError(`--model ${model} has no default for images: describe it with --arch, or use sit or unet`);
}
