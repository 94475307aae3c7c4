import type { Objective } from './objective.js';

/** Anchors the tangent: u(x, t, t) = v(x, t). With the velocity of the pair (x0, z) it is flow matching. */
export const diagonal: Objective = {
  asked: 'diagonal',
  target: ({ x, t, teacher }) => teacher(x, t),
};
