import { UserError } from '../src/errors.js';
import type { Description } from '../src/flow/description.js';
import type { Network } from '../src/flow/network.js';
import type { Model } from '../src/models/model.js';
import { lambdaOf, override, type DistillationConfig } from './config.js';
import { objectiveNamed, objectives } from './objectives/index.js';
import type { Objective } from './objectives/objective.js';
import { sharesOf } from './shares.js';

/** Some keys of a recipe, at any depth. */
export type Part<T> = { readonly [K in keyof T]?: T[K] extends object ? Part<T[K]> : T[K] };

/** A named way to train a flow map: what it changes in the default recipe. */
export interface Method {
  /** What it is, in a line of the help, with its source. */
  readonly summary: string;
  /** Changes of the defaults; where λ is given, objectives that it does not name have none. */
  readonly changes: Part<DistillationConfig> | ((defaults: DistillationConfig) => Part<DistillationConfig>);
}

/** Beside one objective alone, a target network that moves less. */
const slowTarget = (decay = 0.99) => ({ ema: { target: { decay } } });

/** The methods of the field, each a few choices over one flow map. Presets, not copies: every knob can be overridden. */
export const methods: Readonly<Record<string, Method>> = {
  fmap: {
    summary: 'λ_L · Lagrangian + λ_E · Eulerian map distillation, and long legs of the teacher; on images the ends too',
    changes: {},
  },
  lmd: {
    summary: 'Lagrangian map distillation (Boffi et al., 2024; Align Your Flow, 2025)',
    changes: { lambda: { lmd: 1 }, ...slowTarget() },
  },
  emd: {
    summary: 'Eulerian map distillation (Align Your Flow, 2025); from data alone α-Flow and SoFlow',
    changes: { lambda: { emd: 1 }, ...slowTarget() },
  },
  semigroup: {
    summary: 'composition at a random time beside the diagonal (progressive self-distillation, Boffi et al., 2025)',
    changes: { lambda: { semigroup: 0.5, diagonal: 0.5 }, ...slowTarget() },
  },
  consistency: {
    summary:
      'consistency distillation to the end of the path (Song et al., 2023); from data alone consistency training',
    changes: ({ weighting: { kind } }) => ({
      lambda: { consistency: 1 },
      // At s = 0 the error of a predicted image is that of the jump.
      weighting: { kind: kind === 'adaptive' ? 'output' : kind },
      ...slowTarget(),
    }),
  },
  ctm: {
    summary: 'consistency trajectory models: a long leg of the teacher, then the target (Kim et al., 2024)',
    changes: { lambda: { trajectory: 0.75, diagonal: 0.25 }, ...slowTarget() },
  },
  meanflow: {
    summary: 'the mean-velocity identity (MeanFlow, Geng et al., 2025)',
    changes: {
      lambda: { meanVelocity: 0.5, diagonal: 0.5 },
      weighting: { kind: 'adaptive', power: 0.75, offset: 1e-3 },
      // The derivative form diverges beside a slow target: the student is its own.
      ema: { target: { law: 'decay', decay: 0 } },
    },
  },
  shortcut: {
    summary: 'shortcut models: two half jumps make one, beside flow matching (Frans et al., 2024)',
    changes: { lambda: { semigroup: 0.25, diagonal: 0.75 }, split: 'midpoint', ...slowTarget(0.999) },
  },
  distribution: {
    summary:
      "a short run from a flow map (--student): the default, and its samples' distribution (DMD, Yin et al., 2024)",
    changes: ({ lambda, batch, labelDropout, student: { jumpRank } }) => {
      const jumps = Object.values({ ...lambda, diagonal: 0 }).reduce((sum, value) => sum + value, 0);
      // All weights learn, so the velocity is held where the default need not.
      const diagonal = lambda.diagonal || jumps / 4;
      return {
        steps: 500,
        // Half of the rows more: the others are as many as without.
        batch: Math.ceil(1.5 * batch),
        lambda: { ...lambda, diagonal, distribution: (jumps + diagonal) / 2 },
        epsilon: { kind: 'constant' },
        optimizer: { warmup: 20 },
        // What a jump of the flow map opens would take all of it, and short jumps would have nothing of it.
        student: { rates: { inherited: 1, own: jumpRank ? 0.2 : 1 } },
        // One jump from noise is where a map blurs most; where there are classes, guidance leads it to their middle.
        distribution: { guidance: labelDropout > 0 ? 1.5 : 1 },
      };
    },
  },
  'flow-matching': {
    summary: 'the velocity alone (Lipman et al., 2023): the baseline that takes many Euler steps',
    changes: { lambda: { diagonal: 1 } },
  },
};

