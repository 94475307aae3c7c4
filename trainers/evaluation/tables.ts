import { describeFit, type TeacherFit } from '../../src/flow/teacher-fit.js';
import type { EqualSteps } from '../../src/metrics/flow-map.js';
import { formatNumber, type Table } from '../../src/report/table.js';
import type { FlowMapReport } from './flow-map.js';

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
export function flowMapTables(report: FlowMapReport): EvaluationTable[] {
  return [
    {
      heading: `Error of the flow map against ${report.truth}, ${report.samples} samples, seed ${report.seed}`,
      table: {
        columns: ['what', 'RMSE'],
        rows: [
          ['random (t, s)', report.operatorRmse],
          ...report.byJump.map(({ from, to, rmse }) => [`  of these |t − s| in ${from} … ${to}`, rmse]),
          ['tangent u(x, t, t) against v', report.tangentRmse],
        ],
      },
    },
    {
      heading: `From noise to data; one jump is worth ${worthInWords(report.worthEulerSteps)}`,
      table: {
        columns: ['by', 'evaluations', 'RMSE'],
        rows: [
          ...report.jumps.map(({ jumps, rmse }) => [
            `${jumps} jump${jumps > 1 ? 's' : ''} of the flow map`,
            jumps,
            rmse,
          ]),
          ...report.solvers.map(({ solver, steps, evaluations, rmse }) => [
            `${steps} ${solver} step${steps > 1 ? 's' : ''} of the teacher`,
            evaluations,
            rmse,
          ]),
        ],
      },
    },
    {
      heading: 'Semigroup drift: mean square difference between the direct jump and k hops',
      table: { columns: ['k', 'Δ_k'], rows: report.drift.map(({ hops, drift }) => [hops, drift]) },
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
  };
}
