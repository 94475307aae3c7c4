import { linear } from '../../ops/matmul.js';
import { silu } from '../../ops/activations.js';
import { add } from '../../ops/pointwise.js';
import { fanIn } from '../../nn/initializers.js';
import {
  applyEmbedding,
  applyLinear,
  embeddingParameters,
  embedGuidance,
  embedJump,
  guidanceParameters,
  jumpParameters,
  linearParameters,
  requireThat,
} from '../../nn/layers.js';
import type { Parameter, Parameters } from '../../nn/parameters.js';
import { timestepSinusoids, type TimestepLayout } from '../../nn/timesteps.js';
import { UserError } from '../../errors.js';
import type { Shape } from '../../tensor/shape.js';
import { reshape } from '../../ops/movement.js';
import type { Tensor } from '../../tensor/tensor.js';
import type { BuildOptions, ConditionLaw, NetworkInputs } from '../model.js';
import { activations, type Activation } from './blocks.js';

/** Ways in which a class comes into the embedding, other than by a table. */
export const classEmbeddings = ['timestep', 'identity', 'projection', 'simple_projection'] as const;

/** What the embedding of time and class is made of. */
export interface EmbeddingOptions extends Pick<BuildOptions, 'twoTime' | 'guided'> {
  /** Of the sinusoids, and of the embedding. */
  sinusoids: number;
  width: number;
  layout: TimestepLayout;
  activation?: Activation;
  /** Behind the second layer. */
  postActivation?: Activation | null;
  /** Width of `guidanceEmbedding`; null where there is none. */
  guidance?: number | null;
  /** Rows of a table of classes; null for none. */
  classes: number | null;
  classKind: (typeof classEmbeddings)[number] | null;
  /** Width of what `projection` and `simple_projection` project. */
  projected?: number | null;
}

/** The embedding [B, width] of time, class and whatever comes in beside them. */
export interface TimeEmbedding {
  parameters: Parameter[];
  /** Classes that labels name. */
  classes: number;
  conditions: Record<string, ConditionLaw>;
  apply(parameters: Parameters, inputs: NetworkInputs): Tensor;
}

/** TimestepEmbedding of `time_embedding` and `class_embedding`, with a second time and a scale of guidance of our own. */
export function timeEmbedding(options: EmbeddingOptions): TimeEmbedding {
  const { sinusoids, width, layout, activation = 'silu', postActivation, guidance, classes, classKind } = options;
  const act = activations[activation];
  const perceptron = (name: string, inputs: number) => [
    ...linearParameters(`${name}.linear_1`, inputs, width),
    ...linearParameters(`${name}.linear_2`, width, width),
  ];
  const applyPerceptron = (p: Parameters, name: string, x: Tensor, between = act) =>
    applyLinear(p, `${name}.linear_2`, between(applyLinear(p, `${name}.linear_1`, x)));
  const table = classKind === null && classes !== null;
  const projected = options.projected ?? 0;
  if (classKind?.endsWith('projection'))
    requireThat(
      projected > 0,
      'projection_class_embeddings_input_dim',
      `${classKind} needs the width of what it projects`,
    );

  /** What a class is, where labels are none: [B, ...shape]. */
  const classShape: Shape | null =
    classKind === null ? null : classKind === 'timestep' ? [1] : [classKind === 'identity' ? width : projected];
  const classParameters: Parameter[] = table
    ? embeddingParameters('class_embedding', classes, width)
    : classKind === 'timestep'
      ? perceptron('class_embedding', sinusoids)
      : classKind === 'projection'
        ? perceptron('class_embedding', projected)
        : classKind === 'simple_projection'
          ? linearParameters('class_embedding', projected, width)
          : [];
  const embedClass = (p: Parameters, { labels, conditions = {} }: NetworkInputs): Tensor | null => {
    if (table) {
      if (!labels) throw new UserError('this UNet knows no sample without a class: give every sample a label');
      return applyEmbedding(p, 'class_embedding', labels);
    }
    const told = conditions.class;
    if (classKind === 'timestep')
      return applyPerceptron(
        p,
        'class_embedding',
        timestepSinusoids(reshape(told, [told.shape[0]]), sinusoids, layout),
        silu,
      );
    if (classKind === 'projection') return applyPerceptron(p, 'class_embedding', told, silu);
    if (classKind === 'simple_projection') return applyLinear(p, 'class_embedding', told);
    return classKind === 'identity' ? told : null;
  };

  return {
    parameters: [
      ...perceptron('time_embedding', sinusoids),
      ...(guidance
        ? [{ name: 'time_embedding.cond_proj.weight', shape: [sinusoids, guidance], initializer: fanIn(guidance) }]
        : []),
      ...classParameters,
      ...(options.twoTime ? jumpParameters(width) : []),
      ...(options.guided ? guidanceParameters(width) : []),
    ],
    classes: table ? classes : 0,
    conditions: {
      ...(guidance && { guidanceEmbedding: { shape: [guidance], optional: true } }),
      ...(classShape && { class: { shape: classShape } }),
    },
    apply: (p, inputs) => {
      const { time, jump, guidance: scale, conditions = {} } = inputs;
      let seen = timestepSinusoids(time, sinusoids, layout);
      if (guidance && conditions.guidanceEmbedding)
        seen = add(seen, linear(conditions.guidanceEmbedding, p('time_embedding.cond_proj.weight')));
      let embedding = applyPerceptron(p, 'time_embedding', seen);
      if (postActivation) embedding = activations[postActivation](embedding);
      const classPart = embedClass(p, inputs);
      if (classPart) embedding = add(embedding, classPart);
      if (jump) embedding = add(embedding, embedJump(p, jump));
      return scale ? add(embedding, embedGuidance(p, scale)) : embedding;
    },
  };
}
