import { UserError } from '../src/errors.js';
import { lambdaOf, methodNames, type DistillationConfig, type MethodName } from './config.js';

/** A named way to train a flow map: what it changes in the default recipe. */
export interface Method {
  summary: string;
  /** Whether it can learn from data alone. */
  fromData: boolean;
  recipe: (base: DistillationConfig, hasTeacher: boolean) => Partial<DistillationConfig>;
}

const whose = (hasTeacher: boolean): 'teacher' | 'data' => (hasTeacher ? 'teacher' : 'data');
/** The averages with another decay of the target network's. */
const targetDecay = ({ ema }: DistillationConfig, decay: number, law: 'warm-up' | 'decay' = 'warm-up') => ({
  ema: { ...ema, target: { ...ema.target, law, decay } },
});

/** The methods of the field, each a few choices over one flow map. Presets, not copies: every knob can be overridden. */
export const methods: Record<MethodName, Method> = {
  fmap: {
    summary: 'λ_L · Lagrangian + λ_E · Eulerian map distillation, and long legs of the teacher; on images the ends too',
    fromData: false,
    recipe: () => ({}),
  },
  lmd: {
    summary: 'Lagrangian map distillation (Boffi et al., 2024; Align Your Flow, 2025)',
    fromData: false,
    recipe: (base) => ({ lambda: lambdaOf({ lmd: 1 }), ...targetDecay(base, 0.99) }),
  },
  emd: {
    summary: 'Eulerian map distillation (Align Your Flow, 2025); from data alone α-Flow and SoFlow',
    fromData: true,
    recipe: (base, hasTeacher) => ({
      lambda: lambdaOf({ emd: 1 }),
      velocity: whose(hasTeacher),
      ...targetDecay(base, 0.99),
    }),
  },
  semigroup: {
    summary: 'composition at a random time beside the diagonal (progressive self-distillation, Boffi et al., 2025)',
    fromData: true,
    recipe: (base, hasTeacher) => ({
      lambda: lambdaOf({ semigroup: 0.5, diagonal: 0.5 }),
      velocity: whose(hasTeacher),
      ...targetDecay(base, 0.99),
    }),
  },
  consistency: {
    summary:
      'consistency distillation to the end of the path (Song et al., 2023); from data alone consistency training',
    fromData: true,
    recipe: (base, hasTeacher) => ({
      lambda: lambdaOf({ consistency: 1 }),
      velocity: whose(hasTeacher),
      // At s = 0 the error of a predicted image is that of the jump.
      weighting: { ...base.weighting, kind: base.weighting.kind === 'adaptive' ? 'output' : base.weighting.kind },
      ...targetDecay(base, 0.99),
    }),
  },
  ctm: {
    summary: 'consistency trajectory models: a long leg of the teacher, then the target (Kim et al., 2024)',
    fromData: false,
    recipe: (base) => ({ lambda: lambdaOf({ trajectory: 0.75, diagonal: 0.25 }), ...targetDecay(base, 0.99) }),
  },
  meanflow: {
    summary: 'the mean-velocity identity (MeanFlow, Geng et al., 2025)',
    fromData: true,
    recipe: (base, hasTeacher) => ({
      lambda: lambdaOf({ meanVelocity: 0.5, diagonal: 0.5 }),
      velocity: whose(hasTeacher),
      weighting: { kind: 'adaptive', power: 0.75, offset: 1e-3 },
      // The derivative form diverges beside a slow target: the student is its own.
      ...targetDecay(base, 0, 'decay'),
    }),
  },
  shortcut: {
    summary: 'shortcut models: two half jumps make one, beside flow matching (Frans et al., 2024)',
    fromData: true,
    recipe: (base, hasTeacher) => ({
      lambda: lambdaOf({ semigroup: 0.25, diagonal: 0.75 }),
      velocity: whose(hasTeacher),
      split: 'midpoint',
      ...targetDecay(base, 0.999),
    }),
  },
  'flow-matching': {
    summary: 'the velocity alone (Lipman et al., 2023): the baseline that takes many Euler steps',
    fromData: true,
    recipe: (_, hasTeacher) => ({ lambda: lambdaOf({ diagonal: 1 }), velocity: whose(hasTeacher) }),
  },
};

/**
 * A method's recipe over the defaults.
 * @throws UserError where the name is none, or the method needs a teacher and there is none
 */
export function methodRecipe(name: string, defaults: DistillationConfig, hasTeacher: boolean): DistillationConfig {
  const method = (methods as Record<string, Method | undefined>)[name];
  if (!method) throw new UserError(`--method ${name}: choose one of ${methodNames.join(', ')}`);
  if (!hasTeacher && !method.fromData) {
    const without = methodNames.filter((other) => methods[other].fromData);
    throw new UserError(`--method ${name} needs a --teacher; without one there are ${without.join(', ')}`);
  }
  const student = hasTeacher ? defaults.student : { ...defaults.student, init: 'scratch' as const };
  return { ...defaults, student, ...method.recipe(defaults, hasTeacher), method: name as MethodName };
}

/**
 * Refuses combinations that would compute something else than they say.
 * @throws UserError naming the flag and the mend
 */
export function checkRecipe(recipe: DistillationConfig, hasTeacher: boolean): void {
  const { lambda, velocity, student, precision, tangent, weighting, guidance } = recipe;
  if (!hasTeacher && velocity === 'teacher')
    throw new UserError('--velocity teacher needs a --teacher; without one the data leads: --velocity data');
  if (!hasTeacher && student.init === 'teacher')
    throw new UserError('--init teacher needs a --teacher; without one the student starts from scratch');
  if (!hasTeacher && student.loraRank) throw new UserError('--lora-rank adapts a teacher: give one with --teacher');
  if (student.loraRank && student.init === 'scratch')
    throw new UserError('--lora-rank adapts the teacher, so it cannot go with --init scratch');
  if (student.loraRank && weighting.kind === 'uncertainty')
    throw new UserError('--weighting uncertainty trains weights beside the network: not with --lora-rank');
  if (velocity === 'data') {
    const asking = (['lmd', 'trajectory'] as const).find((name) => lambda[name] > 0);
    if (asking)
      throw new UserError(
        `λ of ${asking} asks for the velocity where the student or a solver arrived, which data cannot say: --velocity teacher`,
      );
  }
  if (precision === 'f16' && (lambda.meanVelocity > 0 || tangent.form === 'limit'))
    throw new UserError(
      'a derivative is divided by a small step, which half precision cannot: leave --precision at f32',
    );
  if (guidance.to < guidance.from) throw new UserError('--guidance goes from the smaller to the larger scale');
}
