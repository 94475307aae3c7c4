import { evaluateFlowMap, type FlowMapReport } from '../flow/evaluate.js';
import type { Network } from '../flow/network.js';
import type { Device } from '../gpu/device.js';
import { renderReport, type ReportPlot, type ReportSection } from '../report/html.js';
import { linePlot } from '../report/plot.js';
import type { Table } from '../report/table.js';
import type { StepMetrics } from '../../trainers/trainer.js';
import { evaluationDataset, evaluationDefaults, exactTruth, sampleQuality, testPoints } from './evaluation-data.js';
import { drawPictures } from './pictures.js';
import { evaluationTables, printTables } from './print.js';
import type { RunFolder } from './run-folder.js';

/** Where a run's inputs came from, as the user gave them. */
export interface RunPaths {
  teacher: string;
  arch?: string;
  data?: string;
}

/** An evaluation, with tables for people beside the figures. */
export interface Evaluation {
  report: FlowMapReport;
  tables: { heading: string; table: Table }[];
}

/** Measures a flow map against its teacher, by data where there is some. */
export async function evaluate(
  device: Device,
  teacher: Network,
  student: Network,
  given: string | undefined,
  overrides: { samples?: number; seed?: number } = {},
): Promise<Evaluation> {
  const data = await evaluationDataset(teacher, given);
  const report = await evaluateFlowMap(device, teacher, student, {
    ...evaluationDefaults(teacher),
    ...overrides,
    data: testPoints(device, teacher, data),
    truth: exactTruth(teacher, data),
  });
  const quality = data ? await sampleQuality(device, teacher, student, data) : [];
  return { report, tables: [...evaluationTables(report), ...quality] };
}

/** Finishes a run: pictures, evaluation.json, report.html, and the tables on the terminal. */
export async function finishReport(
  device: Device,
  folder: RunFolder,
  teacher: Network,
  student: Network,
  paths: RunPaths,
  options: { evaluate: boolean },
): Promise<FlowMapReport | null> {
  const images = await drawPictures(device, folder, student, teacher);
  const sections: ReportSection[] = [
    { heading: 'Samples', text: 'Jumps of the flow map and Euler steps of its teacher, from the same noise.', images },
  ];
  let report: FlowMapReport | null = null;
  if (options.evaluate) {
    console.log('evaluating against the true flow map');
    const evaluation = await evaluate(device, teacher, student, paths.data);
    report = evaluation.report;
    await folder.write('evaluation.json', `${JSON.stringify(evaluation, null, 2)}\n`);
    printTables(evaluation.tables);
    sections.push({ heading: 'Error against network evaluations', svgs: [await errorPlot(report)] });
    sections.push(...evaluation.tables.map(({ heading, table }) => ({ heading, table })));
  }
  const losses = await lossPlot(folder.metrics());
  if (losses) sections.push({ heading: 'Training', svgs: [losses] });
  sections.push({ heading: 'Configuration', text: folder.configText });
  await folder.write(
    'report.html',
    renderReport({ title: 'A flow map and its teacher', subtitle: folder.path, sections }),
  );
  console.log(`\nreport    ${folder.file('report.html')}\nflow map  ${folder.file(folder.weightsFile)}`);
  return report;
}

async function errorPlot({ jumps, solvers }: FlowMapReport): Promise<ReportPlot> {
  const curve = (name: string, rows: readonly { at: number; rmse: number }[]) => ({
    name,
    x: rows.map(({ at }) => at),
    y: rows.map(({ rmse }) => rmse),
    marked: true,
  });
  const by = (wanted: string) =>
    solvers.filter(({ solver }) => solver === wanted).map(({ evaluations, rmse }) => ({ at: evaluations, rmse }));
  const { svg } = await linePlot({
    xLabel: 'network evaluations',
    yLabel: 'RMSE, noise to data',
    xLog: true,
    yLog: true,
    xTicks: [1, 2, 4, 8, 16, 32, 64],
    series: [
      curve(
        'flow map',
        jumps.map(({ jumps: at, rmse }) => ({ at, rmse })),
      ),
      curve('teacher, Euler', by('euler')),
      curve('teacher, Heun', by('heun')),
    ],
  });
  return { svg, caption: 'Distance to the true flow map from the same noise, by number of network calls.' };
}

/** The loss as logged and its running mean; null where there is too little of it. */
export async function lossPlot(metrics: readonly StepMetrics[]): Promise<ReportPlot | null> {
  if (metrics.length < 2) return null;
  const thin = metrics.filter((_, i) => i % Math.ceil(metrics.length / 600) === 0);
  const width = Math.max(1, Math.round(thin.length / 40));
  const mean = thin.map((_, i) => {
    const near = thin.slice(Math.max(0, i - width), i + width + 1);
    return near.reduce((sum, { loss }) => sum + loss, 0) / near.length;
  });
  const x = thin.map(({ step }) => step);
  const { svg } = await linePlot({
    xLabel: 'step',
    yLabel: 'loss',
    yLog: true,
    series: [
      { name: 'loss', x, y: thin.map(({ loss }) => loss), faint: true },
      { name: 'running mean', x, y: mean },
    ],
  });
  return { svg };
}
