import type { TopLevelSpec } from 'vega-lite';
import { UserError } from '../errors.js';
import { PALETTE } from './palette.js';
import { LABEL, renderSvg, THEME } from './plot.js';

export interface BoxPlot {
  xLabel: string;
  yLabel: string;
  /** Side by side on one axis. */
  panels: { name: string; boxes: { at: number; values: readonly number[] }[] }[];
  /** Panels in a row. Default 4. */
  columns?: number;
}

/** What a box shows of its values. */
interface Box {
  panel: string;
  at: number;
  low: number;
  quarter: number;
  median: number;
  threeQuarters: number;
  high: number;
}

/**
 * Box plots on a logarithmic axis, a panel a method: the box holds the middle half, whiskers reach from 5 to 95 %.
 * Such an axis has no place for zero: what of a box is there ends at the least positive value of all.
 * @throws UserError where a box has no positive value
 */
export async function boxPlot({ xLabel, yLabel, panels, columns = 4 }: BoxPlot): Promise<string> {
  const drawn = panels.flatMap(({ boxes: given }) => given.flatMap(({ values }) => values));
  const least = drawn.filter((value) => value > 0).reduce((low, value) => Math.min(low, value), Infinity);
  const boxes = panels.flatMap(({ name, boxes: given }) =>
    given.map(({ at, values }) => boxOf(name, at, values, least)),
  );
  const names = panels.map(({ name }) => name);
  const x = {
    field: 'at',
    type: 'ordinal' as const,
    title: xLabel,
    axis: { labelAngle: 0, grid: false },
  };
  const y = (field: keyof Box) => ({
    field,
    type: 'quantitative' as const,
    title: yLabel,
    scale: { type: 'log' as const, nice: false },
    axis: { labelExpr: LABEL },
  });
  const color = {
    field: 'panel',
    type: 'nominal' as const,
    scale: { domain: names, range: names.map((_, i) => PALETTE[i % PALETTE.length]) },
    legend: null,
  };
  const specification: TopLevelSpec = {
    data: { values: boxes },
    facet: {
      field: 'panel',
      type: 'nominal',
      title: null,
      sort: names,
      header: { labelColor: 'currentColor', labelFontSize: 12 },
    },
    columns,
    spec: {
      width: 150,
      height: 260,
      layer: [
        { mark: { type: 'rule', strokeWidth: 1.5 }, encoding: { x, y: y('low'), y2: { field: 'high' }, color } },
        {
          mark: { type: 'bar', size: 18, opacity: 0.75 },
          encoding: { x, y: y('quarter'), y2: { field: 'threeQuarters' }, color },
        },
        {
          mark: { type: 'tick', size: 18, thickness: 2, color: 'currentColor' },
          encoding: { x, y: y('median') },
        },
      ],
    },
    config: THEME,
  };
  return renderSvg(specification);
}

function boxOf(panel: string, at: number, values: readonly number[], least: number): Box {
  const sorted = Float64Array.from(values).filter(Number.isFinite).sort();
  if (!(sorted[sorted.length - 1] > 0))
    throw new UserError(`the box "${panel}" at ${at} has no positive value to show`);
  const quantile = (share: number) => {
    const place = share * (sorted.length - 1);
    const [below, above] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
    return Math.max(least, below + (above - below) * (place % 1));
  };
  const [low, quarter, median, threeQuarters, high] = [0.05, 0.25, 0.5, 0.75, 0.95].map(quantile);
  return { panel, at, low, quarter, median, threeQuarters, high };
}
