import { stringify } from 'yaml';
import type { CompileOptions } from '../src/autodiff/compile.js';
import type { KernelTime } from '../src/gpu/profiler.js';
import type { Table } from '../src/report/table.js';
import { textTable } from '../src/report/table.js';
import type { EvaluationTable } from '../trainers/evaluation/tables.js';

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

export function printTables(tables: readonly EvaluationTable[]): void {
  for (const { heading, table, notes = [] } of tables) {
    console.log(`\n${heading}\n${textTable(table)}`);
    for (const note of notes) console.log(note);
  }
}
