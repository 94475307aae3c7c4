import { UserError } from '../../src/errors.js';
import { issueText } from '../../src/issue.js';
import { consistency } from './consistency.js';
import { dataDiagonal } from './data-diagonal.js';
import { diagonal } from './diagonal.js';
import { distribution } from './distribution.js';
import { eulerian } from './eulerian.js';
import { lagrangian } from './lagrangian.js';
import { meanVelocity } from './mean-velocity.js';
import { objectiveSchema, type Objective } from './objective.js';
import { semigroup } from './semigroup.js';
import { trajectory } from './trajectory.js';

/** In the order in which they share a batch. */
const registry: Objective[] = [
  lagrangian,
  eulerian,
  semigroup,
  consistency,
  trajectory,
  meanVelocity,
  diagonal,
  dataDiagonal,
  distribution,
];

/** What a step reports beside the loss of each objective. */
const shownNames = ['step', 'loss', 'gradientNorm'];

/** All objectives, built in and registered. */
export const objectives = (): readonly Objective[] => registry;

/**
 * The objective of a name.
 * @throws UserError where there is none
 */
export function objectiveNamed(name: string): Objective {
  const found = registry.find((objective) => objective.name === name);
  if (found) return found;
  throw new UserError(`${name} is no objective: there are ${registry.map((one) => one.name).join(', ')}`, 'lambda');
}

/**
 * Adds an objective: from then on recipes have a weight for it, and a solver where it has one.
 * @returns the same objective
 * @throws UserError where something of it is missing, or another one has its name
 */
export function registerObjective(objective: Objective): Objective {
  const checked = objectiveSchema.safeParse(objective);
  if (!checked.success) {
    const [issue] = checked.error.issues;
    const what = typeof objective?.name === 'string' ? `the objective ${objective.name}` : 'an objective';
    throw new UserError(`${what}: ${[...issue.path, issueText(issue)].join(': ')}`);
  }
  const { name } = objective;
  // The key of the steps of `mine` would be that of the solver of `mineSteps`.
  if (name.endsWith('Steps'))
    throw new UserError(`the objective ${name}: a name that ends with Steps is that of a key`);
  if (shownNames.includes(name)) throw new UserError(`the objective ${name}: a metric has that name, choose another`);
  const same = registry.find((other) => other.name === name);
  if (same && same !== objective)
    throw new UserError(`there is an objective named ${name} already: choose another name`);
  if (!same) registry.push(objective);
  return objective;
}
