import { figureOr, type MissingFigure, type ReportPlot } from '../report/html.js';
import { linePlot } from '../report/plot.js';
import { budgets } from './steps.js';

/** A curve a method over numbers of steps, both on logarithmic axes; values that are not positive are left out. */
export const curvesBySteps = <Row extends { budget: number }>(
  summaries: readonly { method: string; rows: readonly Row[] }[],
  yLabel: string,
  value: (row: Row) => number,
  caption: string,
): Promise<ReportPlot | MissingFigure> =>
  figureOr(
    () =>
      linePlot({
        xLabel: 'steps',
        yLabel,
        xLog: true,
        yLog: true,
        xTicks: [...budgets],
        series: summaries.map(({ method, rows }) => {
          const drawn = rows.filter((row) => value(row) > 0);
          return { name: method, x: drawn.map(({ budget }) => budget), y: drawn.map(value), marked: true };
        }),
      }),
    caption,
  );
