import type { LoggerInterface } from 'vega';
import type { TopLevelSpec } from 'vega-lite';
import { UserError } from '../errors.js';
import { hex, PALETTE } from './palette.js';

export interface Series {
  name: string;
  x: ArrayLike<number>;
  y: ArrayLike<number>;
  /** Marks each point: for few, measured values. */
  marked?: boolean;
  dashed?: boolean;
  /** Thin and pale: raw values behind their mean. */
  faint?: boolean;
  colour?: string;
  /** Ends of an interval around each y, drawn as a bar. */
  interval?: { low: ArrayLike<number>; high: ArrayLike<number> };
}

export interface LinePlot {
  title?: string;
  xLabel: string;
  yLabel: string;
  xLog?: boolean;
  yLog?: boolean;
  /** Where the x axis is labelled, default round values. */
  xTicks?: number[];
  /** Size of the plotting area in pixels, default 460 × 280. */
  width?: number;
  height?: number;
  series: Series[];
}

export interface PlotResult {
  svg: string;
  /** Points left out because they were not finite, or not positive on a logarithmic axis; the plot says so too. */
  dropped: number;
}

interface Row {
  x: number;
  y: number;
  series: string;
  low?: number;
  high?: number;
}

/**
 * A loss over steps as two series: the values, averaged in bins so that at most 600 are drawn, pale behind their mean
 * over a sixtieth of the run.
 */
export function lossSeries(
  name: string,
  steps: ArrayLike<number>,
  losses: ArrayLike<number>,
  colour: string = PALETTE[0],
): Series[] {
  return [
    { name, ...binMeans(steps, losses, 600), colour, faint: true },
    { name: `${name}, mean`, ...binMeans(steps, losses, 60), colour },
  ];
}

function binMeans(x: ArrayLike<number>, y: ArrayLike<number>, most: number): { x: number[]; y: number[] } {
  const size = Math.max(1, Math.ceil(x.length / most));
  const means = (values: ArrayLike<number>): number[] =>
    Array.from({ length: Math.ceil(values.length / size) }, (_, bin) => {
      const part = Array.from({ length: Math.min(size, values.length - bin * size) }, (_, k) => values[bin * size + k]);
      return part.reduce((sum, value) => sum + value, 0) / part.length;
    });
  return { x: means(x), y: means(y) };
}

/**
 * A line plot as SVG, in colours that suit a light or a dark page (text takes the page's `color`).
 * @throws UserError where no point is left to draw, or a series has more of x than of y
 */
export async function linePlot(plot: LinePlot): Promise<PlotResult> {
  const rows: Row[] = [];
  let given = 0;
  for (const { name, x, y, interval } of plot.series) {
    if (x.length !== y.length)
      throw new UserError(`the series "${name}" of a plot has ${x.length} values of x and ${y.length} of y`);
    given += x.length;
    for (let i = 0; i < x.length; i++) {
      if (canBeDrawn(x[i], plot.xLog) && canBeDrawn(y[i], plot.yLog)) {
        // A bar that reaches below a logarithmic axis is cut off at half of its value.
        const low = interval && canBeDrawn(interval.low[i], plot.yLog) ? interval.low[i] : y[i] / 2;
        rows.push({ x: x[i], y: y[i], series: name, ...(interval && { low, high: interval.high[i] }) });
      }
    }
  }
  if (rows.length === 0)
    throw new UserError(
      `the plot "${plot.title ?? plot.yLabel}" has no point to draw among ${given}: none is finite and fits its axes`,
    );
  const dropped = given - rows.length;
  return { svg: await renderSvg(specification(plot, rows, dropped)), dropped };
}

/**
 * A Vega-Lite specification as SVG.
 * @throws Error where Vega warns, for instance of a zero on a logarithmic axis: it would draw an empty plot
 */
