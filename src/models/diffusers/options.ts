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
