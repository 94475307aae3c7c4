import { Question } from '../../src/flow/questions.js';
import type { Objective } from './objective.js';

/**
 * The diagonal by data: u(x, t, t) regressed on z - x0 of each pair, whose mean is the velocity of the data itself. Where
 * data is at hand, a student that learns jumps of its own velocity can leave its teacher's errors behind.
 */
export const dataDiagonal: Objective = {
  name: 'dataDiagonal',
  summary: 'the velocity of the data at s = t, in place of the teacher (flow matching, Lipman et al., 2023)',
  asked: 'diagonal',
  ofData: true,
  sampler: 'euler',
  target: ({ pair }) => Question.answered(pair),
};
