import type { Objective } from './objective.js';

/** Anchors the tangent: u(x, t, t) = v(x, t). With the velocity of the pair (x0, z) it is flow matching. */
export const diagonal: Objective = {
  name: 'diagonal',
  summary: 'the velocity at s = t: its share of the batch is the share on the diagonal (Lipman et al., 2023)',
  // Many short jumps drift off a velocity that is not held, which a nearly straight teacher would follow better.
  weight: { points: 0.25, images: 0.2 },
  asked: 'diagonal',
  sampler: 'euler',
  target: ({ x, t, teacher }) => teacher(x, t),
};