export const methodNames: readonly string[] = Object.keys(methods);

/** Objectives that a recipe gives a weight. */
export const usedObjectives = ({ lambda }: DistillationConfig): Objective[] =>
  objectives().filter(({ name }) => lambda[name] > 0);

/**
 * The method of a name.
 * @throws UserError where there is none
 */
function methodNamed(name: string): Method {
  if (Object.hasOwn(methods, name)) return methods[name];
  throw new UserError(`${name} is none: choose one of ${methodNames.join(', ')}`, 'method');
}

/**
 * Whether a student's velocity is to be its teacher's own, which it could keep for good: not where it is guided, that of the
 * data, or learned from nothing, nor in an adapter.
 */
const sharesVelocity = (recipe: DistillationConfig): boolean =>
  recipe.velocity === 'teacher' &&
  !isGuided(recipe) &&
  !usedObjectives(recipe).some(({ ofData }) => ofData) &&
  recipe.student.init === 'teacher' &&
  recipe.student.loraRank === 0;

/** Whether it does keep it: what it inherits does not learn, and a jump opens weights beside that. */
export const keepsVelocity = (recipe: DistillationConfig): boolean =>
  sharesVelocity(recipe) && recipe.student.rates.inherited === 0 && recipe.student.jumpRank > 0;

/**
 * Whether a teacher's velocity is one that its student can keep: that of weights which the student has as well, and beside which
 * jumps can open others.
 */
export const canBeKept = ({ opens }: Pick<Model, 'opens'>, { autoguidance }: Description): boolean =>
  opens !== null && autoguidance === undefined;

/** Whether a flow map has kept the velocity of a teacher so far: each weight of it as it is there, and others beside them. */
export async function hasKept(map: Network, teacher: Network): Promise<boolean> {
  if (!map.description.jumpRank) return false;
  const known = new Set(map.layout.parameters.map(({ name }) => name));
  for (const { name } of teacher.layout.parameters) {
    if (!known.has(name)) return false;
    const [own, given] = await Promise.all([map.weights.read(name), teacher.weights.read(name)]);
    if (own.length !== given.length || own.some((value, i) => value !== given[i])) return false;
  }
  return true;
}

const isGuided = ({ guidance: { from, to } }: DistillationConfig): boolean => from !== 1 || to !== 1;

/** Weights that all learn alike, by which the figures of the other methods were reached. */
const alike = { student: { jumpRank: 0, rates: { inherited: 1, own: 1 } } };

/** A method's own changes of the defaults, whoever leads. */
function changed(name: string, defaults: DistillationConfig, opened?: number): DistillationConfig {
  const { changes } = methodNamed(name);
  const plain = name === 'fmap' ? defaults : override(defaults, alike);
  const from = opened === undefined ? plain : override(plain, { student: { jumpRank: opened } });
  const part = typeof changes === 'function' ? changes(from) : changes;
  const { lambda, ...rest } = { ...part, method: name };
  return { ...override(from, rest), ...(lambda && { lambda: lambdaOf(lambda as Record<string, number>) }) };
}

/**
 * Whether a method can learn from data alone: none of its objectives needs a teacher.
 * @param defaults what it changes
 * @throws UserError where there is no such method
 */
export const learnsFromData = (name: string, defaults: DistillationConfig): boolean =>
  !usedObjectives(changed(name, defaults)).some(({ needsTeacher }) => needsTeacher);

