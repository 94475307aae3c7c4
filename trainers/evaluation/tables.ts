import { describeFit, type TeacherFit } from '../../src/flow/teacher-fit.js';
import type { EqualSteps } from '../../src/metrics/flow-map.js';
import { formatNumber, type Table } from '../../src/report/table.js';
import type { Network } from '../../src/flow/network.js';
import type { FlowMapReport } from './flow-map.js';
import { counted, nounOf, solverName, stepOf } from './words.js';

/** A table under its heading, for terminal, report and documents alike. */
export interface EvaluationTable {
  heading: string;
  table: Table;
  /** What has to be said beside these figures, a line each. */
  notes?: string[];
  /** What the columns mean, a line each. */
  about?: string[];
}

/** "more than 96 Euler steps". */
export const worthInWords = ({ steps, relation }: EqualSteps): string =>
  `${{ '=': '', '>': 'more than ', '<': 'fewer than ' }[relation]}${steps.toFixed(1)} Euler steps`;

/** "12.3", or where only a bound is known "> 96". */
export const worthCell = ({ steps, relation }: EqualSteps): string =>
  `${relation === '=' ? '' : `${relation} `}${formatNumber(steps)}`;

/** The tables of a flow map's errors. */
export function flowMapTables(report: FlowMapReport, student: Network): EvaluationTable[] {
  const [noun, step] = [nounOf(student), stepOf(student)];
  const finest = report.solvers.reduce((best, row) => (row.rmse < best.rmse ? row : best));
  const floor = report.truth.startsWith('the exact flow')
    ? `its floor is what the teacher itself errs: from noise to data ${finest.steps} ${solverName(finest.solver)} steps of it read ${formatNumber(finest.rmse)}`
    : 'its floor is 0, as the true flow is the same network finely integrated';
  return [
    {
      heading: `Error of the ${noun} against ${report.truth}, ${report.samples} samples, seed ${report.seed}`,
      table: {
        columns: ['what', 'RMSE'],
        rows: [
          ['random (t, s)', report.operatorRmse],
          ...report.byJump.map(({ from, to, rmse }) => [`  of these |t − s| in ${from} … ${to}`, rmse]),
          ['tangent u(x, t, t) against v', report.tangentRmse],
        ],
      },
      about: [
        'RMSE: root mean square distance, over points, to where the true flow goes; in the units of the data. 0 is perfect',
        floor,
        'tangent: of a jump of no length, which is the velocity itself',
      ],
    },
    {
      heading: `From noise to data; one ${step} is worth ${worthInWords(report.worthEulerSteps)}`,
      table: {
        columns: ['by', 'evaluations', 'RMSE'],
        rows: [
          ...report.jumps.map(({ jumps, rmse }) => [`${counted(jumps, step)} of the ${noun}`, jumps, rmse]),
          ...report.solvers.map(({ solver, steps, evaluations, rmse }) => [
            `${counted(steps, `${solverName(solver)} step`)} of the teacher`,
            evaluations,
            rmse,
          ]),
        ],
      },
      about: [
        'evaluations: calls of the network for each sample, which is what sampling costs',
        'worth: the number of Euler steps at which the teacher errs as much as one step of the student',
      ],
    },
    {
      heading: 'Semigroup drift: mean square difference between the direct jump and k hops',
      table: { columns: ['k', 'Δ_k'], rows: report.drift.map(({ hops, drift }) => [hops, drift]) },
      about: [
        'Δ_k: a coordinate, squared; 0 for a map that composes, which a wrong one may do as well: read it beside RMSE',
      ],
    },
  ];
}

/** How well the teacher fits the data, with a warning where that speaks against its description. */
export function fitTable(fit: TeacherFit, name: string): EvaluationTable {
  const { line, warning } = describeFit(fit, name);
  return {
    heading: `The teacher on held-out ${name}`,
    table: {
      columns: ['velocity', 'flow-matching loss'],
      rows: [
        ['as the teacher is described', fit.loss],
        ['with its time the other way round', fit.flipped],
        ['none at all, v = 0', fit.zero],
      ],
    },
    notes: warning ? [line] : [],
    about: [
      'loss: mean square distance of its velocity to z - x0; the least that any can reach is above 0, as paths cross',
    ],
  };
}
