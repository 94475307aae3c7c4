import type { Knob } from './config.js';

/** Flags that training a teacher and distilling share. */
const shared: Knob[] = [
  { flag: 'steps', path: 'steps', help: 'optimizer steps' },
  { flag: 'batch', path: 'batch', help: 'samples a step' },
  { flag: 'seed', path: 'seed', help: 'seed of all random numbers' },
  {
    flag: 'precision',
    path: 'precision',
    help: 'f32, or f16: weights and activations stored in half, all sums in f32',
  },
  {
    flag: 'checkpoint-blocks',
    path: 'checkpointBlocks',
    help: 'less memory: compute blocks anew in the backward pass',
    boolean: true,
  },
  { flag: 'learning-rate', path: 'optimizer.rate', help: 'peak learning rate' },
  { flag: 'warmup', path: 'optimizer.warmup', help: 'steps of linear warm-up' },
  { flag: 'weight-decay', path: 'optimizer.weightDecay', help: 'decoupled weight decay' },
  { flag: 'clip-norm', path: 'optimizer.clipNorm', help: 'largest gradient norm' },
  { flag: 'ema', path: 'ema.export', help: 'decay of the exported weights' },
  { flag: 'times', path: 'times.kind', help: 'law of t (and s): uniform, logit-normal' },
  { flag: 'times-mean', path: 'times.mean', help: 'mean of the logit' },
  { flag: 'times-std', path: 'times.std', help: 'standard deviation of the logit' },
];

/** Every knob of a distillation recipe. */
export const distillationKnobs: Knob[] = [
  ...shared,
  { flag: 'lambda-lmd', path: 'lambda.lmd', help: 'weight of the Lagrangian objective' },
  { flag: 'lambda-emd', path: 'lambda.emd', help: 'weight of the Eulerian objective' },
  { flag: 'lambda-semigroup', path: 'lambda.semigroup', help: 'weight of explicit composition' },
  { flag: 'lambda-diagonal', path: 'lambda.diagonal', help: "weight of the teacher's velocity at s = t" },
  { flag: 'solver-lmd', path: 'solver.lmd', help: "teacher's step in LMD: euler, heun, rk4" },
  { flag: 'solver-emd', path: 'solver.emd', help: "teacher's step in EMD: euler, heun, rk4" },
  { flag: 'epsilon', path: 'epsilon.kind', help: 'law of ε: constant, anneal, uniform' },
  { flag: 'epsilon-from', path: 'epsilon.from', help: 'ε at the start of an annealing' },
  { flag: 'epsilon-to', path: 'epsilon.to', help: 'constant ε, or ε at the end' },
  { flag: 'epsilon-until', path: 'epsilon.until', help: 'share of the run that annealing takes' },
  { flag: 'end-share', path: 'times.endShare', help: 'share of samples with s at the end of the path' },
  { flag: 'weighting', path: 'weighting.kind', help: 'weight of a sample: none, time, adaptive' },
  { flag: 'weighting-power', path: 'weighting.power', help: 'exponent of the adaptive weight' },
  { flag: 'target-ema', path: 'ema.target', help: 'decay of the target network' },
  { flag: 'pool', path: 'pool.samples', help: "teacher's samples to mix x_t from where there is no --data" },
  { flag: 'pool-steps', path: 'pool.steps', help: "teacher's steps for each of them" },
];

/** Every knob of training a teacher. */
export const teacherKnobs: Knob[] = [
  ...shared,
  { flag: 'label-dropout', path: 'labelDropout', help: 'share of labels hidden in training' },
];
