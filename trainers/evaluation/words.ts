import type { Network } from '../../src/flow/network.js';
import { samplerOf } from '../../src/flow/sampling.js';

/** What a student is called, by how it is sampled: only one whose jumps compose is a flow map. */
export function nounOf(student: Network): string {
  const { name } = samplerOf(student);
  if (name === 'consistency') return 'consistency model';
  return name === 'jump' ? 'flow map' : 'flow-matching model';
}

/** What one of its steps is called. */
export function stepOf(student: Network): string {
  const { name } = samplerOf(student);
  if (name === 'euler') return 'Euler step';
  return name === 'jump' ? 'jump' : 'step';
}

/** `1 jump`, `2 jumps`. */
export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;

/** Solvers as people write them, who named them after others. */
export const solverName = (solver: string): string =>
  solver === 'rk4' ? 'Runge-Kutta' : solver[0].toUpperCase() + solver.slice(1);
