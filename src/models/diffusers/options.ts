import * as z from 'zod';

/**
 * An option of a class that is only supported as it is by default: anything else is refused by the option's name, as it
 * would change what the network computes.
 * @param others further values under which the network computes the same
 */
export const only = <const V extends string | number | boolean | null>(value: V, ...others: V[]) =>
  z
    .literal([value, ...others], {
      error: ({ input }) =>
        `${JSON.stringify(input)} is not supported, only ${[value, ...others].map(String).join(' or ')}`,
    })
    .default(value as never);

/** An option that changes nothing of what a trained network computes, whatever it says. */
export const unused = () =>
  z
    .unknown()
    .optional()
    .transform(() => undefined);

/** Kinds of blocks; the first versions had `UNetRes` in front of their names. */
export const blockTypes = <const N extends string>(...names: [N, ...N[]]) =>
  z
    .array(z.preprocess((name) => (typeof name === 'string' ? name.replace(/^UNetRes/, '') : name), z.enum(names)))
    .min(1)
    .max(16);
