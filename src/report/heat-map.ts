import type { TopLevelSpec } from 'vega-lite';
import { renderSvg, THEME } from './plot.js';
import { formatNumber } from './table.js';

export interface HeatMap {
  title: string;
  xLabel: string;
  yLabel: string;
  cells: { x: number; y: number; value: number }[];
}

/**
 * Values over a grid as coloured cells with their numbers; the colour follows the logarithm. What has none, 0 or less, is
 * coloured as the least positive value, and a value that is no number reads –.
 */
export function heatMap({ title, xLabel, yLabel, cells }: HeatMap): Promise<string> {
  const positive = cells.map(({ value }) => value).filter((value) => value > 0 && value < Infinity);
  const least = positive.length ? Math.min(...positive) : 1;
  const rows = cells.map(({ x, y, value }) => ({
    x,
    y,
    text: Number.isNaN(value) ? '–' : formatNumber(value, 2),
    level: Math.log10(value > 0 && value < Infinity ? value : least),
  }));
  const levels = rows.map(({ level }) => level);
  const [low, high] = [Math.min(...levels), Math.max(...levels)];
  const middle = (low + high) / 2;
  // One colour alone has no scale of its own.
  const domain = high > low ? [low, high] : [low - 1, low + 1];
  const axis = (field: 'x' | 'y', label: string) => ({
    field,
    type: 'ordinal' as const,
    title: label,
    sort: field === 'y' ? ('descending' as const) : ('ascending' as const),
    axis: { labelAngle: 0, grid: false },
  });
  const [x, y] = [axis('x', xLabel), axis('y', yLabel)];
  const specification: TopLevelSpec = {
    title: { text: title },
    data: { values: rows },
    width: 52 * new Set(rows.map((row) => row.x)).size,
    height: 30 * new Set(rows.map((row) => row.y)).size,
    layer: [
      {
        mark: { type: 'rect' },
        encoding: {
          x,
          y,
          color: { field: 'level', type: 'quantitative', scale: { scheme: 'viridis', domain }, legend: null },
        },
      },
      {
        mark: { type: 'text', fontSize: 10 },
        encoding: {
          x,
          y,
          text: { field: 'text' },
          color: { condition: { test: `datum.level > ${middle}`, value: '#111111' }, value: '#ffffff' },
        },
      },
    ],
    config: THEME,
  };
  return renderSvg(specification);
}
