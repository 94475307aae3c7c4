import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { stringify } from 'yaml';
import { z } from 'zod';
import { readTextFile, writeFileAtomic } from '../node/files.js';
import { estimate, type Estimate } from '../src/metrics/estimate.js';
import { renderReport } from '../src/report/html.js';
import { linePlot } from '../src/report/plot.js';
import { markdownTable, type Table } from '../src/report/table.js';
import { check, parseYaml } from './config.js';

import { printTables } from './print.js';
import type { Evaluation } from '../trainers/evaluation/evaluation.js';
import { openSession, type DeviceFlags } from './session.js';
import { carryOut, prepare, reopen } from './train.js';

const tree = z.record(z.string(), z.unknown());

const studySchema = z.strictObject({
  /** Absent where every recipe learns from data alone. */
  teacher: z.string().optional(),
  arch: z.string().optional(),
  data: z.string().optional(),
  seeds: z.array(z.number().int().min(0)).min(1),
  /** What all recipes share. */
  common: tree.default({}),
  /** By name, what each changes in its method's preset. */
  recipes: z.record(z.string().regex(/^[\w.-]+$/), tree.nullable()),
});

/**
 * `semiflow study`: trains every recipe with every seed, each in a run folder of its own, and writes one table and one
 * figure over them. Runs that are done are not repeated, an interrupted one goes on.
 */
export async function study(path: string, flags: DeviceFlags & { out?: string }): Promise<void> {
  const { tree: parsed, locate } = parseYaml(await readTextFile(path), path);
  const plan = check(studySchema, parsed, (key) => `${path}${locate(key)}`);
  const out = flags.out ?? join('runs', basename(path).replace(/\.ya?ml$/, ''));
  const runs = Object.entries(plan.recipes).flatMap(([name, recipe]) =>
    plan.seeds.map((seed) => ({ name, seed, folder: join(out, name, `seed-${seed}`), recipe })),
  );
  // All recipes are checked before the first is trained.
  for (const run of runs) await prepareRun(run);

  const device = await openSession(flags);
  const results: { name: string; seed: number; evaluation: Evaluation }[] = [];
  for (const run of runs) {
    const { name, seed, folder } = run;
    const file = join(folder, 'evaluation.json');
    if (!existsSync(file)) {
      console.log(`\n${name}, seed ${seed}`);
      const resume = existsSync(join(folder, 'config.yaml'));
      const finished = await carryOut(device, resume ? await reopen(folder) : await prepareRun(run), {
        ...flags,
        densities: false,
        ...(resume && { resume: folder }),
      });
      if (!finished) {
        console.log(`go on with: semiflow study ${path}${flags.out ? ` --out ${flags.out}` : ''}`);
        device.dispose();
        return;
      }
    }
    results.push({ name, seed, evaluation: JSON.parse(readFileSync(file, 'utf8')) as Evaluation });
  }
  device.dispose();

  const rows = Object.keys(plan.recipes).map((name) =>
    summarize(
      name,
      results.filter((result) => result.name === name).map(({ evaluation }) => evaluation),
    ),
  );
  const heading = `${basename(path)}: means over ${plan.seeds.length} seeds, ± half of the 95 % interval`;
  const table = tableOf(rows);
  const figures = await figuresOf(rows);
  await writeFileAtomic(join(out, 'study.json'), `${JSON.stringify({ plan, rows }, null, 2)}\n`);
  await writeFileAtomic(join(out, 'study.md'), `${heading}\n\n${markdownTable(table)}\n`);
  const sections = [
    { heading: 'Recipes', table },
    { heading: 'Figures', svgs: figures },
    { heading: 'The study', text: stringify(plan) },
  ];
  await writeFileAtomic(
    join(out, 'study.html'),
    renderReport({ title: `Study ${basename(path)}`, subtitle: heading, sections }),
  );
  printTables([{ heading, table }]);
  console.log(`\ntable   ${join(out, 'study.md')}\nreport  ${join(out, 'study.html')}`);

  function prepareRun({ name, seed, folder, recipe }: (typeof runs)[number]) {
    const text = stringify({ ...deepMerge(plan.common, recipe ?? {}), seed });
    const { teacher, arch, data } = plan;
    return prepare({ teacher, arch, data, out: folder }, { name: `${path}, recipe ${name}`, text });
  }
}