/**
 * A method's recipe over the defaults.
 * @param opened the rank of what jumps open in the flow map that goes on learning, where one does
 * @throws UserError where the name is none, or the method needs a teacher and there is none
 */
export function methodRecipe(
  name: string,
  defaults: DistillationConfig,
  hasTeacher: boolean,
  opened?: number,
): DistillationConfig {
  const recipe = changed(name, defaults, opened);
  if (hasTeacher) return recipe;
  if (!learnsFromData(name, defaults)) {
    const without = methodNames.filter((other) => learnsFromData(other, defaults));
    throw new UserError(`${name} needs a teacher; without one there are ${without.join(', ')}`, 'method');
  }
  return override(recipe, { velocity: 'data', student: { init: 'scratch', jumpRank: 0 } });
}

/**
 * Refuses recipes that are not whole, and combinations that would compute something else than they say.
 * @param hasTeacher whether there is a teacher to learn from
 * @throws UserError naming the field and the mend
 */
export function checkRecipe(recipe: DistillationConfig, hasTeacher: boolean): void {
  const { velocity, student, precision, tangent, weighting, guidance, method, lambda } = recipe;
  methodNamed(method);
  for (const name of Object.keys(lambda)) objectiveNamed(name);
  if (!hasTeacher && velocity === 'teacher')
    throw new UserError('there is no teacher whose velocity could lead: give one, or let the data lead', 'velocity');
  if (!hasTeacher && student.init === 'teacher')
    throw new UserError('there is no teacher to start from: give one, or start from scratch', 'student.init');
  if (!hasTeacher && student.loraRank)
    throw new UserError('a low-rank adapter adapts a teacher, and there is none: give one', 'student.loraRank');
  if (student.loraRank && student.init === 'scratch')
    throw new UserError(
      'a low-rank adapter adapts the teacher, so it cannot start from scratch: leave init out',
      'student.loraRank',
    );
  if (student.loraRank && weighting.kind === 'uncertainty')
    throw new UserError(
      'uncertainty trains weights beside the network, which an adapter does not have: choose another',
      'weighting.kind',
    );
  if (student.rates.inherited === 0 && student.init === 'teacher' && !student.loraRank && !sharesVelocity(recipe))
    throw new UserError(
      'weights of the teacher that do not learn keep its velocity, and the student is to learn another: let them (above 0)',
      'student.rates.inherited',
    );
  const used = usedObjectives(recipe);
  // Refuses what objectives cannot share.
  sharesOf(lambda, recipe.batch);
  const asking = used.find(({ needsTeacher, fake }) => needsTeacher || fake);
  if (velocity === 'data' && asking)
    throw new UserError(
      `${asking.name} asks for the velocity where the student or a solver arrived, which data cannot say: let a teacher lead, or give it no weight`,
      `lambda.${asking.name}`,
    );
  const dividing = used.find(
    ({ smallDivisor }) => smallDivisor === 'always' || (smallDivisor === 'limit' && tangent.form === 'limit'),
  );
  if (precision === 'f16' && dividing)
    throw new UserError(
      `${dividing.name} divides by what is small, a step or the difference of two networks, which half precision cannot: leave it at f32`,
      'precision',
    );
  const judged = used.find(({ fake }) => fake);
  if (judged && guidance.from !== guidance.to)
    throw new UserError(
      `${judged.name} compares with samples of one guidance, and the student is to learn a range: give one scale`,
      'guidance',
    );
  if (velocity === 'data' && isGuided(recipe))
    throw new UserError('guidance is that of a teacher, and the data leads: leave it at 1', 'guidance');
  const free = used.find(({ ofData }) => ofData);
  if (free && isGuided(recipe))
    throw new UserError(
      `${free.name} teaches the velocity of the data, which nothing guides, beside jumps of a guided one: leave it at 1`,
      'guidance',
    );
  if (guidance.to < guidance.from)
    throw new UserError(
      `${guidance.from}..${guidance.to}: a range goes from the smaller to the larger scale`,
      'guidance',
    );
}
