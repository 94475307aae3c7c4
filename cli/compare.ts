import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { writeFileAtomic } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import { UserError } from '../src/errors.js';
import { readText } from '../src/files/store.js';
import { renderReport } from '../src/report/html.js';
import { markdownTable } from '../src/report/table.js';
import { summaryFigures } from '../trainers/summary.js';
import { compareRuns, type Comparison, type ComparedRun } from '../trainers/compare.js';
import type { Evaluation } from '../trainers/evaluation/evaluation.js';
import { readMark } from '../trainers/run-files.js';
import { called } from './called.js';
import { checkOutput } from './output.js';
import { printTables } from './print.js';

export interface CompareFlags {
  out?: string[];
  json?: boolean;
}

/** What `--out` may end in. */
const endings = ['.html', '.md', '.json', '.svg'];

/** `semiflow compare`: what came of several runs, as one table and one figure. */
export async function compare(paths: readonly string[], flags: CompareFlags): Promise<void> {
  const outputs = [...new Set(flags.out ?? [])];
  for (const out of outputs) await checkOutput(out, endings);
  const folders = (await Promise.all(paths.map(runsAt))).flat();
  const found: (ComparedRun | string)[] = [];
  for (const folder of new Set(folders)) found.push(await readRun(folder));
  const runs = found.filter((run) => typeof run !== 'string');
  const unjudged = found.filter((run) => typeof run === 'string');
  if (unjudged.length === 1)
    throw new UserError(`${unjudged[0]} has no evaluation: \`${called} train --resume ${unjudged[0]}\` makes one`);
  if (unjudged.length)
    throw new UserError(
      `${unjudged.join(', ')} have no evaluation: \`${called} train --resume FOLDER\` makes one, for each of them`,
    );
  if (runs.length < 2) throw new UserError('two runs and more are compared: give their folders, or that of a study');
  const comparison = compareRuns(runs);
  const { table, notes } = comparison;
  const heading = `${runs.length} runs`;
  if (flags.json) console.log(asJson(comparison));
  else printTables([{ heading, table, notes }]);
  for (const out of outputs) await writeFileAtomic(out, await contentOf(out, heading, comparison));
  if (outputs.length && !flags.json) console.log(`\n${outputs.join('\n')}`);
}

const asJson = ({ runs, rows, notes }: Comparison): string => JSON.stringify({ runs, rows, notes }, null, 2);

async function contentOf(out: string, heading: string, comparison: Comparison): Promise<string> {
  const { table, rows, notes } = comparison;
  if (out.endsWith('.json')) return `${asJson(comparison)}\n`;
  if (out.endsWith('.md'))
    return `${[markdownTable(table), notes.map((note) => `- ${note}`).join('\n')].filter(Boolean).join('\n\n')}\n`;
  const svgs = await summaryFigures(rows);
  if (out.endsWith('.html'))
    return renderReport({
      title: `Comparison of ${heading}`,
      sections: [
        { heading: 'Runs', table, about: notes },
        { heading: 'Figures', svgs },
      ],
    });
  const [errors] = svgs;
  if ('missing' in errors) throw new UserError(`${out} is ${errors.missing}`);
  return errors.svg;
}

/** The folders of runs at a path: itself, or those below it, as a study has them. */
async function runsAt(path: string): Promise<string[]> {
  if (await readMark(folderStore(path))) return [path];
  const below: string[] = [];
  const look = async (folder: string, depth: number): Promise<void> => {
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
    for (const entry of entries
      .filter((one) => one.isDirectory())
      .sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }))) {
      const inside = join(folder, entry.name);
      if (await readMark(folderStore(inside))) below.push(inside);
      else if (depth > 1) await look(inside, depth - 1);
    }
  };
  await look(path, 2);
  if (!below.length) throw new UserError(`${path} holds no run: give the folder of a run, or of a study`);
  return below;
}

/** A run; its folder alone where it was not evaluated. */
async function readRun(folder: string): Promise<ComparedRun | string> {
  const store = folderStore(folder);
  const mark = (await readMark(store))!;
  if (mark.kind !== 'flow-map')
    throw new UserError(`${folder} is the training of a ${mark.kind}: flow maps are compared`);
  const text = await readText(store, 'evaluation.json');
  if (text === null) return folder;
  let evaluation: Evaluation;
  try {
    evaluation = JSON.parse(text) as Evaluation;
    if (!Array.isArray(evaluation.report.jumps) || !Array.isArray(evaluation.quality)) throw new Error('no evaluation');
  } catch {
    throw new UserError(`${folder}/evaluation.json is damaged: \`${called} train --resume ${folder}\` evaluates anew`);
  }
  const lines = ((await readText(store, 'metrics.jsonl')) ?? '').trimEnd().split('\n');
  const { recipe, inputs } = mark;
  return { name: basename(folder), folder, recipe, inputs, evaluation, seconds: secondsOf(lines.at(-1)) };
}

/** Seconds of training, as the last line of the metrics has them. */
function secondsOf(line = ''): number | null {
  try {
    return (JSON.parse(line) as { seconds?: number }).seconds ?? null;
  } catch {
    return null;
  }
}
