import type { Network } from '../../src/flow/network.js';
import { formatNumber } from '../../src/report/table.js';
import type { Evaluation } from './evaluation.js';
import type { FlowMapReport } from './flow-map.js';
import { worthInWords } from './tables.js';
import { nounOf, stepOf } from './words.js';

/** What is known of how a student came to be. */
export interface Making {
  /** The method of its recipe. */
  method?: string;
  steps?: number;
  seed?: number;
  /** How the teacher and the data are called. */
  teacher?: string;
  data?: string;
  /** Seconds of training. */
  seconds?: number;
}

/** What comes of one step, by the number of the teacher's Euler steps that it is worth. */
const grades = [
  { from: 16, says: 'That is good: sampling costs a small part of what it did, at the same quality.' },
  { from: 4, says: 'That is fair: more steps of training bring more.' },
  { from: 0, says: 'That is poor: train longer, or with a larger batch.' },
] as const;

/** What came of a training, in sentences for who meets it for the first time; a sentence less for what is not known. */
export function verdict(
  student: Network,
  evaluation: Pick<Evaluation, 'report' | 'quality'> | null,
  { method, steps, teacher, data }: Making = {},
): string {
  const noun = nounOf(student);
  const how = [method && `by ${method}`, steps && `in ${steps} steps`].filter(Boolean).join(' ');
  const made = teacher
    ? `A ${noun} was distilled from the teacher ${teacher}${how && ` ${how}`}.`
    : `A ${noun} was trained${data ? ` on ${data}` : ''}${how && ` ${how}`}.`;
  if (!evaluation) return `${made} It was not evaluated.`;
  const { report, quality } = evaluation;
  const { worthEulerSteps, drift } = report;
  const field = teacher ? 'the teacher' : 'its own velocity';
  const step = stepOf(student);
  const worth = `One ${step}, a single call of the network, comes as near to the true flow as ${worthInWords(worthEulerSteps)} of ${field}.`;
  const grade = grades.find(({ from }) => worthEulerSteps.steps >= from)!;
  const behind = noun === 'flow map' && teacher ? behindSentence(report) : '';
  const samples = samplesSentence(quality);
  const last = drift.at(-1);
  const composes =
    noun === 'flow map' && last
      ? `Jumping in ${last.hops} hops ends ${formatNumber(Math.sqrt(last.drift), 2)} a coordinate away from one jump, in the mean.`
      : '';
  return [made, worth, grade.says, behind, samples, composes].filter(Boolean).join(' ');
}

/** Where a student does worse than its teacher's plain steps would at the same cost, which must not be. */
function behindSentence({ jumps, solvers }: FlowMapReport): string {
  const euler = new Map(solvers.flatMap(({ solver, steps, rmse }) => (solver === 'euler' ? [[steps, rmse]] : [])));
  const behind = jumps.filter(({ jumps: calls, rmse }) => rmse > (euler.get(calls) ?? Infinity));
  if (!behind.length) return '';
  const calls = behind.map(({ jumps: count }) => count).join(' and ');
  return `At ${calls} calls Euler steps of the teacher are nearer: give the velocity, λ of the diagonal, more weight, or train longer.`;
}

function samplesSentence(quality: Evaluation['quality']): string {
  const of = (by: string, steps: number) => quality.find((row) => row.by === by && row.steps === steps)?.slicedW2;
  const [floor, one, fine] = [of('data', 0), of('flow map', 1), of('teacher', 50)];
  if (typeof one !== 'number' || typeof floor !== 'number') return '';
  const teacher = typeof fine === 'number' ? ` and 50 steps of the teacher ${formatNumber(fine, 2)}` : '';
  return `Its samples in one step are ${formatNumber(one, 2)} from held-out data (sliced W2), where other data read ${formatNumber(floor, 2)}${teacher}.`;
}
