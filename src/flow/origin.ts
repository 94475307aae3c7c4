import * as z from 'zod';
import { version } from '../version.js';

/** Metadata key under which weights that were trained here say how. */
export const originKey = 'semiflow-origin';

const schema = z.object({
  /** The version of semiflow. */
  semiflow: z.string(),
  /** What was trained: `flow-map`, `teacher`, `classifier`. */
  kind: z.string(),
  /** Steps that had been done, and those of the whole run. */
  step: z.number(),
  steps: z.number(),
  seed: z.number().optional(),
  method: z.string().optional(),
  /** Fingerprints of what it was made from, `teacher` and `data` among them. */
  inputs: z.record(z.string(), z.string()),
  /** The recipe in full. */
  recipe: z.record(z.string(), z.unknown()),
});

/** How weights came to be. */
export type Origin = z.infer<typeof schema>;

/** How the weights of a run came to be, at a step of it. */
export function originOf(
  { kind, recipe, inputs }: { kind: string; recipe: object; inputs: Readonly<Record<string, string>> },
  step: number,
): Origin {
  const { seed, method, steps } = recipe as { seed?: number; method?: string; steps: number };
  return {
    semiflow: version,
    kind,
    step,
    steps,
    ...(seed !== undefined && { seed }),
    ...(method !== undefined && { method }),
    inputs: { ...inputs },
    recipe: recipe as Origin['recipe'],
  };
}

/** As a file's metadata has it. */
export const originMetadata = (origin: Origin): Record<string, string> => ({ [originKey]: JSON.stringify(origin) });

/** What a file says of how it came to be; null where it says nothing that can be understood. */
export function readOrigin(metadata: Readonly<Record<string, string>>): Origin | null {
  try {
    return schema.parse(JSON.parse(metadata[originKey]));
  } catch {
    return null;
  }
}

/** Lines that people read: what it was made by, and from. */
export function originSummary({ semiflow, method, step, steps, seed, inputs }: Origin): [string, string][] {
  const done = step === steps ? `${steps} steps` : `${step} of ${steps} steps`;
  const by = `${method ? `${method}, ` : ''}${done}${seed === undefined ? '' : `, seed ${seed}`}, semiflow ${semiflow}`;
  const from = Object.entries(inputs).map(([name, hash]) => `${name} ${hash.slice(0, 16)}…`);
  return [['trained by', by], ...(from.length ? [['made from', from.join(', ')] as [string, string]] : [])];
}