type Tree = Record<string, unknown>;

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

/** What the seeds of a recipe say together. */
interface Summary {
  name: string;
  random: Estimate;
  jumps: ({ jumps: number } & Estimate)[];
  drift: ({ hops: number } & Estimate)[];
  /** Sliced Wasserstein distance of one-jump samples to data; null without data. */
  slicedW2: Estimate | null;
  worth: Estimate;
}

function summarize(name: string, evaluations: readonly Evaluation[]): Summary {
  const over = (value: (evaluation: Evaluation) => number) => estimate(evaluations.map(value));
  const [{ report, quality }] = evaluations;
  const jumpOf = ({ quality: rows }: Evaluation) => rows.find(({ samples }) => samples === '1 jump')!.slicedW2!;
  return {
    name,
    random: over((e) => e.report.operatorRmse),
    jumps: report.jumps.map(({ jumps }, i) => ({ jumps, ...over((e) => e.report.jumps[i].rmse) })),
    drift: report.drift.map(({ hops }, i) => ({ hops, ...over((e) => e.report.drift[i].drift) })),
    slicedW2: quality.length ? over(jumpOf) : null,
    worth: over((e) => e.report.worthEulerSteps.steps),
  };
}

const cell = ({ mean, half }: Estimate) =>
  half !== null ? `${mean.toPrecision(3)} ± ${half.toPrecision(1)}` : mean.toPrecision(3);

function tableOf(rows: readonly Summary[]): Table {
  const [{ jumps, drift }] = rows;
  return {
    columns: [
      'recipe',
      'RMSE, random (t, s)',
      ...jumps.map(({ jumps: count }) => `RMSE, ${count} jump${count > 1 ? 's' : ''}`),
      ...drift.map(({ hops }) => `Δ_${hops}`),
      'sliced W2, 1 jump',
      'worth Euler steps',
    ],
    rows: rows.map(({ name, random, jumps, drift, slicedW2, worth }) => [
      name,
      cell(random),
      ...jumps.map(cell),
      ...drift.map(cell),
      slicedW2 ? cell(slicedW2) : '–',
      cell(worth),
    ]),
  };
}

async function figuresOf(rows: readonly Summary[]) {
  const curve = (name: string, points: readonly ({ at: number } & Estimate)[]) => ({
    name,
    x: points.map(({ at }) => at),
    y: points.map(({ mean }) => mean),
    marked: true,
    ...(points.every(({ half }) => half !== null) && {
      interval: {
        low: points.map(({ mean, half }) => mean - half!),
        high: points.map(({ mean, half }) => mean + half!),
      },
    }),
  });
  const errors = await linePlot({
    xLabel: 'network evaluations',
    yLabel: 'RMSE, noise to data',
    xLog: true,
    yLog: true,
    xTicks: rows[0].jumps.map(({ jumps }) => jumps),
    series: rows.map(({ name, jumps }) =>
      curve(
        name,
        jumps.map((row) => ({ ...row, at: row.jumps })),
      ),
    ),
  });
  const drifts = rows.filter(({ drift }) => drift.some(({ mean }) => mean > 0));
  const drift = await linePlot({
    xLabel: 'hops k',
    yLabel: 'semigroup drift Δ_k',
    yLog: true,
    series: drifts.map(({ name, drift }) =>
      curve(
        name,
        drift.map((row) => ({ ...row, at: row.hops })),
      ),
    ),
  });
  return [
    { svg: errors.svg, caption: 'Distance to the true flow map by number of network calls, each by its own sampler.' },
    { svg: drift.svg, caption: 'Mean square difference between the direct jump and k hops.' },
  ];
}
