import { UserError } from '../src/errors.js';
import { excess, MemoryError, savingOf, shortage, type AvailableMemory, type Saving } from '../src/flow/memory.js';
import type { Device } from '../src/gpu/device.js';
import { alone } from '../src/gpu/group.js';
import { planTraining, type PlannedTraining, type TrainerPlan } from './trainer.js';

/** Options by their places in a recipe with their new values, and the training that they make; null where they cannot be. */
export interface Alternative {
  changes: Readonly<Record<string, string>>;
  plan: () => TrainerPlan;
}

/** Ways to take less memory by the same options: the first that is enough is told, or the last. */
export interface Ways {
  ways: readonly Alternative[];
  /** Only where no others are enough. */
  last?: true;
}

/** Every way to take less memory; made where it is asked for. */
export type Savings = () => readonly Ways[];

type Known = Pick<Device, 'profile' | 'pageBytes'> & Partial<Pick<Device, 'group'>>;

/** How a training is run without changing what is learned. */
export interface Running {
  /** The memory that there is, where it is known: what needs more is refused. */
  memory?: AvailableMemory;
  /** In how many parts, one after another, a step's batch is computed: less memory, the same step to rounding. */
  accumulate?: number;
}

/**
 * The plan of a training that fits in memory.
 * @throws MemoryError with the figures, and which options would make it fit
 */
export function planWithin(
  device: Known,
  task: TrainerPlan,
  { memory: available = {}, accumulate = 1 }: Running = {},
  savings: Savings = () => [],
): PlannedTraining {
  if (!Number.isSafeInteger(accumulate) || accumulate < 1)
    throw new UserError(`${accumulate} parts of a batch: give a whole number from 1`, 'accumulate');
  const inParts = (plan: TrainerPlan, parts = accumulate): TrainerPlan => ({ ...plan, accumulate: parts });
  let cause: string;
  try {
    const planned = planTraining(device, inParts(task));
    if (!excess(planned.needs, available)) return planned;
    cause = shortage(planned.needs, available);
  } catch (error) {
    // A kernel that binds too much, which smaller tensors may mend.
    if (!(error instanceof UserError) || error.field) throw error;
    cause = error.message;
  }
  const tried: Saving[] = [];
  const parts = moreParts(task, accumulate * (device.group ?? alone).size);
  const finer = parts.map((more) => ({
    changes: { accumulate: String(more * accumulate) },
    plan: () => inParts(task, more * accumulate),
  }));
  for (const { last, ways } of [{ last: undefined, ways: finer }, ...savings()]) {
    // All at once is for where nothing else is enough.
    if (last && tried.some(({ enough }) => enough)) continue;
    const found: Saving[] = [];
    for (const { changes, plan: changed } of ways) {
      const needs = needsOf(device, () => inParts(changed(), Number(changes.accumulate ?? accumulate)));
      if (needs) found.push(savingOf(changes, needs, available));
      if (found.at(-1)?.enough) break;
    }
    tried.push(...found.slice(-1));
  }
  throw new MemoryError(cause, tried);
}

/** How many times as many parts a batch can be computed in: 2, 4, and so on. */
function moreParts({ learners }: TrainerPlan, parts: number): number[] {
  const rows = learners.map(({ rows = [] }) => rows.reduce((sum, count) => sum + count, 0));
  const most = Math.max(0, Math.floor(Math.log2(Math.min(...rows) / parts)));
  return Array.from({ length: Number.isFinite(most) ? most : 0 }, (_, i) => 2 ** (i + 1));
}

/** What a plan needs; null where it cannot be. */
function needsOf(device: Known, plan: () => TrainerPlan) {
  try {
    return planTraining(device, plan()).needs;
  } catch (error) {
    if (error instanceof UserError) return null;
    throw error;
  }
}

/** Options that a recipe can save memory by. */
export interface SavingRecipe {
  batch: number;
  precision: 'f32' | 'f16';
  checkpointBlocks?: boolean;
}

/**
 * The usual ways of a recipe to take less memory.
 * @param planOf the training of a changed recipe
 * @param others ways of its own
 */
export function savingsOf<R extends SavingRecipe>(
  recipe: R,
  planOf: (changed: R) => TrainerPlan,
  others: readonly { changes: Record<string, string>; recipe: R }[] = [],
): Savings {
  const { batch, precision, checkpointBlocks } = recipe;
  const way = (changes: Record<string, string>, changed: R): Alternative => ({ changes, plan: () => planOf(changed) });
  const halved = Array.from({ length: Math.max(0, Math.floor(Math.log2(batch))) }, (_, i) => batch >> (i + 1));
  const lean: R = {
    ...recipe,
    ...(checkpointBlocks !== undefined && { checkpointBlocks: true }),
    precision: 'f16' as const,
  };
  const together = {
    ...(checkpointBlocks === false && { checkpointBlocks: 'true' }),
    ...(precision === 'f32' && { precision: 'f16' }),
  };
  return () => [
    ...(checkpointBlocks === false
      ? [{ ways: [way({ checkpointBlocks: 'true' }, { ...recipe, checkpointBlocks: true })] }]
      : []),
    ...(precision === 'f32' ? [{ ways: [way({ precision: 'f16' }, { ...recipe, precision: 'f16' as const })] }] : []),
    ...others.map(({ changes, recipe: changed }) => ({ ways: [way(changes, changed)] })),
    { ways: halved.map((size) => way({ batch: String(size) }, { ...recipe, batch: size })) },
    ...(Object.keys(together).length
      ? [
          {
            ways: halved.map((size) => way({ ...together, batch: String(size) }, { ...lean, batch: size })),
            last: true as const,
          },
        ]
      : []),
  ];
}
