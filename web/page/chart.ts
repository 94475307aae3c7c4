/** A curve on a canvas, logarithmic upwards: for what falls while one looks. */

export interface Curve {
  name: string;
  /** A CSS colour, or the name of a custom property. */
  colour: string;
  x: readonly number[];
  y: readonly number[];
  /** Drawn pale, with its running mean above it. */
  noisy?: boolean;
}

/** Space for labels, in CSS pixels. */
const margin = { left: 52, right: 12, top: 10, bottom: 24 };
/** Points drawn of a curve at most. */
const most = 700;

/**
 * Draws curves over steps.
 * @param marks places on the x axis where something was changed
 */
export function drawChart(canvas: HTMLCanvasElement, curves: readonly Curve[], marks: readonly number[] = []): void {
  const scale = Math.min(2, devicePixelRatio || 1);
  const [width, height] = [canvas.clientWidth || 300, canvas.clientHeight || 180];
  [canvas.width, canvas.height] = [width * scale, height * scale];
  const context = canvas.getContext('2d')!;
  context.scale(scale, scale);
  const style = getComputedStyle(canvas);
  const colourOf = (name: string) => {
    if (!name.startsWith('--')) return name;
    // As the browser resolves it: a canvas understands no light-dark().
    canvas.style.color = `var(${name})`;
    const { color } = getComputedStyle(canvas);
    canvas.style.color = '';
    return color;
  };
  const drawn = curves.map((curve) => ({ ...curve, ...thinned(curve.x, curve.y) })).filter(({ x }) => x.length);
  context.font = `12px ${style.fontFamily}`;
  context.fillStyle = context.strokeStyle = style.color;
  const values = drawn.flatMap(({ y }) => y).filter((value) => value > 0);
  if (!values.length) return;
  const end = Math.max(1, ...drawn.map(({ x }) => x[x.length - 1]));
  const [low, high] = [Math.log10(Math.min(...values)) - 0.1, Math.log10(Math.max(...values)) + 0.1];
  const across = (x: number) => margin.left + (x / end) * (width - margin.left - margin.right);
  const down = (y: number) =>
    margin.top + ((high - Math.log10(y)) / (high - low)) * (height - margin.top - margin.bottom);
  const inside = (y: number) => y > 0 && Number.isFinite(y);

  context.textAlign = 'right';
  context.textBaseline = 'middle';
  for (const value of ticks(low, high)) {
    context.globalAlpha = 0.25;
    line(context, [
      [margin.left, down(value)],
      [width - margin.right, down(value)],
    ]);
    context.globalAlpha = 1;
    context.fillText(label(value), margin.left - 6, down(value));
  }
  context.textBaseline = 'alphabetic';
  for (const [step, align] of [
    [0, 'left'],
    [end, 'right'],
  ] as const) {
    context.textAlign = align;
    context.fillText(step ? `step ${Math.round(step)}` : '0', across(step), height - 6);
  }
  context.globalAlpha = 0.6;
  context.setLineDash([3, 3]);
  for (const mark of marks)
    line(context, [
      [across(mark), margin.top],
      [across(mark), height - margin.bottom],
    ]);
  context.setLineDash([]);
  for (const { x, y, colour, noisy } of drawn) {
    context.strokeStyle = colourOf(colour);
    const points = (of: readonly number[]) =>
      of.flatMap((value, i) => (inside(value) ? [[across(x[i]), down(value)] as const] : []));
    context.globalAlpha = noisy ? 0.35 : 1;
    context.lineWidth = noisy ? 1 : 2;
    line(context, points(y));
    context.globalAlpha = 1;
    context.lineWidth = 2;
    if (noisy) line(context, points(runningMean(y)));
  }
}

function line(context: CanvasRenderingContext2D, points: readonly (readonly [number, number])[]): void {
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
  context.stroke();
}

/** Means of neighbours, so that few are left. */
function thinned(x: readonly number[], y: readonly number[]): { x: number[]; y: number[] } {
  const size = Math.max(1, Math.ceil(x.length / most));
  const bins = Math.ceil(x.length / size);
  const mean = (values: readonly number[], bin: number) => {
    const part = values.slice(bin * size, (bin + 1) * size);
    return part.reduce((sum, value) => sum + value, 0) / part.length;
  };
  const each = Array.from({ length: bins }, (_, bin) => bin);
  return { x: each.map((bin) => mean(x, bin)), y: each.map((bin) => mean(y, bin)) };
}

/** The geometric mean over a twentieth of the curve around each point. */
function runningMean(y: readonly number[]): number[] {
  const reach = Math.max(2, Math.round(y.length / 40));
  const logs = y.map((value) => Math.log(value));
  return y.map((_, i) => {
    const part = logs.slice(Math.max(0, i - reach), i + reach + 1);
    return Math.exp(part.reduce((sum, value) => sum + value, 0) / part.length);
  });
}

/** Round values between powers of ten, a few of them. */
function ticks(low: number, high: number): number[] {
  const powers = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, i) => Math.floor(low) + i);
  const steps = high - low < 1.6 ? [1, 2, 5] : [1];
  return powers
    .flatMap((power) => steps.map((step) => step * 10 ** power))
    .filter((value) => Math.log10(value) > low && Math.log10(value) < high);
}

const label = (value: number): string =>
  value >= 0.001 && value < 10_000 ? String(Number(value.toPrecision(2))) : value.toExponential(0);