export async function renderSvg(specification: TopLevelSpec): Promise<string> {
  // Loaded when something is drawn: who only trains and samples, in a page above all, does without.
  const [{ compile }, { parse, View, Warn }] = await Promise.all([import('vega-lite'), import('vega')]);
  const logger = strictLogger(Warn);
  const { spec } = compile(specification, { logger });
  const view = new View(parse(spec), { renderer: 'none', logger });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

const LOG = { type: 'log' } as const;

const canBeDrawn = (value: number, log = false): boolean => Number.isFinite(value) && (!log || value > 0);

function specification(plot: LinePlot, rows: Row[], dropped: number): TopLevelSpec {
  const { title, xLabel, yLabel, xLog, yLog, xTicks, width = 460, height = 280, series } = plot;
  const drawn = series.filter(({ name }) => rows.some((row) => row.series === name));
  const names = drawn.map(({ name }) => name);
  const bySeries = <T>(range: T[]): { field: 'series'; type: 'nominal'; scale: { domain: string[]; range: T[] } } => ({
    field: 'series',
    type: 'nominal',
    scale: { domain: names, range },
  });
  // One series needs no legend: the axis already names it.
  const legend = names.length > 1 ? { title: null } : null;
  const color = {
    ...bySeries(drawn.map(({ colour, faint }, k) => (faint ? pale : String)(colour ?? PALETTE[k % PALETTE.length]))),
    legend,
  };
  const x = {
    field: 'x',
    type: 'quantitative' as const,
    title: xLabel,
    scale: { ...(xLog ? LOG : { type: 'linear' as const, zero: false }), nice: false },
    axis: { labelExpr: LABEL, ...(xTicks ? { values: xTicks } : {}) },
  };
  const y = {
    field: 'y',
    type: 'quantitative' as const,
    title: yLabel,
    scale: yLog
      ? { ...LOG, nice: false, domain: logDomain(rows.flatMap((row) => [row.y, row.low ?? row.y, row.high ?? row.y])) }
      : { type: 'linear' as const },
    axis: { labelExpr: LABEL },
  };
  const note =
    dropped === 0
      ? ''
      : `${dropped} of ${rows.length + dropped} points not drawn: not finite${xLog || yLog ? ' or not positive' : ''}`;
  const heading =
    title === undefined
      ? note
        ? { text: note, fontSize: 11, fontWeight: 'normal' as const }
        : undefined
      : { text: title, subtitle: note };
  const dash = { ...bySeries(drawn.map(({ dashed }) => (dashed ? [5, 4] : [1, 0]))), legend };
  return {
    width,
    height,
    ...(heading ? { title: heading } : {}),
    layer: drawn.flatMap(({ name, marked, faint, interval }) => {
      const data = { values: rows.filter((row) => row.series === name) };
      const line = { type: 'line' as const, strokeCap: 'round' as const, strokeJoin: 'round' as const };
      const style = { strokeWidth: faint ? 1 : 2, opacity: 1 };
      const order = { field: 'x', type: 'quantitative' as const };
      const lines = { data, mark: { ...line, ...style }, encoding: { x, y, color, strokeDash: dash, order } };
      const points = {
        data,
        mark: { type: 'point' as const, filled: true, size: 45, opacity: 1 },
        encoding: { x, y, color },
      };
      const bars = {
        data,
        mark: { type: 'rule' as const, strokeWidth: 1.5, opacity: 0.7 },
        encoding: { x, y: { ...y, field: 'low' }, y2: { field: 'high' }, color },
      };
      return [lines, ...(marked ? [points] : []), ...(interval ? [bars] : [])];
    }),
    config: THEME,
  };
}

/** Vega's own thinning of crowded logarithmic axes (empty labels) is kept; numbers are written plainly, exponents only for tiny ones. */
export const LABEL =
  "datum.label === '' ? '' : datum.value === 0 || abs(datum.value) >= 1e-5 ? format(datum.value, ',~r') : format(datum.value, '~e')";

/** A little room beyond the data, not the next whole power of ten. */
const logDomain = (values: number[]): [number, number] => {
  const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, 0]);
  return [low / 1.25, high * 1.25];
};

const pale = (colour: string): string => `rgba(${hex(colour).join(',')},0.35)`;

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif";

export const THEME: TopLevelSpec['config'] = {
  background: 'transparent',
  font: FONT,
  padding: 8,
  view: { stroke: null },
  title: {
    anchor: 'start',
    fontSize: 14,
    fontWeight: 600,
    color: 'currentColor',
    subtitleColor: 'currentColor',
    subtitleFontSize: 11,
    offset: 12,
  },
  axis: {
    labelColor: 'currentColor',
    titleColor: 'currentColor',
    labelOpacity: 0.75,
    labelFontSize: 11,
    titleFontSize: 12,
    titleFontWeight: 'normal',
    titlePadding: 8,
    domainColor: 'currentColor',
    domainOpacity: 0.4,
    tickColor: 'currentColor',
    tickOpacity: 0.4,
    gridColor: 'currentColor',
    gridOpacity: 0.1,
    labelOverlap: 'greedy',
    labelFlush: false,
    tickCount: 6,
  },
  legend: {
    labelColor: 'currentColor',
    labelFontSize: 12,
    labelLimit: 260,
    symbolStrokeWidth: 2,
    symbolType: 'stroke',
    symbolSize: 320,
    orient: 'top',
    columns: 3,
    offset: 10,
  },
};

/** Turns what Vega would only print into an error. @param told up to which Vega tells */
function strictLogger(told: number): LoggerInterface {
  const refuse = (...messages: readonly unknown[]): never => {
    throw new Error(`Vega cannot draw the plot: ${messages.map(String).join(' ')}`);
  };
  const logger: LoggerInterface = {
    level: ((level?: number) => (level === undefined ? told : logger)) as LoggerInterface['level'],
    error: refuse,
    warn: refuse,
    info: () => logger,
    debug: () => logger,
  };
  return logger;
}
