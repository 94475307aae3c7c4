import { diagonal } from './diagonal.js';
import { eulerian } from './eulerian.js';
import { lagrangian } from './lagrangian.js';
import type { Objective } from './objective.js';
import { semigroup } from './semigroup.js';

/** Objectives by the name of their weight, λ. */
export const objectives = { lmd: lagrangian, emd: eulerian, semigroup, diagonal } satisfies Record<string, Objective>;
export type ObjectiveName = keyof typeof objectives;
