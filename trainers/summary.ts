import { estimate, type Estimate } from '../src/metrics/estimate.js';
import { summarizeWorth, type WorthSummary } from '../src/metrics/flow-map.js';
import { figureOr, type MissingFigure, type ReportPlot } from '../src/report/html.js';
import { linePlot } from '../src/report/plot.js';
import type { Table } from '../src/report/table.js';
import type { Evaluation } from './evaluation/evaluation.js';
import { worthCell } from './evaluation/tables.js';

/** What the seeds of a recipe say together. */
export interface RecipeSummary {
  name: string;
  seeds: number;
  random: Estimate;
  jumps: ({ jumps: number } & Estimate)[];
  drift: ({ hops: number } & Estimate)[];
  /** Sliced Wasserstein distance of one-jump samples to data; null without data. */
  slicedW2: Estimate | null;
  /** Fréchet distance of one-jump samples to data, by features; null without a classifier. */
  frechet: Estimate | null;
  worth: WorthSummary;
}

/** What evaluations of one recipe say together. */
export function summarizeRecipe(name: string, evaluations: readonly Evaluation[]): RecipeSummary {
  const over = (value: (evaluation: Evaluation) => number) => estimate(evaluations.map(value));
  const [{ report, quality }] = evaluations;
  const oneJump = ({ quality: rows }: Evaluation) => rows.find(({ by, steps }) => by === 'flow map' && steps === 1);
  const frechet = (e: Evaluation) => oneJump(e)?.features?.frechet ?? NaN;
  return {
    name,
    seeds: evaluations.length,
    random: over((e) => e.report.operatorRmse),
    jumps: report.jumps.map(({ jumps }, i) => ({ jumps, ...over((e) => e.report.jumps[i].rmse) })),
    drift: report.drift.map(({ hops }, i) => ({ hops, ...over((e) => e.report.drift[i].drift) })),
    slicedW2: quality.length ? over((e) => oneJump(e)?.slicedW2 ?? NaN) : null,
    frechet: evaluations.some((e) => !Number.isNaN(frechet(e))) ? over(frechet) : null,
    worth: summarizeWorth(evaluations.map((e) => e.report.worthEulerSteps)),
  };
}

const cell = ({ mean, half }: Estimate) => {
  if (Number.isNaN(mean)) return '–';
  return half === null ? mean.toPrecision(3) : `${mean.toPrecision(3)} ± ${half.toPrecision(1)}`;
};

/** Median and range; the median of values beyond the solver's table is a bound, never an average of bounds. */
const worthRange = ({ median, least, most }: WorthSummary, seeds: number) => {
  const middle = median ? worthCell(median) : '–';
  return seeds > 1 ? `${middle} (${worthCell(least)} … ${worthCell(most)})` : middle;
};

/** A row a recipe. */
export function summaryTable(rows: readonly RecipeSummary[]): Table {
  const [{ jumps, drift }] = rows;
  const judged = rows.some(({ frechet }) => frechet);
  return {
    columns: [
      'recipe',
      'RMSE, random (t, s)',
      ...jumps.map(({ jumps: count }) => `RMSE, ${count} jump${count > 1 ? 's' : ''}`),
      ...drift.map(({ hops }) => `Δ_${hops}`),
      'sliced W2, 1 jump',
      ...(judged ? ['Fréchet, 1 jump'] : []),
      'worth Euler steps',
    ],
    rows: rows.map(({ name, seeds, random, jumps, drift, slicedW2, frechet, worth }) => [
      name,
      cell(random),
      ...jumps.map(cell),
      ...drift.map(cell),
      slicedW2 ? cell(slicedW2) : '–',
      ...(judged ? [frechet ? cell(frechet) : '–'] : []),
      worthRange(worth, seeds),
    ]),
  };
}

/** Errors by the number of network calls, and drift by the number of hops. */
export async function summaryFigures(rows: readonly RecipeSummary[]): Promise<(ReportPlot | MissingFigure)[]> {
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
  const errors = () =>
    linePlot({
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
  const drifts = () =>
    linePlot({
      xLabel: 'hops k',
      yLabel: 'semigroup drift Δ_k',
      yLog: true,
      series: rows
        .filter(({ drift }) => drift.some(({ mean }) => mean > 0))
        .map(({ name, drift }) =>
          curve(
            name,
            drift.map((row) => ({ ...row, at: row.hops })),
          ),
        ),
    });
  return [
    await figureOr(errors, 'Distance to the true flow map by number of network calls, each by its own sampler.'),
    await figureOr(drifts, 'Mean square difference between the direct jump and k hops.'),
  ];
}
