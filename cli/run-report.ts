import type { Network } from '../src/flow/network.js';
import type { Device } from '../src/gpu/device.js';
import type { Evaluation } from '../trainers/evaluation/evaluation.js';
import { reportRun } from '../trainers/evaluation/run-report.js';
import { evaluationDataset } from './evaluation-data.js';
import { printTables } from './print.js';
import type { RunFolder } from './run-folder.js';

/** Finishes a run: pictures, evaluation.json, report.html, and the tables on the terminal. */
export async function finishReport(
  device: Device,
  folder: RunFolder,
  teacher: Network,
  student: Network,
  given: string | undefined,
  options: { evaluate: boolean; densities: boolean },
): Promise<Evaluation | null> {
  if (options.evaluate) console.log('evaluating against the true flow map');
  const data = options.evaluate ? await evaluationDataset(teacher, given) : null;
  const files = { name: folder.path, write: folder.write.bind(folder) };
  const evaluation = await reportRun({ device, teacher, student, data }, files, {
    ...options,
    metrics: folder.metrics(),
    config: folder.configText,
  });
  if (evaluation) printTables(evaluation.tables);
  console.log(`\nreport    ${folder.file('report.html')}\nflow map  ${folder.file(folder.weightsFile)}`);
  return evaluation;
}
