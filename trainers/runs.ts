import type { CompileOptions } from '../src/autodiff/compile.js';
import type { Device } from '../src/gpu/device.js';
import { studentOf, type Network } from '../src/flow/network.js';
import { SampleSource, type SampleSet } from './batches.js';
import type { DistillationConfig, TeacherConfig } from './config.js';
import { distillationLoss } from './distillation.js';
import { flowMatchingLoss } from './flow-matching.js';
import { Trainer, type TrainerOptions } from './trainer.js';

type Progress = Pick<CompileOptions, 'onPlan' | 'onProgress'>;

/** A trainer with the network that it trains; its exported weights are that network's. */
export interface Run {
  network: Network;
  trainer: Trainer;
}

function trainerOptions(config: TeacherConfig | DistillationConfig): TrainerOptions {
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
    targetDecay: distilling ? config.ema.target : 0,
    exportDecay: config.ema.export,
    precision: config.precision,
    epsilon: distilling ? config.epsilon : { kind: 'constant', from: 1, to: 1, until: 0 },
  };
}

/** Sets up the distillation of a teacher into a flow map. */
export async function distil(
  device: Device,
  teacher: Network,
  data: SampleSet,
  config: DistillationConfig,
  progress?: Progress,
): Promise<Run> {
  const network = studentOf(teacher, config.seed, config.checkpointBlocks);
  const loss = distillationLoss(teacher, network, new SampleSource(data), {
    batch: config.batch,
    weights: config.lambda,
    times: config.times,
    solvers: { ...config.solver, semigroup: 'euler', diagonal: 'euler' },
    weighting: config.weighting,
    precision: config.precision,
    end: 0,
  });
  return {
    network,
    trainer: await Trainer.create(device, network.layout, network.arena, loss, trainerOptions(config), progress),
  };
}

/** Sets up the training of a rectified flow on data. */
export async function trainTeacher(
  device: Device,
  network: Network,
  data: SampleSet,
  config: TeacherConfig,
  progress?: Progress,
): Promise<Run> {
  const loss = flowMatchingLoss(network, new SampleSource(data), config);
  return {
    network,
    trainer: await Trainer.create(device, network.layout, network.arena, loss, trainerOptions(config), progress),
  };
}
