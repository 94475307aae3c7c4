import * as z from 'zod';
import { UserError } from '../errors.js';
import type { Shape } from '../tensor/shape.js';
import type { BuildOptions, ModelParts } from './model.js';

/** The module that defines a backbone which is not built in: what a file of its weights asks for. */
export interface BackboneModule {
  /** Its file name. */
  readonly name: string;
  /** Of its text, in hexadecimal. */
  readonly sha256: string;
  /** Where this process has it from. */
  readonly path?: string;
}

/** A backbone and its sizes, as files and YAML descriptions state them; the other keys are the backbone's own. */
export interface Architecture {
  readonly kind: string;
  readonly module?: BackboneModule;
  readonly [size: string]: unknown;
}

/** What samples are: all that a default architecture depends on. */
export interface SampleLaw {
  /** Of one sample: [2], [channels, height, width], or any other. */
  readonly shape: Shape;
  /** Number of classes, 0 without labels. */
  readonly classes: number;
}

/** A kind of network: its sizes, its graph and what it is by default. */
export interface Backbone {
  readonly name: string;
  /** Sizes, checked and completed. */
  readonly schema: z.ZodType<Record<string, unknown>>;
  /** @throws UserError naming the size that cannot work */
  build(sizes: Record<string, unknown>, options: BuildOptions): ModelParts;
  /** The default sizes for such samples; null where it is not for them. */
  defaults(samples: SampleLaw): Record<string, unknown> | null;
  /** The sizes under which the same weights take samples and conditions of other shapes; null where they cannot. */
  fit?(sizes: Record<string, unknown>, shapes: InputShapes): Record<string, unknown> | null;
}

/** Of one sample, and of what it is told. */
export interface InputShapes {
  readonly sample: Shape;
  /** By name; those that are left out stay as they are. */
  readonly conditions?: Readonly<Record<string, Shape>>;
}

/** What `defineBackbone` is given. */
export interface BackboneDefinition<S extends z.ZodObject> {
  /** The `kind` of descriptions: lower-case letters, digits and hyphens. */
  name: string;
  /** Its sizes; unknown ones are refused. */
  schema: S;
  /** @throws UserError naming the size that cannot work, as `requireThat` does */
  build(sizes: z.infer<S>, options: BuildOptions): ModelParts;
  /** The default sizes for samples of a shape, null where it is not for them; left out, those that the schema completes. */
  defaults?(samples: SampleLaw): z.input<S> | null;
  /** The sizes under which the same weights take inputs of other shapes, null where they cannot; left out, of none. */
  fit?(sizes: z.infer<S>, shapes: InputShapes): z.input<S> | null;
}

/**
 * A backbone from its name, sizes and graph: the door for those that are built in and for one's own
 * (docs/architectures.md). `registerBackbone` makes it known.
 * @throws UserError where the name cannot be used
 */
export function defineBackbone<S extends z.ZodObject>(definition: BackboneDefinition<S>): Backbone {
  const { name, schema, build, defaults, fit } = definition;
  if (!/^[a-z][a-z0-9-]{0,63}$/.test(name))
    throw new UserError(`a backbone's name has lower-case letters, digits and hyphens, not "${name}"`, 'name');
  return {
    name,
    schema: schema.strict() as unknown as Backbone['schema'],
    build: (sizes, options) => build(sizes as z.infer<S>, options),
    defaults: (samples) => {
      if (defaults) return defaults(samples);
      const completed = schema.strict().safeParse({});
      return completed.success ? completed.data : null;
    },
    ...(fit && { fit: (sizes, shapes) => fit(sizes as z.infer<S>, shapes) }),
  };
}

/** A backbone by whatever a module exports in its place; null for anything else. */
export function asBackbone(value: unknown): Backbone | null {
  const { name, schema, build, defaults } = (value ?? {}) as Partial<Backbone>;
  const made =
    typeof name === 'string' && schema !== undefined && [build, defaults].every((f) => typeof f === 'function');
  return made ? (value as Backbone) : null;
}
