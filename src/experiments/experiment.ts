import type { Extractor } from '../features/extractor.js';
import type { Network } from '../flow/network.js';
import type { Bootstrapped } from '../metrics/bootstrap.js';
import type { Moments } from '../metrics/moments.js';
import { figureOr, type MissingFigure, type ReportImage, type ReportSection } from '../report/html.js';
import { labelledGrid, type LabelledGrid } from '../report/labelled-grid.js';
import { formatNumber, type Table } from '../report/table.js';
import type { Mask } from './masks.js';
import type { ComparedNetworks } from './paradigms.js';
import type { Parts } from './parts.js';
import type { TestImages } from './test-images.js';

/** What all experiments share. */
export interface ExperimentContext {
  networks: ComparedNetworks;
  teacher: Network;
  extractor: Extractor;
  /** Features of real images, none of which is experimented on, and their number. */
  real: Moments & { count: number };
  /** Images with a mask, and the same without. */
  masked: TestImages;
  whole: TestImages;
  mask: Mask;
  seed: number;
  parts: Parts;
  /** Hears what is being computed. */
  onProgress: (what: string) => void;
}

/** An experiment's part of the page, and its tables as text. */
export interface ExperimentResult {
  sections: ReportSection[];
  print: string;
}

/** One experiment: a file of its own and a line in `experiments/index.ts`. */
export interface Experiment {
  run(context: ExperimentContext): Promise<ExperimentResult>;
}

/** Images that the pictures show. */
export const shownImages = 4;

/** "drift: flow map, 4 steps". */
export const progressLine = (what: string, method: string, steps?: number): string =>
  `${what}: ${method}${steps === undefined ? '' : `, ${steps} step${steps > 1 ? 's' : ''}`}`;

/** A figure with its interval, where it has one. */
export const intervalCell = ({ value, low, high }: Bootstrapped): string => {
  if (Number.isNaN(value)) return '–';
  return Number.isNaN(low)
    ? `${formatNumber(value)} (no interval)`
    : `${formatNumber(value)} (${formatNumber(low)} … ${formatNumber(high)})`;
};

/** A file of figures; what is no finite number becomes null. */
export const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

export const csv = ({ columns, rows }: Table): string =>
  [columns.map((column) => (typeof column === 'string' ? column : column.header)), ...rows]
    .map((row) =>
      row.map((cell) => (/[",\n]/.test(String(cell)) ? `"${String(cell).replaceAll('"', '""')}"` : cell)).join(','),
    )
    .join('\n') + '\n';

/** The values of one image among those of many, as numbers. */
export const imageAt = (values: ArrayLike<number>, i: number, size: number): number[] =>
  Array.prototype.slice.call(values, i * size, (i + 1) * size) as number[];

/** What the teacher's images call black and white. */
export const blackAndWhite = ({ description: { dataRange = [-1, 1] } }: Network): readonly [number, number] =>
  dataRange;

/** A grid of images of the teacher's shape, written as a PNG and shown on the page. */
export function drawGrid(
  { teacher, parts }: ExperimentContext,
  name: string,
  grid: Pick<LabelledGrid, 'columns' | 'rows'>,
  caption?: string,
): Promise<ReportImage | MissingFigure> {
  return figureOr(async () => {
    const shape = teacher.model.sampleShape as [number, number, number];
    const png = labelledGrid({ ...grid, shape, range: blackAndWhite(teacher) }).toPng();
    await parts.write(`${name}.png`, png);
    return { png };
  }, caption);
}
