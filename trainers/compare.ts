import type { Table } from '../src/report/table.js';
import { summaryTable, summarizeRecipe, type RecipeSummary } from './summary.js';
import type { Evaluation } from './evaluation/evaluation.js';

/** A run that came to its end. */
export interface ComparedRun {
  /** How it is called where that tells it from the others. */
  name: string;
  folder: string;
  recipe: { readonly steps: number };
  /** Fingerprints of what it learned from. */
  inputs: Readonly<Record<string, string>>;
  evaluation: Evaluation;
  /** Of training; null where it is not known. */
  seconds: number | null;
}

/** Several runs side by side. */
export interface Comparison {
  /** Each run without its figures, and the row that it is in. */
  runs: (Omit<ComparedRun, 'evaluation'> & { row: string })[];
  rows: RecipeSummary[];
  table: Table;
  /** What has to be known before figures are held against each other, a line each. */
  notes: string[];
}

/** Runs side by side: those that differ in their seed alone are one row, with an interval. */
export function compareRuns(given: readonly ComparedRun[]): Comparison {
  const names = given.map(({ name }) => name);
  const called = (run: ComparedRun) => (names.filter((name) => name === run.name).length > 1 ? run.folder : run.name);
  const groups = new Map<string, ComparedRun[]>();
  const seen = new Map<string, number>();
  for (const run of given) {
    const whole = JSON.stringify([run.recipe, Object.entries(run.inputs).sort()]);
    // The same run made twice says nothing of the spread: it is a row of its own.
    const again = seen.get(whole) ?? 0;
    seen.set(whole, again + 1);
    const key = JSON.stringify([{ ...run.recipe, seed: 0 }, Object.entries(run.inputs).sort(), again]);
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  const rows: { members: ComparedRun[]; summary: RecipeSummary }[] = [...groups.values()].map((members) => {
    const name = members.length > 1 ? members.map(called).join(' + ') : called(members[0]);
    return {
      members,
      summary: summarizeRecipe(
        name,
        members.map(({ evaluation }) => evaluation),
      ),
    };
  });
  const { columns, rows: cells } = summaryTable(rows.map(({ summary }) => summary));
  return {
    runs: rows.flatMap(({ members, summary }) =>
      members.map(({ name, folder, recipe, inputs, seconds }) => ({
        name,
        folder,
        recipe,
        inputs,
        seconds,
        row: summary.name,
      })),
    ),
    rows: rows.map(({ summary }) => summary),
    table: {
      columns: ['run', 'method', 'steps', 'seeds', 'minutes', ...columns.slice(1)],
      rows: rows.map(({ members, summary }, i) => [
        summary.name,
        methodOf(members[0]),
        members[0].recipe.steps,
        members.length,
        minutesOf(members),
        ...cells[i].slice(1),
      ]),
    },
    notes: notesOn(given, called),
  };
}

const methodOf = ({ recipe }: ComparedRun) => (recipe as { method?: string }).method ?? '–';

function minutesOf(members: readonly ComparedRun[]): number {
  const known = members.flatMap(({ seconds }) => (seconds === null ? [] : [seconds / 60]));
  return known.length ? known.reduce((sum, minutes) => sum + minutes, 0) / known.length : NaN;
}

/** What makes figures of two runs incomparable, and what evaluations themselves say beside theirs. */
function notesOn(runs: readonly ComparedRun[], called: (run: ComparedRun) => string): string[] {
  const [first, ...others] = runs;
  const truth = ({ evaluation: { report } }: ComparedRun) =>
    `${report.truth} on ${report.samples} points of seed ${report.seed}`;
  const notes: string[] = [];
  for (const run of others) {
    for (const input of ['teacher', 'data'])
      if (run.inputs[input] !== first.inputs[input])
        notes.push(`${called(run)} was made from another ${input} than ${called(first)}`);
    if (truth(run) !== truth(first))
      notes.push(
        `${called(run)} is held against ${truth(run)}, ${called(first)} against ${truth(first)}: their errors are not comparable`,
      );
  }
  const said = runs.flatMap(({ evaluation }) => evaluation.tables.flatMap((table) => table.notes ?? []));
  return [...new Set([...notes, ...said])];
}
