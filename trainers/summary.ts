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
    jumps: report.jumps.map(({ jumps }) => ({ jumps, ...over((e) => rmseOf(e, jumps)) })),
    drift: report.drift.map(({ hops }, i) => ({ hops, ...over((e) => e.report.drift[i].drift) })),
    slicedW2: quality.length ? over((e) => oneJump(e)?.slicedW2 ?? NaN) : null,
    frechet: evaluations.some((e) => !Number.isNaN(frechet(e))) ? over(frechet) : null,
    worth: summarizeWorth(evaluations.map((e) => e.report.worthEulerSteps)),
  };
}

/** NaN where an evaluation of before did not take so many. */
const rmseOf = ({ report }: Evaluation, count: number) =>
  report.jumps.find(({ jumps }) => jumps === count)?.rmse ?? NaN;

const cell = ({ mean, half }: Estimate) => {
  if (Number.isNaN(mean)) return '–';
  return half === null ? mean.toPrecision(3) : `${mean.toPrecision(3)} ± ${half.toPrecision(1)}`;
};

/** Median and range; the median of values beyond the solver's table is a bound, never an average of bounds. */
const worthRange = ({ median, least, most }: WorthSummary, seeds: number) => {
  const middle = median ? worthCell(median) : '–';
  return seeds > 1 ? `${middle} (${worthCell(least)} … ${worthCell(most)})` : middle;
};

/** Numbers of jumps that some recipe was judged by. */
const jumpCounts = (rows: readonly RecipeSummary[]) =>
  [...new Set(rows.flatMap(({ jumps }) => jumps.map(({ jumps: count }) => count)))].sort((a, b) => a - b);

/** A row a recipe. */
export function summaryTable(rows: readonly RecipeSummary[]): Table {
  const [{ drift }] = rows;
  const counts = jumpCounts(rows);
  const judged = rows.some(({ frechet }) => frechet);
  return {
    columns: [
      'recipe',
      'RMSE, random (t, s)',
      ...counts.map((count) => `RMSE, ${count} jump${count > 1 ? 's' : ''}`),
      ...drift.map(({ hops }) => `Δ_${hops}`),
      'sliced W2, 1 jump',
      ...(judged ? ['Fréchet, 1 jump'] : []),
      'worth Euler steps',
    ],
    rows: rows.map(({ name, seeds, random, jumps, drift, slicedW2, frechet, worth }) => [
      name,
      cell(random),
      ...counts.map((count) => cell(jumps.find((row) => row.jumps === count) ?? { mean: NaN, half: null })),
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
      xTicks: jumpCounts(rows),
      series: rows.map(({ name, jumps }) =>
        curve(
          name,
          jumps.flatMap((row) => (Number.isNaN(row.mean) ? [] : { ...row, at: row.jumps })),
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
