import type * as z from 'zod';
import type { Parameter } from '../nn/parameters.js';

/** What a component builds: its parameters, and beside them whatever graphs it has. It knows nothing of flows. */
export interface ComponentParts {
  readonly parameters: readonly Parameter[];
  /** What people want to know of it, by name. */
  readonly facts?: Readonly<Record<string, string>>;
}

/** A kind of network that is no velocity, such as an autoencoder or a text encoder: its sizes and its graphs. */
export interface Component<P extends ComponentParts = ComponentParts> {
  /** Sizes, checked and completed. */
  readonly schema: z.ZodType<Record<string, unknown>>;
  /** @throws UserError naming the size that cannot work */
  build(sizes: Record<string, unknown>): P;
}

/** A component from its sizes and its graphs; a strict schema refuses sizes that it does not know. */
export const defineComponent = <S extends z.ZodObject, P extends ComponentParts>(definition: {
  schema: S;
  build(sizes: z.infer<S>): P;
}): Component<P> => ({
  schema: definition.schema as unknown as Component['schema'],
  build: (sizes) => definition.build(sizes as z.infer<S>),
});
