import { z } from 'zod';
import { solvers } from '../src/flow/solvers.js';
import { sizeOf, type Shape } from '../src/tensor/shape.js';

const positive = z.number().positive();
const share = z.number().min(0).max(1);
const whole = z.number().int().min(0);

const timesSchema = z.strictObject({
  kind: z.enum(['uniform', 'logit-normal']),
  mean: z.number(),
  std: positive,
  endShare: share,
});

const optimizerSchema = z.strictObject({
  rate: positive,
  warmup: whole,
  finalShare: share,
  beta1: share,
  beta2: share,
  epsilon: positive,
  weightDecay: z.number().min(0),
  clipNorm: positive,
});

const common = {
  steps: z.number().int().positive(),
  batch: z.number().int().positive(),
  seed: whole,
  precision: z.enum(['f32', 'f16']),
  /** The backward pass computes each block of the network anew: less memory, more time. */
  checkpointBlocks: z.boolean(),
  times: timesSchema,
  optimizer: optimizerSchema,
};

/** Everything that decides what a distillation learns. Files and folders are not part of it. */
export const distillationSchema = z.strictObject({
  ...common,
  lambda: z.strictObject({
    lmd: z.number().min(0),
    emd: z.number().min(0),
    semigroup: z.number().min(0),
    diagonal: z.number().min(0),
  }),
  solver: z.strictObject({ lmd: z.enum(solvers), emd: z.enum(solvers) }),
  epsilon: z.strictObject({
    kind: z.enum(['constant', 'anneal', 'uniform']),
    from: share,
    to: positive.max(1),
    until: share,
  }),
  weighting: z.strictObject({ kind: z.enum(['none', 'time', 'adaptive']), power: positive, offset: positive }),
  ema: z.strictObject({ target: share, export: share }),
  /** Samples of the teacher that x_t is mixed from where no data is given, and the steps that draw each. */
  pool: z.strictObject({ samples: z.number().int().positive(), steps: z.number().int().positive() }),
});
export type DistillationConfig = z.infer<typeof distillationSchema>;

/** Everything that decides what a teacher learns. */
export const teacherSchema = z.strictObject({
  ...common,
  ema: z.strictObject({ export: share }),
  labelDropout: share,
});
export type TeacherConfig = z.infer<typeof teacherSchema>;

const commonDefaults = { seed: 0, precision: 'f32', checkpointBlocks: false } as const;

const optimizerDefaults = {
  warmup: 200,
  finalShare: 0.01,
  beta1: 0.9,
  beta2: 0.99,
  epsilon: 1e-8,
  weightDecay: 0,
  clipNorm: 1,
};

/** Samples of at most this many values are points, not images. */
const pointSize = 16;

/**
 * The default recipe by what the teacher is. How it was found: docs/recipes.md.
 * @param prediction what the teacher's network returns
 */
export function distillationDefaults(sampleShape: Shape, prediction: 'velocity' | 'data'): DistillationConfig {
  const points = sizeOf(sampleShape) <= pointSize;
  return {
    steps: points ? 24000 : 10000,
    batch: points ? 512 : 64,
    ...commonDefaults,
    times: points
      ? { kind: 'uniform', mean: 0, std: 1, endShare: 0.15 }
      : { kind: 'uniform', mean: 0, std: 1, endShare: 0.2 },
    optimizer: { ...optimizerDefaults, rate: points ? 2e-3 : 5e-4 },
    lambda: { lmd: 0.5, emd: 0.5, semigroup: 0, diagonal: 0 },
    solver: { lmd: 'euler', emd: 'heun' },
    epsilon: { kind: 'anneal', from: 0.3, to: 0.05, until: 0.7 },
    weighting: { kind: prediction === 'data' ? 'time' : 'none', power: 0.75, offset: 1e-3 },
    ema: { target: 0.99, export: 0.998 },
    pool: points ? { samples: 65536, steps: 64 } : { samples: 4096, steps: 25 },
  };
}

/** The default way to train a teacher by what it is trained on. */
export function teacherDefaults(sampleShape: Shape): TeacherConfig {
  const points = sizeOf(sampleShape) <= pointSize;
  return {
    steps: points ? 16000 : 20000,
    batch: points ? 512 : 128,
    ...commonDefaults,
    times: points
      ? { kind: 'uniform', mean: 0, std: 1, endShare: 0 }
      : { kind: 'logit-normal', mean: 0, std: 1, endShare: 0 },
    optimizer: { ...optimizerDefaults, rate: points ? 2e-3 : 1e-3 },
    ema: { export: 0.999 },
    labelDropout: points ? 0 : 0.1,
  };
}
