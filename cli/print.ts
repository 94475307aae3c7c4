import { stringify } from 'yaml';
import type { CompileOptions } from '../src/autodiff/compile.js';
import type { KernelTime } from '../src/gpu/profiler.js';
import type { FlowMapReport } from '../src/flow/evaluate.js';
import type { Table } from '../src/report/table.js';
import { textTable } from '../src/report/table.js';

/** Prints a configuration or any plain tree as YAML. */
export function printTree(tree: object): void {
  console.log(stringify(tree).trimEnd());
}

/** Says how much memory a compiled step takes before it is allocated, and how compilation goes. */
export function planPrinter(): Pick<CompileOptions, 'onPlan' | 'onProgress'> {
  let last = performance.now();
  const mebibytes = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
  return {
    onPlan: ({ bytes, lowerBound, kernels }) =>
      console.log(
        `a step is ${kernels} kernels over ${mebibytes(bytes)} MiB of planned memory (at least ${mebibytes(lowerBound)})`,
      ),
    onProgress: (ready, total) => {
      if (performance.now() - last < 2000) return;
      last = performance.now();
      console.log(`compiled ${ready} of ${total} kernels`);
    },
  };
}

/** Where a step's time goes, a row a kernel. */
export function profileTable(times: readonly KernelTime[]): Table {
  return {
    columns: ['kernel', 'calls', 'ms', 'GFLOP/s', 'GB/s'],
    rows: times.map((t) => [t.kernel, t.calls, t.milliseconds, t.gigaflopsPerSecond || '–', t.gigabytesPerSecond]),
  };
}

/** The tables of an evaluation, for terminal, report and documents alike. */
export function evaluationTables(report: FlowMapReport): { heading: string; table: Table }[] {
  const { steps, relation } = report.worthEulerSteps;
  return [
    {
      heading: `Error of the flow map against ${report.truth}, ${report.samples} samples, seed ${report.seed}`,
      table: {
        columns: ['what', 'RMSE'],
        rows: [
          ['random (t, s)', report.operatorRmse],
          ...report.byJump.map(({ from, to, rmse }) => [`  of these |t − s| in ${from} … ${to}`, rmse]),
          ['identity s = t', report.identityRmse],
          ['tangent u(x, t, t) against v', report.tangentRmse],
        ],
      },
    },
    {
      heading: `From noise to data; one jump is worth ${relation === '=' ? '' : relation === '>' ? 'more than ' : 'fewer than '}${steps.toFixed(1)} Euler steps`,
      table: {
        columns: ['by', 'evaluations', 'RMSE'],
        rows: [
          ...report.jumps.map(({ jumps, rmse }) => [
            `${jumps} jump${jumps > 1 ? 's' : ''} of the flow map`,
            jumps,
            rmse,
          ]),
          ...report.solvers.map(({ solver, steps: count, evaluations, rmse }) => [
            `${count} ${solver} step${count > 1 ? 's' : ''} of the teacher`,
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

export function printTables(tables: readonly { heading: string; table: Table }[]): void {
  for (const { heading, table } of tables) console.log(`\n${heading}\n${textTable(table)}`);
}
