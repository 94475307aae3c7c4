import type { Network } from '../src/flow/network.js';
import type { Device } from '../src/gpu/device.js';
import type { Evaluation } from '../trainers/evaluation/evaluation.js';
import { reportRun } from '../trainers/evaluation/run-report.js';
import { evaluationDataset } from './evaluation-data.js';
import { printTables } from './print.js';
import type { RunFiles } from '../trainers/run-files.js';
import { configFile } from './training-flags.js';

/** Finishes a run: pictures, evaluation.json, report.html, and the tables on the terminal. */
export async function finishReport(
  device: Device,
  files: RunFiles,
  teacher: Network,
  student: Network,
  given: string | undefined,
  options: { evaluate: boolean; densities: boolean },
): Promise<Evaluation | null> {
  if (options.evaluate) console.log('evaluating against the true flow map');
  const data = options.evaluate ? await evaluationDataset(teacher, given) : null;
  const evaluation = await reportRun({ device, teacher, student, data }, files, {
    ...options,
    metrics: await files.metrics(),
    config: (await files.text(configFile)) ?? '',
  });
  if (evaluation) printTables(evaluation.tables);
  console.log(`\nreport    ${files.path('report.html')}\nflow map  ${files.path('student.safetensors')}`);
  return evaluation;
}
