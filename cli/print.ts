import { stringify } from 'yaml';
import type { KernelTime } from '../src/gpu/profiler.js';
import type { Table } from '../src/report/table.js';
import { textTable } from '../src/report/table.js';
import type { EvaluationTable } from '../trainers/evaluation/tables.js';

/** Prints a configuration or any plain tree as YAML. */
export function printTree(tree: object): void {
  console.log(stringify(tree).trimEnd());
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
