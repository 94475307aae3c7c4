import type { CompileOptions } from '../src/autodiff/compile.js';
import type { Device } from '../src/gpu/device.js';
import { UserError } from '../src/errors.js';
import { adapterFile, adapterOf } from '../src/flow/adapter.js';
import type { Description } from '../src/flow/description.js';
import {
  bindNetwork,
  createNetwork,
  exportNetwork,
  studentOf,
  type Network,
  type WeightsFile,
} from '../src/flow/network.js';
import { ParameterLayout } from '../src/nn/parameters.js';
import { SampleSource, type SampleSet } from './batches.js';
import { exportClassifier, type ClassifierNetwork } from '../src/features/classifier-file.js';
import { classificationLoss } from './classification.js';
import type { ClassificationConfig, DistillationConfig, TeacherConfig } from './config.js';
import { distillationLoss } from './distillation.js';
import { flowMatchingLoss } from './flow-matching.js';
import { checkRecipe, usedObjectives } from './methods.js';
import { Trainer, type TrainerOptions } from './trainer.js';
import { uncertaintyParameters } from './uncertainty.js';

type Progress = Pick<CompileOptions, 'onPlan' | 'onProgress'>;

/** A trainer with what it trains. */
export interface Training {
  trainer: Trainer;
  /** Number of weights that are trained. */
  trained: number;
  /** What is saved of it: the averaged weights of now, or the adapter alone where one is trained. */
  file(): Promise<WeightsFile>;
}

/** The training of a teacher or a flow map. */
export interface Run extends Training {
  /** The network as it was at the start. */
  network: Network;
  /** The network with the averaged weights of now. */
  now(): Promise<Network>;
}

function trainerOptions(config: TeacherConfig | DistillationConfig | ClassificationConfig): TrainerOptions {
  const { optimizer } = config;
  const distilling = 'epsilon' in config;
  return {
    steps: config.steps,
    seed: config.seed,
    rate: { peak: optimizer.rate, warmup: optimizer.warmup, finalShare: optimizer.finalShare },
    beta1: optimizer.beta1,
    beta2: optimizer.beta2,
    adamEpsilon: optimizer.epsilon,
    weightDecay: optimizer.weightDecay,
    clipNorm: optimizer.clipNorm,
    targetAverage: distilling ? config.ema.target : { law: 'decay', decay: 0, width: 0 },
    exportAverage: config.ema.export,
    precision: config.precision,
    epsilon: distilling ? config.epsilon : { kind: 'constant', from: 1, to: 1, until: 0 },
    tangentWarmup: distilling ? config.tangent.warmup : 0,
    reach: distilling ? config.reach : { from: 1, until: 0 },
  };
}

/** What a recipe's student is, given its teacher or the description of a network of one's own. */
export function studentDescription(base: Description, config: DistillationConfig): Description {
  const { guidance, times } = config;
  const used = usedObjectives(config);
  const sampler = used.length === 1 ? used[0].sampler : undefined;
  return {
    ...base,
    role: 'flow-map',
    ...(sampler && { sampler }),
    ...(times.forwardShare > 0 && { forward: true }),
    ...((guidance.from !== 1 || guidance.to !== 1) && { guidance }),
  };
}

/**
 * Sets up the training of a flow map.
 * @param from its teacher, or what the network is where the method learns from data alone
 */
export async function distil(
  device: Device,
  from: Network | Description,
  data: SampleSet,
  config: DistillationConfig,
  progress?: Progress,
): Promise<Run> {
  const teacher = 'arena' in from ? from : null;
  checkRecipe(config, teacher !== null);
  const description = studentDescription('arena' in from ? from.description : from, config);
  const { seed, checkpointBlocks, student: start } = config;
  const network =
    teacher && start.init === 'teacher'
      ? studentOf(teacher, description, seed, checkpointBlocks)
      : createNetwork(description, seed, checkpointBlocks);
  if (description.guidance && !network.model.nullClass)
    throw new UserError('--guidance needs a network that knows classes and none: this one has no row for none');
  const source = new SampleSource(data);
  const create = (layout: ParameterLayout, arena: Float32Array, loss: ReturnType<typeof distillationLoss>) =>
    Trainer.create(device, layout, arena, loss, trainerOptions(config), progress);

  if (start.loraRank) {
    const lora = { rank: start.loraRank, alpha: start.loraAlpha };
    const base = bindNetwork(network, 'base', { precision: config.precision, fixed: true }).parameters;
    const adapter = adapterOf(network, lora, seed);
    const loss = distillationLoss(teacher, network, source, config, (trained) => adapter.adapt(base, trained));
    const trainer = await create(adapter.layout, adapter.arena, loss);
    return {
      network,
      trainer,
      trained: adapter.layout.count,
      now: async () => ({ ...network, arena: adapter.merge(await trainer.exported()) }),
      file: async () => adapterFile(network, adapter, lora, await trainer.exported()),
    };
  }
  // The network's parameters come first, so that its own layout reads them from the longer arena.
  const extra = config.weighting.kind === 'uncertainty' ? uncertaintyParameters : [];
  const layout = extra.length ? new ParameterLayout([...network.model.parameters, ...extra]) : network.layout;
  const arena = extra.length ? layout.initialize(seed) : network.arena;
  arena.set(network.arena);
  return wholeRun(network, await create(layout, arena, distillationLoss(teacher, network, source, config)));
}

/** Sets up the training of a teacher on data. */
export async function trainTeacher(
  device: Device,
  network: Network,
  data: SampleSet,
  config: TeacherConfig,
  progress?: Progress,
): Promise<Run> {
  const loss = flowMatchingLoss(network, new SampleSource(data), config);
  return wholeRun(
    network,
    await Trainer.create(device, network.layout, network.arena, loss, trainerOptions(config), progress),
  );
}

/** A run that trains all of a network's weights. */
function wholeRun(network: Network, trainer: Trainer): Run {
  const now = async () => ({ ...network, arena: (await trainer.exported()).subarray(0, network.layout.length) });
  return { network, trainer, trained: network.layout.count, now, file: async () => exportNetwork(await now()) };
}

/** Sets up the training of a classifier, whose features judge samples. */
export async function trainClassifier(
  device: Device,
  network: ClassifierNetwork,
  data: SampleSet,
  config: ClassificationConfig,
  progress?: Progress,
): Promise<Training & { now(): Promise<ClassifierNetwork> }> {
  const loss = classificationLoss(network, data, config.batch);
  const trainer = await Trainer.create(device, network.layout, network.arena, loss, trainerOptions(config), progress);
  const now = async () => ({ ...network, arena: await trainer.exported() });
  return { trainer, trained: network.layout.count, now, file: async () => exportClassifier(await now()) };
}
