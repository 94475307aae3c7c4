import * as z from 'zod';
import type { Description } from '../src/flow/description.js';
import { solvers } from '../src/flow/solvers.js';
import { isPoints } from '../src/models/model.js';
import type { Shape } from '../src/tensor/shape.js';
import { objectiveNamed, objectives } from './objectives/index.js';

/** Numbers end up in 32 bits: what is beyond them would become infinite or 0 there. */
const [least, most] = [1.2e-38, 3.4e38];
const real = z.number().min(-most).max(most);
const positive = z.number().min(least).max(most);
const notNegative = z.number().min(0).max(most);
const share = z.number().min(0).max(1);
const whole = z.number().int().min(0);

const timesSchema = z.strictObject({
  kind: z.enum(['uniform', 'logit-normal']),
  mean: real,
  std: positive,
});

const optimizerSchema = z.strictObject({
  rate: positive,
  warmup: whole,
  finalShare: share,
  beta1: z.number().min(0).lt(1),
  beta2: z.number().min(0).lt(1),
  epsilon: positive,
  weightDecay: notNegative,
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

const averageSchema = z.strictObject({
  law: z.enum(['decay', 'warm-up', 'power']),
  decay: share,
  width: positive.max(0.28),
});

/** How samples of the student are judged by what tells them from the teacher's. */
const distributionSchema = z.strictObject({
  /** The guidance of the teacher that samples are compared with, where the recipe's is not stronger. */
  guidance: notNegative,
  /** Share of jumps that start from pure noise; the others start where the recipe draws them. */
  noiseShare: share,
  /** What the gradient counts beside the other objectives', row by row, once `warmup` steps are done. */
  strength: positive,
  warmup: whole,
  /** The fake network: its learning rate, its updates for each one of the student, and its rank; 0 trains a whole copy. */
  rate: positive,
  updates: z.number().int().min(1).max(16),
  rank: whole,
});

/** A third of a batch with this strength is the weight 6 beside the other two thirds; 20 broke a map in a study. */
const distributionDefaults: z.infer<typeof distributionSchema> = {
  guidance: 1,
  noiseShare: 0.5,
  strength: 12,
  warmup: 50,
  rate: 1e-3,
  updates: 1,
  rank: 0,
};

/** λ of every objective; a recipe that was written before there was one leaves it out. */
const lambdaSchema = () =>
  z.strictObject(
    Object.fromEntries(objectives().map(({ name }) => [name, notNegative.default(0)])) as Record<
      string,
      z.ZodDefault<typeof notNegative>
    >,
  );

/** How objectives step the teacher: `NAME`, and `NAMESteps` where they take several. */
const solverSchema = () => {
  const stepped = objectives().flatMap(({ name, solver, solverSteps }) => [
    ...(solver ? [[name, z.enum(solvers).default(solver)] as const] : []),
    ...(solverSteps ? [[`${name}Steps`, z.number().int().positive().default(solverSteps)] as const] : []),
  ]);
  return z.strictObject(Object.fromEntries(stepped) as Record<string, z.ZodType<(typeof solvers)[number] | number>>);
};

/**
 * Everything that decides what a distillation learns, of the objectives that there are now. Files and folders are not part
 * of it.
 */
export const distillationSchema = () =>
  z.strictObject({
    /** The preset that the rest started from. */
    method: z.string(),
    ...common,
    times: timesSchema.extend({ endShare: share, pairs: z.enum(['free', 'gap']), forwardShare: share }),
    /** Whose velocity leads: the teacher's, or that of each pair of data and noise, z - x0. */
    velocity: z.enum(['teacher', 'data']),
    lambda: lambdaSchema(),
    solver: solverSchema(),
    epsilon: z.strictObject({
      kind: z.enum(['constant', 'anneal', 'uniform']),
      from: positive.max(1),
      to: positive.max(1),
      until: share,
    }),
    /** Where composition splits a jump: anywhere, or in the middle. */
    split: z.enum(['uniform', 'midpoint']),
    /** Half width of the central difference of the mean velocity. */
    difference: positive.max(0.1),
    tangent: z.strictObject({
      form: z.enum(['finite', 'limit']),
      normalization: notNegative,
      warmup: whole,
    }),
    weighting: z.strictObject({
      kind: z.enum(['none', 'output', 'inverse-step', 'adaptive', 'pseudo-huber', 'uncertainty']),
      power: positive,
      offset: positive,
    }),
    /** The longest |t - s| at the start, and the share of the run after which it is 1. */
    reach: z.strictObject({ from: positive.max(1), until: share }),
    ema: z.strictObject({ target: averageSchema, export: averageSchema }),
    /** Classifier-free guidance of the teacher: a fixed scale, or a range that becomes an input. 1 is none. */
    guidance: z.strictObject({ from: notNegative, to: notNegative }),
    /** Share of labels that are hidden, so that the student can also be asked without a class; runs of before had none. */
    labelDropout: share.default(0),
    /** Where the student starts, and whether all of it is trained (rank 0) or a low-rank adapter. */
    student: z.strictObject({
      init: z.enum(['teacher', 'scratch']),
      loraRank: whole,
      loraAlpha: positive,
      /**
       * Rank of the products that jumps open beside the weights that the backbone names, 0 for none: room for jumps that
       * leaves the velocity as it is. Not beside an adapter.
       */
      jumpRank: whole.default(0),
      /**
       * What is trained in full learns at, over the optimizer's rate: what comes from the teacher, and what only a student
       * has. Fixed where it is inherited (0), a student keeps the teacher's velocity while it learns jumps. From scratch both
       * are 1.
       */
      rates: z.strictObject({ inherited: notNegative, own: positive }).default({ inherited: 1, own: 1 }),
    }),
    /** Distribution matching; runs of before had none. */
    distribution: distributionSchema.default(distributionDefaults),
    /** Samples of the teacher that x_t is mixed from where no data is given, and the steps that draw each. */
    pool: z.strictObject({ samples: z.number().int().positive(), steps: z.number().int().positive() }),
  });
/** The recipe of a flow map. */
export type DistillationConfig = z.infer<ReturnType<typeof distillationSchema>>;

/** Everything that decides what a teacher learns. */
export const teacherSchema = z.strictObject({
  ...common,
  ema: z.strictObject({ export: averageSchema }),
  labelDropout: share,
});
/** The recipe of a teacher. */
export type TeacherConfig = z.infer<typeof teacherSchema>;

/** Everything that decides what a classifier learns. */
export const classificationSchema = z.strictObject({
  steps: common.steps,
  batch: common.batch,
  seed: common.seed,
  precision: common.precision,
  optimizer: optimizerSchema,
  ema: z.strictObject({ export: averageSchema }),
});
/** The recipe of a classifier. */
export type ClassificationConfig = z.infer<typeof classificationSchema>;

/** A recipe of training an autoencoder. */
export const autoencodingSchema = classificationSchema.extend({
  /** What the divergence of latents from N(0, I) counts beside the squared error of pixels. */
  kl: notNegative,
});
export type AutoencodingConfig = z.infer<typeof autoencodingSchema>;

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

/** An average that forgets its first steps soon. */
const warmedUp = (decay: number) => ({ law: 'warm-up', decay, width: 0.05 }) as const;

/** A tree of values with some of them replaced by those of another tree, key by key; lists are values. */
export function override<T extends object>(base: T, over: object): T {
  const keys = new Set([...Object.keys(base), ...Object.keys(over)]);
  const values = (tree: object) => new Map<string, unknown>(Object.entries(tree));
  const [below, above] = [values(base), values(over)];
  const merged = [...keys].map((key) => {
    const [from, to] = [below.get(key), above.get(key)];
    if (!above.has(key)) return [key, from];
    return [key, isTree(from) && isTree(to) ? override(from, to) : to];
  });
  return Object.fromEntries(merged) as T;
}
const isTree = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * λ with every objective but the given ones left out.
 * @throws UserError where a name is that of no objective
 */
export function lambdaOf(given: Readonly<Record<string, number>>): DistillationConfig['lambda'] {
  for (const name of Object.keys(given)) objectiveNamed(name);
  return { ...Object.fromEntries(objectives().map(({ name }) => [name, 0])), ...given };
}

/**
 * The default recipe, `fmap`, by what the teacher is. How it was found: docs/recipes.md.
 * @param prediction what the network returns
 * @param nullClass whether it can be asked without a class, which the student is then to learn as well
 * @param keeps whether its velocity can stay the teacher's own, as `keepsVelocity` says of a recipe: then of images only
 *   what a student has beyond it learns, and there is nothing to be learned on the diagonal
 */
export function distillationDefaults(
  sampleShape: Shape,
  prediction: Description['prediction'],
  nullClass = false,
  keeps = true,
): DistillationConfig {
  const points = isPoints(sampleShape);
  const fixed = keeps && !points;
  return {
    method: 'fmap',
    steps: points ? 24000 : 10000,
    batch: points ? 512 : 64,
    ...commonDefaults,
    times: {
      kind: 'uniform',
      mean: 0,
      std: 1,
      endShare: points ? 0.15 : 0.2,
      pairs: 'free',
      forwardShare: 0,
    },
    optimizer: { ...optimizerDefaults, rate: points ? 2e-3 : 5e-4 },
    velocity: 'teacher',
    lambda: {
      ...Object.fromEntries(
        objectives().map(({ name, weight }) => [name, weight?.[points ? 'points' : 'images'] ?? 0]),
      ),
      ...(fixed && { diagonal: 0 }),
    },
    solver: solverSchema().parse({}),
    epsilon: { kind: 'anneal', from: 0.3, to: 0.05, until: 0.7 },
    split: 'uniform',
    difference: 5e-3,
    tangent: { form: 'finite', normalization: 0, warmup: 0 },
    weighting: { kind: weightingFor(prediction, points), power: 0.75, offset: 1e-3 },
    reach: { from: 1, until: 0 },
    ema: { target: warmedUp(0.95), export: warmedUp(0.998) },
    guidance: { from: 1, to: 1 },
    labelDropout: nullClass ? 0.1 : 0,
    student: {
      init: 'teacher',
      loraRank: 0,
      loraAlpha: 16,
      jumpRank: fixed ? 16 : 0,
      rates: fixed ? { inherited: 0, own: 4 } : { inherited: 1, own: 1 },
    },
    distribution: distributionDefaults,
    pool: points ? { samples: 65536, steps: 64 } : { samples: 4096, steps: 25 },
  };
}

/**
 * How errors count by what the network returns. In units of its output a network that predicts noise would hardly be held
 * to its jumps from t = 1, and one that predicts the data would forget its velocity near t = 0, in whose units, though,
 * little else would count: images are weighted by relative error.
 */
function weightingFor(prediction: Description['prediction'], points: boolean): DistillationConfig['weighting']['kind'] {
  if (prediction === 'velocity' || prediction === 'noise') return 'none';
  return points ? 'output' : 'adaptive';
}

/**
 * The default way to train a teacher by what it is trained on.
 * @param nullClass whether it can be asked without a class
 */
export function teacherDefaults(sampleShape: Shape, nullClass = !isPoints(sampleShape)): TeacherConfig {
  const points = isPoints(sampleShape);
  return {
    steps: points ? 16000 : 20000,
    batch: points ? 512 : 128,
    ...commonDefaults,
    times: points ? { kind: 'uniform', mean: 0, std: 1 } : { kind: 'logit-normal', mean: 0, std: 1 },
    optimizer: { ...optimizerDefaults, rate: points ? 2e-3 : 1e-3 },
    ema: { export: warmedUp(0.999) },
    labelDropout: nullClass ? 0.1 : 0,
  };
}

/** The default way to train a classifier of images. */
export const classificationDefaults: ClassificationConfig = {
  steps: 2500,
  batch: 128,
  seed: 0,
  precision: 'f32',
  optimizer: { ...optimizerDefaults, beta2: 0.999, rate: 2e-3, weightDecay: 0.01 },
  ema: { export: warmedUp(0.995) },
};

export const autoencodingDefaults: AutoencodingConfig = {
  steps: 5000,
  batch: 32,
  seed: 0,
  precision: 'f32',
  optimizer: { ...optimizerDefaults, beta2: 0.999, rate: 1e-3 },
  ema: { export: warmedUp(0.999) },
  kl: 1e-4,
};
