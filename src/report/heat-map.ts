import type { TopLevelSpec } from 'vega-lite';
import { renderSvg, THEME } from './plot.js';
import { formatNumber } from './table.js';

export interface HeatMap {
  title: string;
  xLabel: string;
  yLabel: string;
  cells: { x: number; y: number; value: number }[];
  /** The value that is still right: the scale runs a hundredfold below and above it, so that maps compare. */
  budget?: number;
}

/**
 * Values over a grid as coloured cells with their numbers; the colour follows the logarithm. What has none, 0 or less, is
 * coloured as the least positive value, and a value that is no number reads –. With a budget, blue is within and red is over
 * it, whatever else is in the map.
 */
export function heatMap({ title, xLabel, yLabel, cells, budget }: HeatMap): Promise<string> {
  const positive = cells.map(({ value }) => value).filter((value) => value > 0 && value < Infinity);
  const least = positive.length ? Math.min(...positive) : 1;
  const rows = cells.map(({ x, y, value }) => ({
    x,
    y,
    text: Number.isNaN(value) ? '–' : formatNumber(value, 2),
    level: Math.log10(value > 0 && value < Infinity ? value : least),
  }));
  const { scale, isLight } = budget ? budgetScale(budget) : ownScale(rows.map(({ level }) => level));
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
          color: { field: 'level', type: 'quantitative', scale, legend: null },
        },
      },
      {
        mark: { type: 'text', fontSize: 10 },
        encoding: {
          x,
          y,
          text: { field: 'text' },
          color: { condition: { test: isLight, value: '#111111' }, value: '#ffffff' },
        },
      },
    ],
    config: THEME,
  };
  return renderSvg(specification);
}

/** Colours of levels, and in Vega's words where they are so light that text on them is dark. */
interface LevelScale {
  scale: { scheme: 'viridis' | 'redblue'; domain: [number, number]; reverse?: boolean; clamp?: boolean };
  isLight: string;
}

function ownScale(levels: readonly number[]): LevelScale {
  const [low, high] = [Math.min(...levels), Math.max(...levels)];
  // One colour alone has no scale of its own.
  const domain: [number, number] = high > low ? [low, high] : [low - 1, low + 1];
  return { scale: { scheme: 'viridis', domain }, isLight: `datum.level > ${(low + high) / 2}` };
}

/** Decades on either side of a budget. */
const decades = 2;

function budgetScale(budget: number): LevelScale {
  const middle = Math.log10(budget);
  return {
    scale: { scheme: 'redblue', domain: [middle - decades, middle + decades], reverse: true, clamp: true },
    isLight: `abs(datum.level - ${middle}) < ${decades * 0.6}`,
  };
}
