import * as z from 'zod';
import { UserError } from '../src/errors.js';
import { readText, type Store } from '../src/files/store.js';
import { renderReport } from '../src/report/html.js';
import { markdownTable } from '../src/report/table.js';
import { summaryFigures, summaryTable, summarizeRecipe, type RecipeSummary } from './summary.js';
import type { Evaluation } from './evaluation/evaluation.js';
import type { EvaluationTable } from './evaluation/tables.js';

/** A recipe as it was written. */
export type Tree = Record<string, unknown>;
const tree = z.record(z.string(), z.unknown());

/** Names become folders, which must stay below the study's own. */
const recipeName = /^[A-Za-z0-9][\w.-]*$/;

/** Checked before the schema reads the recipes, because it drops what is called `__proto__`. */
function checkNames(recipes: unknown, context: z.RefinementCtx): void {
  if (typeof recipes !== 'object' || recipes === null || Array.isArray(recipes)) return;
  const names = Object.keys(recipes);
  const refuse = (name: string, message: string) => context.addIssue({ code: 'custom', path: [name], message });
  if (!names.length) context.addIssue({ code: 'custom', message: 'a study needs one recipe at least' });
  const wrong = names.find((name) => !recipeName.test(name));
  if (wrong !== undefined) refuse(wrong, 'a name starts with a letter or a digit and goes on with these, _, - and .');
  const folded = names.map((name) => name.toLowerCase());
  const twice = names.find((_, i) => folded.indexOf(folded[i]) !== i);
  if (twice !== undefined) refuse(twice, 'another name differs in case alone: some disks hold but one');
}

/** A grid of recipes and seeds. */
export const studySchema = z
  .strictObject({
    /** Absent where every recipe learns from data alone. */
    teacher: z.string().optional(),
    arch: z.string().optional(),
    data: z.string().optional(),
    /** A classifier whose features judge samples too, and what describes it where its file does not. */
    features: z.string().optional(),
    featuresArch: z.string().optional(),
    seeds: z
      .array(z.number().int().min(0))
      .min(1, 'a study needs one seed at least')
      .refine((seeds) => new Set(seeds).size === seeds.length, 'a seed stands twice: its run would be counted twice'),
    /** What all recipes share. */
    common: tree.nullish().transform((common) => common ?? {}),
    /** By name, what each changes in its method's preset. */
    recipes: z.unknown().superRefine(checkNames).pipe(z.record(z.string(), tree.nullable())),
  })
  .readonly();
/** A study as its YAML states it, checked. */
export type StudyPlan = z.infer<typeof studySchema>;

/** One training of a study. */
export interface StudyRun {
  name: string;
  seed: number;
  /** Where its files are, below the study's place. */
  path: string;
  /** What its method's preset is overridden by. */
  recipe: Tree;
}

/** All runs of a study, recipe by recipe. */
export const studyRuns = ({ recipes, seeds, common }: StudyPlan): StudyRun[] =>
  Object.entries(recipes).flatMap(([name, recipe]) =>
    seeds.map((seed) => ({
      name,
      seed,
      path: `${name}/seed-${seed}`,
      recipe: { ...deepMerge(common, recipe ?? {}), seed },
    })),
  );

function deepMerge(base: Tree, over: Tree): Tree {
  const isTree = (value: unknown): value is Tree =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  return Object.fromEntries(
    [...new Set([...Object.keys(base), ...Object.keys(over)])].map((key) => {
      const [below, above] = [base[key], over[key]];
      return [key, isTree(below) && isTree(above) ? deepMerge(below, above) : (above ?? below)];
    }),
  );
}

/** Where a study writes, and how its runs are carried out. */
export interface StudyOptions {
  /** How messages and the report call it. */
  title: string;
  /** Where runs, tables and the report are kept. */
  store: Store;
  /** The plan as text, shown in the report. */
  text: string;
  /**
   * Trains and evaluates one run in its place below the store, where its evaluation is left as `evaluation.json`, or goes
   * on with what is there. Returns false where it was interrupted.
   */
  carryOut: (run: StudyRun) => Promise<boolean>;
  /** Called before a run that is not done yet, with its number and that of all. */
  onRun?: (run: StudyRun, number: number, of: number) => void;
}

/** What a study writes beside its runs. */
export const studyFiles = ['study.json', 'study.md', 'study.html'] as const;

/** A study that has come to its end. */
export interface StudyResult {
  rows: RecipeSummary[];
  table: EvaluationTable;
}

/**
 * Trains every recipe with every seed and writes one table and two figures over them: `study.json`, `study.md` and
 * `study.html`. Runs that are done are not repeated, but for their evaluation where features are asked for that it lacks; an
 * interrupted one goes on. Null where a run was interrupted.
 * @throws UserError where the evaluation of an earlier run cannot be read
 */
export async function runStudy(
  plan: StudyPlan,
  { title, store, text, carryOut, onRun }: StudyOptions,
): Promise<StudyResult | null> {
  const evaluations = new Map<string, Evaluation[]>();
  const all = studyRuns(plan);
  for (const [i, run] of all.entries()) {
    let evaluation = await evaluationOf(store, run);
    if (!evaluation || (plan.features && !isJudged(evaluation))) {
      onRun?.(run, i + 1, all.length);
      if (!(await carryOut(run))) return null;
      evaluation = await evaluationOf(store, run);
      if (!evaluation) throw new Error(`the run ${run.path} left no evaluation`);
    }
    evaluations.set(run.name, [...(evaluations.get(run.name) ?? []), evaluation]);
  }
  const rows = [...evaluations].map(([name, of]) => summarizeRecipe(name, of));
  const count = plan.seeds.length;
  const heading =
    count > 1
      ? `${title}: means over ${count} seeds, ± half of Student's 95 % interval; worth: median, least … most`
      : `${title}: one seed, which says nothing of the spread`;
  const table = { heading, table: summaryTable(rows) };
  const [jsonFile, textFile, pageFile] = studyFiles;
  await store.write(jsonFile, `${JSON.stringify({ plan, rows }, null, 2)}\n`);
  await store.write(textFile, `${heading}\n\n${markdownTable(table.table)}\n`);
  const sections = [
    { heading: 'Recipes', table: table.table },
    { heading: 'Figures', svgs: await summaryFigures(rows) },
    { heading: 'The study', code: text },
  ];
  await store.write(pageFile, renderReport({ title: `Study ${title}`, subtitle: heading, sections }));
  return { rows, table };
}

/** Whether samples were judged by features too, as far as there are some. */
const isJudged = ({ quality }: Evaluation) => quality.every(({ features }) => features);

/** What an earlier run of a study left; null where it has not come to its end. */
async function evaluationOf(store: Store, { path }: StudyRun): Promise<Evaluation | null> {
  const file = `${path}/evaluation.json`;
  const text = await readText(store, file);
  if (text === null) return null;
  try {
    const evaluation = JSON.parse(text) as Evaluation;
    summarizeRecipe('', [evaluation]);
    return evaluation;
  } catch {
    throw new UserError(`${store.name}/${file} is damaged: remove it, and the run will be evaluated again`);
  }
}
