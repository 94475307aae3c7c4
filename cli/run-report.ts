import { evaluateFlowMap, type FlowMapReport } from '../src/flow/evaluate.js';
import type { ClassifierNetwork } from '../src/features/classifier-file.js';
import { Extractor } from '../src/features/extractor.js';
import type { Network } from '../src/flow/network.js';
import type { Device } from '../src/gpu/device.js';
import { renderReport, type ReportPlot, type ReportSection } from '../src/report/html.js';
import { linePlot, lossSeries } from '../src/report/plot.js';
import type { Table } from '../src/report/table.js';
import type { StepMetrics } from '../trainers/trainer.js';
import {
  checkerboardKl,
  evaluationDataset,
  evaluationDefaults,
  exactTruth,
  qualityTable,
  sampleQuality,
  testPoints,
  type QualityRow,
} from './evaluation-data.js';
import { drawPictures } from './pictures.js';
import { evaluationTables, printTables } from './print.js';
import type { RunFolder } from './run-folder.js';

/** An evaluation, with tables for people beside the figures. */
export interface Evaluation {
  report: FlowMapReport;
  /** Distances of samples to held-out data; empty where there is none. */
  quality: QualityRow[];
  tables: { heading: string; table: Table }[];
}

/**
 * Measures a flow map against its teacher, by data where there is some.
 * @param densities whether also by histograms of very many samples, where the data's density is known
 * @param classifier whose features judge samples too
 */
export async function evaluate(
  device: Device,
  teacher: Network,
  student: Network,
  given: string | undefined,
  {
    densities = true,
    classifier,
    ...overrides
  }: { samples?: number; seed?: number; densities?: boolean; classifier?: ClassifierNetwork } = {},
): Promise<Evaluation> {
  const data = await evaluationDataset(teacher, given);
  const report = await evaluateFlowMap(device, teacher, student, {
    ...evaluationDefaults(teacher),
    ...overrides,
    data: testPoints(device, teacher, data),
    truth: exactTruth(teacher, data),
  });
  const extractor = data && classifier && (await Extractor.create(device, classifier, data.shape, data.range));
  const quality = data ? await sampleQuality(device, teacher, student, data, extractor || undefined) : [];
  const tables = evaluationTables(report);
  if (data) tables.push(qualityTable(data, quality));
  if (densities && data?.name === 'checkerboard') tables.push(await checkerboardKl(device, teacher, student));
  return { report, quality, tables };
}

/** Finishes a run: pictures, evaluation.json, report.html, and the tables on the terminal. */
export async function finishReport(
  device: Device,
  folder: RunFolder,
  teacher: Network,
  student: Network,
  data: string | undefined,
  options: { evaluate: boolean; densities: boolean },
): Promise<Evaluation | null> {
  const images = await drawPictures(device, folder, student, teacher);
  const sections: ReportSection[] = [
    { heading: 'Samples', text: 'Jumps of the flow map and Euler steps of its teacher, from the same noise.', images },
  ];
  let evaluation: Evaluation | null = null;
  if (options.evaluate) {
    console.log('evaluating against the true flow map');
    evaluation = await evaluate(device, teacher, student, data, options);
    await folder.write('evaluation.json', `${JSON.stringify(evaluation, null, 2)}\n`);
    printTables(evaluation.tables);
    sections.push({ heading: 'Error against network evaluations', svgs: [await errorPlot(evaluation.report)] });
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
  return evaluation;
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

/** The loss as logged and its mean; null where there is too little of it. */
export async function lossPlot(metrics: readonly StepMetrics[]): Promise<ReportPlot | null> {
  if (!metrics.some(({ loss }) => loss > 0)) return null;
  const [steps, losses] = [metrics.map(({ step }) => step), metrics.map(({ loss }) => loss)];
  const { svg } = await linePlot({
    xLabel: 'step',
    yLabel: 'loss',
    yLog: true,
    series: lossSeries('loss', steps, losses),
  });
  return { svg };
}
