import type { Network } from '../src/flow/network.js';
import type { Device } from '../src/gpu/device.js';
import type { Evaluation } from '../trainers/evaluation/evaluation.js';
import { reportRun, type RunReportOptions } from '../trainers/evaluation/run-report.js';
import { verdict } from '../trainers/evaluation/verdict.js';
import { called } from './called.js';
import { evaluationDataset } from './evaluation-data.js';
import { printTables } from './print.js';
import type { RunFiles } from '../trainers/run-files.js';
import { begin, done } from './status.js';
import { configFile } from './training-flags.js';

/** Finishes a run: pictures, evaluation.json, report.html, the model card, and the tables on the terminal. */
export async function finishReport(
  device: Device,
  files: RunFiles,
  teacher: Network,
  student: Network,
  given: string | undefined,
  options: RunReportOptions & { evaluate: boolean },
): Promise<Evaluation | null> {
  // Of pictures on a processor it takes longer than what comes before it, when one only tries.
  if (options.evaluate)
    console.log(
      `the student is saved and will be evaluated now; \`${called} train --resume ${files.name}\` does it anew where it is cut short`,
    );
  // Real pictures stand beside those of a student that is not evaluated, too.
  const data = await evaluationDataset(teacher, given);
  const metrics = await files.metrics();
  const making = { seconds: metrics.at(-1)?.seconds, ...options.making };
  const evaluation = await reportRun({ device, teacher, student, data }, files, {
    ...options,
    metrics,
    making,
    config: (await files.text(configFile)) ?? '',
    onProgress: (what) => begin(options.evaluate ? `evaluating: ${what}` : what),
  });
  done();
  if (evaluation) {
    printTables(evaluation.tables);
    console.log(`\n${verdict(student, evaluation, making)}`);
  }
  console.log(
    `\nreport    ${files.path('report.html')}\nstudent   ${files.path('student.safetensors')}, its card ${files.path('README.md')}`,
  );
  return evaluation;
}
