import type { Store } from '../../src/files/store.js';
import type { Origin } from '../../src/flow/origin.js';
import {
  figureOr,
  renderReport,
  type MissingFigure,
  type ReportPlot,
  type ReportSection,
} from '../../src/report/html.js';
import { PALETTE } from '../../src/report/palette.js';
import { linePlot, lossSeries } from '../../src/report/plot.js';
import { version } from '../../src/version.js';
import type { ClassifierNetwork } from '../../src/features/classifier-file.js';
import { isPoints } from '../../src/models/model.js';
import type { StepMetrics } from '../trainer.js';
import { evaluateStudent, type Evaluation, type EvaluationSubject } from './evaluation.js';
import type { FlowMapReport } from './flow-map.js';
import { modelCard } from './model-card.js';
import { drawPictures } from './pictures.js';
import { SharedFigures } from './shared.js';
import { verdict, type Making } from './verdict.js';
import { nounOf } from './words.js';

/**
 * Points that a report measures errors on, and those of its densities: errors are within 2 %, perfect densities read a KL of
 * .03, and it takes seconds. `semiflow eval` takes more.
 */
const [fewPoints, fewSamples] = [3000, 5000];
/** Images for the same on a processor, where those of `semiflow eval` would take longer than the training did. */
const fewImages = { samples: 64, judged: 128 };

/** What a run's report is made of. */
export interface RunReportOptions {
  /** Whether the student is evaluated, not drawn alone. */
  evaluate?: boolean;
  /** Whether also by histograms of samples, where the data's density is known. */
  densities?: boolean;
  /** Whose features judge samples too. */
  classifier?: ClassifierNetwork;
  /** What was logged in training. */
  metrics?: readonly StepMetrics[];
  /** The run's configuration, as it is shown. */
  config?: string;
  /** How the student came to be, as far as it is known. */
  making?: Making;
  /** The same as its weights say it. */
  origin?: Origin;
  /** What other students of the same teacher were judged by, with the same data. */
  shared?: SharedFigures;
  onProgress?: (what: string) => void;
}

/**
 * Says what came of a run: pictures, `evaluation.json`, `report.html` and the model card `README.md`, written to the run's
 * files. Returns the evaluation, null where none was wanted.
 */
export async function reportRun(
  subject: EvaluationSubject,
  files: Pick<Store, 'name' | 'write'>,
  options: RunReportOptions = {},
): Promise<Evaluation | null> {
  const { evaluate = true, densities = true, metrics = [], config, making = {}, origin, classifier } = options;
  const { shared = new SharedFigures(), onProgress } = options;
  const { device, student, teacher } = subject;
  const drawn = await drawPictures({ ...subject, shared, onProgress }, files);
  const sections: ReportSection[] = [
    {
      heading: 'Samples',
      text: 'All by one scale. Steps of the student and of the teacher start from the same noise: what they make of it should look alike.',
      ...('missing' in drawn ? { images: [drawn] } : drawn),
    },
  ];
  let evaluation: Evaluation | null = null;
  if (evaluate) {
    const densitySamples = densities ? fewSamples : 0;
    const few = isPoints(teacher.model.sampleShape) ? { samples: fewPoints } : device.profile.software ? fewImages : {};
    evaluation = await evaluateStudent(subject, { ...few, densitySamples, classifier, shared, onProgress });
    await files.write('evaluation.json', `${JSON.stringify(evaluation, null, 2)}\n`);
    sections.push(
      { heading: 'Error against network evaluations', svgs: [await errorPlot(evaluation.report, nounOf(student))] },
      ...evaluation.tables.map(({ heading, table, notes = [], about = [] }) => ({
        heading,
        table,
        text: notes.join('\n'),
        about,
      })),
    );
  }
  onProgress?.('the report');
  const losses = await lossPlot(metrics);
  if (losses) sections.push({ heading: 'Training', svgs: [losses] });
  if (config !== undefined) sections.push({ heading: 'Configuration', code: config });
  const noun = nounOf(student);
  const title = `A ${noun}${teacher === student ? '' : ' and its teacher'}`;
  const lead = verdict(student, evaluation, making);
  const facts = factsOf(subject, making);
  await files.write('report.html', renderReport({ title, subtitle: files.name, lead, facts, sections }));
  await files.write('README.md', modelCard({ title, verdict: lead, facts, evaluation, origin }));
  return evaluation;
}

/** What else is to be known of a run: when and on what it was made. */
function factsOf({ device, student }: EvaluationSubject, making: Making): [string, string][] {
  const { method, steps, seed, teacher, data, seconds } = making;
  const { architecture } = student.description;
  const known: [string, string | undefined][] = [
    ['method', method],
    ['steps', steps === undefined ? undefined : `${steps}${seed === undefined ? '' : `, seed ${seed}`}`],
    ['teacher', teacher],
    ['data', data],
    ['network', `${architecture.kind}, ${student.layout.count} weights`],
    ['weights', 'student.safetensors'],
    ['training took', seconds === undefined ? undefined : inWords(seconds)],
    ['date', new Date().toISOString().slice(0, 10)],
    ['semiflow', version],
    ['adapter', device.profile.description],
  ];
  return known.filter((fact): fact is [string, string] => fact[1] !== undefined);
}

const inWords = (seconds: number): string =>
  seconds < 90
    ? `${Math.round(seconds)} s`
    : seconds < 5400
      ? `${Math.round(seconds / 60)} min`
      : `${(seconds / 3600).toFixed(1)} h`;

function errorPlot({ jumps, solvers }: FlowMapReport, student: string): Promise<ReportPlot | MissingFigure> {
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
            student,
            jumps.map(({ jumps: at, rmse }) => ({ at, rmse })),
          ),
          curve('teacher, Euler', by('euler')),
          curve('teacher, Heun', by('heun')),
        ],
      }),
    'Distance to the true flow map from the same noise, by number of network calls: lower is better.',
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
