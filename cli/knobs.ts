import { solvers } from '../src/flow/solvers.js';
import { objectives } from '../trainers/objectives/index.js';
import type { Knob, KnobGroup } from './config.js';

const training: Knob[] = [
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
  },
];

const optimizer: Knob[] = [
  { flag: 'learning-rate', path: 'optimizer.rate', help: 'peak learning rate' },
  { flag: 'warmup', path: 'optimizer.warmup', help: 'steps of linear warm-up' },
  { flag: 'final-share', path: 'optimizer.finalShare', help: 'of the peak, where the cosine ends' },
  { flag: 'beta1', path: 'optimizer.beta1', help: "AdamW's decay of the mean gradient" },
  { flag: 'beta2', path: 'optimizer.beta2', help: "AdamW's decay of the mean squared gradient" },
  { flag: 'adam-epsilon', path: 'optimizer.epsilon', help: 'what AdamW adds to the root of the latter' },
  { flag: 'weight-decay', path: 'optimizer.weightDecay', help: 'decoupled weight decay' },
  { flag: 'clip-norm', path: 'optimizer.clipNorm', help: 'largest gradient norm' },
];

const average = (flag: string, path: string, what: string): Knob[] => [
  { flag, path: `${path}.decay`, help: `decay of ${what}` },
  { flag: `${flag}-law`, path: `${path}.law`, help: 'decay, warm-up, power (EDM2)' },
  { flag: `${flag}-width`, path: `${path}.width`, help: 'relative width of the power law' },
];

const times: Knob[] = [
  { flag: 'times', path: 'times.kind', help: 'law of t (and s): uniform, logit-normal (EDM: mean -1.2, std 1.2)' },
  { flag: 'times-mean', path: 'times.mean', help: 'mean of the logit' },
  { flag: 'times-std', path: 'times.std', help: 'standard deviation of the logit' },
];

const labelDropout: Knob = {
  flag: 'label-dropout',
  path: 'labelDropout',
  help: 'share of labels hidden in training, so that the network can be asked without a class',
};

const kebab = (name: string) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** Knobs of how objectives step the teacher. */
const solverKnobs = (): Knob[] =>
  objectives().flatMap(({ name, solver, solverSteps }) => [
    ...(solver
      ? [
          {
            flag: `solver-${kebab(name)}`,
            path: `solver.${name}`,
            help: `teacher's step in ${name}: ${solvers.join(', ')}`,
          },
        ]
      : []),
    ...(solverSteps
      ? [{ flag: `${kebab(name)}-steps`, path: `solver.${name}Steps`, help: "steps of the teacher's leg in it" }]
      : []),
  ]);

