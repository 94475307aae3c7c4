import type { Objective } from './objective.js';

/** Anchors the tangent: u(x, t, t) = v(x, t). */
export const diagonal: Objective = {
  diagonal: true,
  target: ({ x, t, teacher }) => teacher(x, t),
};
