import { eulerian } from './eulerian.js';
import type { Objective } from './objective.js';

/**
 * Endpoint consistency: the Eulerian objective with every jump to the end of the path, s = 0. The teacher goes from t to
 * t', and both are to reach the same data point. (Song et al., Consistency Models, 2023.)
 */
export const consistency: Objective = {
  name: 'consistency',
  summary: 'endpoint consistency (Song et al., 2023)',
  // Images are judged at their ends.
  weight: { points: 0, images: 0.4 },
  asked: 'end',
  solver: 'heun',
  smallDivisor: 'limit',
  sampler: 'consistency',
  target: eulerian.target,
};