/** Every knob of a distillation recipe, of the objectives that there are now. */
export const distillationKnobs = (): KnobGroup[] => [
  { heading: 'Training:', knobs: training },
  {
    heading: 'Objectives, shares of the batch by weight:',
    knobs: objectives().map(({ name, summary }) => ({
      flag: `lambda-${kebab(name)}`,
      path: `lambda.${name}`,
      help: summary,
    })),
  },
  {
    heading: 'How targets are formed:',
    knobs: [
      { flag: 'velocity', path: 'velocity', help: "whose velocity leads: teacher, or data (each pair's z - x0)" },
      { flag: 'epsilon', path: 'epsilon.kind', help: 'law of ε: constant, anneal, uniform' },
      { flag: 'epsilon-from', path: 'epsilon.from', help: 'ε at the start of an annealing' },
      { flag: 'epsilon-to', path: 'epsilon.to', help: 'constant ε, or ε at the end' },
      { flag: 'epsilon-until', path: 'epsilon.until', help: 'share of the run that annealing takes' },
      ...solverKnobs(),
      { flag: 'split', path: 'split', help: 'where composition splits a jump: uniform, midpoint' },
      { flag: 'difference', path: 'difference', help: "half width of the mean velocity's difference quotient" },
      { flag: 'tangent', path: 'tangent.form', help: 'finite steps of ε, or their limit (needs a small ε)' },
      { flag: 'tangent-normalization', path: 'tangent.normalization', help: 'c of g / (‖g‖ + c), 0 for none' },
      { flag: 'tangent-warmup', path: 'tangent.warmup', help: 'steps in which the derivative is let in' },
      {
        flag: 'guidance',
        path: 'guidance',
        help: 'classifier-free guidance: a scale, or a range as 1..4',
        range: true,
      },
      labelDropout,
    ],
  },
  {
    heading: 'Times and weights:',
    knobs: [
      ...times,
      { flag: 'pairs', path: 'times.pairs', help: 'free: two draws; gap: the length t - s is drawn' },
      { flag: 'end-share', path: 'times.endShare', help: 'share of samples with s at the end of the path' },
      { flag: 'forward-share', path: 'times.forwardShare', help: 'share of jumps from data towards noise' },
      { flag: 'reach-from', path: 'reach.from', help: 'curriculum: the longest |t - s| at the start' },
      { flag: 'reach-until', path: 'reach.until', help: 'share of the run after which it is 1' },
      {
        flag: 'weighting',
        path: 'weighting.kind',
        help: 'none, output, inverse-step, adaptive, pseudo-huber, uncertainty',
      },
      { flag: 'weighting-power', path: 'weighting.power', help: 'exponent of the adaptive weight' },
      { flag: 'weighting-offset', path: 'weighting.offset', help: 'c of the weights that have one' },
    ],
  },
  {
    heading: 'Student, averages, optimizer:',
    knobs: [
      { flag: 'init', path: 'student.init', help: 'where the student starts: teacher, scratch' },
      { flag: 'lora-rank', path: 'student.loraRank', help: 'train a low-rank adapter alone; 0 trains all weights' },
      { flag: 'lora-alpha', path: 'student.loraAlpha', help: 'its scale, over the rank' },
      {
        flag: 'jump-rank',
        path: 'student.jumpRank',
        help: 'rank of what jumps open beside weights of the teacher; 0 for nothing',
      },
      {
        flag: 'inherited-rate',
        path: 'student.rates.inherited',
        help: 'what weights of the teacher learn at, times the rate',
      },
      { flag: 'own-rate', path: 'student.rates.own', help: 'what weights learn at that only the student has' },
      ...average('ema', 'ema.export', 'the exported weights'),
      ...average('target-ema', 'ema.target', 'the target network'),
      ...optimizer,
    ],
  },
  {
    heading: "Distribution matching, and the network that learns the student's samples (the fake):",
    knobs: [
      {
        flag: 'distribution-guidance',
        path: 'distribution.guidance',
        help: "of the teacher it is compared with, unless the recipe's is stronger: 1 keeps the flow, 1.5 favours one jump",
      },
      {
        flag: 'noise-share',
        path: 'distribution.noiseShare',
        help: 'share of its jumps that start from pure noise',
      },
      { flag: 'distribution-strength', path: 'distribution.strength', help: 'what a row counts beside another' },
      { flag: 'distribution-warmup', path: 'distribution.warmup', help: 'steps in which it is let in' },
      { flag: 'fake-rate', path: 'distribution.rate', help: 'learning rate of the fake' },
      { flag: 'fake-updates', path: 'distribution.updates', help: "the fake's updates for each of the student's" },
      {
        flag: 'fake-rank',
        path: 'distribution.rank',
        help: 'the fake as a low-rank adapter of the teacher; 0 is a copy',
      },
    ],
  },
  {
    heading: 'Without --data:',
    knobs: [
      { flag: 'pool', path: 'pool.samples', help: "teacher's samples to mix x_t from" },
      { flag: 'pool-steps', path: 'pool.steps', help: "teacher's steps for each of them" },
    ],
  },
];

/** Every knob of training a classifier. */
export const classificationKnobs: KnobGroup[] = [
  {
    heading: 'Recipe:',
    knobs: [
      ...training.filter(({ flag }) => flag !== 'checkpoint-blocks'),
      ...optimizer,
      ...average('ema', 'ema.export', 'the exported weights'),
    ],
  },
];

/** Every knob of training an autoencoder. */
export const autoencodingKnobs: KnobGroup[] = [
  {
    heading: 'Recipe:',
    knobs: [
      ...training.filter(({ flag }) => flag !== 'checkpoint-blocks'),
      { flag: 'kl', path: 'kl', help: 'what the divergence of latents from N(0, I) counts beside the error of pixels' },
      ...optimizer,
      ...average('ema', 'ema.export', 'the exported weights'),
    ],
  },
];

/** Every knob of training a teacher. */
export const teacherKnobs: KnobGroup[] = [
  {
    heading: 'Recipe:',
    knobs: [...training, ...optimizer, ...average('ema', 'ema.export', 'the exported weights'), ...times, labelDropout],
  },
];
