import { consistency } from './consistency.js';
import { diagonal } from './diagonal.js';
import { eulerian } from './eulerian.js';
import { lagrangian } from './lagrangian.js';
import { meanVelocity } from './mean-velocity.js';
import type { Objective } from './objective.js';
import { semigroup } from './semigroup.js';
import { trajectory } from './trajectory.js';

/** Objectives by the name of their weight, λ. */
export const objectives = {
  lmd: lagrangian,
  emd: eulerian,
  semigroup,
  consistency,
  trajectory,
  meanVelocity,
  diagonal,
} satisfies Record<string, Objective>;
export type ObjectiveName = keyof typeof objectives;
