import type { Store } from '../../src/files/store.js';
import {
  figureOr,
  renderReport,
  type ReportPlot,
  type MissingFigure,
  type ReportSection,
} from '../../src/report/html.js';
import { PALETTE } from '../../src/report/palette.js';
import { linePlot, lossSeries } from '../../src/report/plot.js';
import type { StepMetrics } from '../trainer.js';
import { evaluateStudent, type Evaluation, type EvaluationSubject } from './evaluation.js';
import type { FlowMapReport } from './flow-map.js';
import { drawPictures } from './pictures.js';

/** For the densities of a report: perfect ones read a KL of .01, and it takes seconds. `semiflow eval` draws more. */
const fewSamples = 50_000;

export interface RunReportOptions {
  /** Whether the student is evaluated, not drawn alone. */
  evaluate?: boolean;
  /** Whether also by histograms of samples, where the data's density is known. */
  densities?: boolean;
  /** What was logged in training. */
  metrics?: readonly StepMetrics[];
  /** The run's configuration, as it is shown. */
  config?: string;
  onProgress?: (what: string) => void;
}

/**
 * Says what came of a run: pictures, `evaluation.json` and `report.html`, written to the run's files. Returns the
 * evaluation, null where none was wanted.
 */
export async function reportRun(
  subject: EvaluationSubject,
  files: Pick<Store, 'name' | 'write'>,
  { evaluate = true, densities = true, metrics = [], config, onProgress }: RunReportOptions = {},
): Promise<Evaluation | null> {
  const { device, teacher, student } = subject;
  const images = await drawPictures(device, files, student, teacher);
  const sections: ReportSection[] = [
    { heading: 'Samples', text: 'Jumps of the flow map and Euler steps of its teacher, from the same noise.', images },
  ];
  let evaluation: Evaluation | null = null;
  if (evaluate) {
    evaluation = await evaluateStudent(subject, { densitySamples: densities ? fewSamples : 0, onProgress });
    await files.write('evaluation.json', `${JSON.stringify(evaluation, null, 2)}\n`);
    sections.push({ heading: 'Error against network evaluations', svgs: [await errorPlot(evaluation.report)] });
    sections.push(
      ...evaluation.tables.map(({ heading, table, notes = [], about = [] }) => ({
        heading,
        table,
        text: [notes.join('\n'), about.join('\n')].join('\n\n'),
      })),
    );
  }
  const losses = await lossPlot(metrics);
  if (losses) sections.push({ heading: 'Training', svgs: [losses] });
  if (config !== undefined) sections.push({ heading: 'Configuration', text: config });
  await files.write(
    'report.html',
    renderReport({ title: 'A flow map and its teacher', subtitle: files.name, sections }),
  );
  return evaluation;
}

function errorPlot({ jumps, solvers }: FlowMapReport): Promise<ReportPlot | MissingFigure> {
  const curve = (name: string, rows: readonly { at: number; rmse: number }[]) => ({
    name,
    x: rows.map(({ at }) => at),
    y: rows.map(({ rmse }) => rmse),
    marked: true,
  });
  const by = (wanted: string) =>
    solvers.filter(({ solver }) => solver === wanted).map(({ evaluations, rmse }) => ({ at: evaluations, rmse }));
  return figureOr(
    () =>
      linePlot({
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
      }),
    'Distance to the true flow map from the same noise, by number of network calls.',
  );
}

/** The loss as logged and its mean, those of networks that learn beside it too; null where none was logged. */
export async function lossPlot(metrics: readonly StepMetrics[]): Promise<ReportPlot | MissingFigure | null> {
  if (!metrics.length) return null;
  const steps = metrics.map(({ step }) => step);
  const names = Object.keys(metrics[0]).filter((name) => name === 'loss' || name.endsWith('.loss'));
  const series = names.flatMap((name, i) => {
    const losses = metrics.map((line) => line[name] ?? NaN);
    return lossSeries(name.replace(/\.loss$/, "'s loss"), steps, losses, PALETTE[i % PALETTE.length]);
  });
  return figureOr(() => linePlot({ xLabel: 'step', yLabel: 'loss', yLog: true, series }));
}
