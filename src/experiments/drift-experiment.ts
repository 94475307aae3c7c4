import { boxPlot } from '../report/box-plot.js';
import { figureOr, type MissingFigure, type ReportImage } from '../report/html.js';
import { formatNumber, markdownTable, textTable, type Table } from '../report/table.js';
import { driftOf, driftRatios, hopCounts, summarizeDrift, type DriftResult } from './drift.js';
import {
  blackAndWhite,
  csv,
  drawGrid,
  imageAt,
  intervalCell,
  json,
  progressLine,
  shownImages,
  type Experiment,
  type ExperimentContext,
  type ExperimentResult,
} from './experiment.js';
import { driftParadigms } from './paradigms.js';
import type { Parts } from './parts.js';

/** Exp-II: how far k hops are from the direct jump. */
export const driftExperiment: Experiment = {
  async run(context) {
    const { networks, masked, parts, seed, onProgress } = context;
    const results: DriftResult[] = [];
    for (const operator of driftParadigms(networks, masked)) {
      const compute = () =>
        driftOf(masked, operator, seed, shownImages, (hops) => onProgress(progressLine('drift', operator.name, hops)));
      results.push(await parts.part(`drift ${operator.name}`, compute));
    }
    return driftReport(results, await grids(context, results), { parts, seed, from: 'random times between 0.5 and 1' });
  },
};

/** What is said of chains of hops: tables and box plots, beside pictures of them. The first method is what others are compared with. */
export async function driftReport(
  results: readonly DriftResult[],
  images: (ReportImage | MissingFigure)[],
  { parts, seed, from }: { parts: Parts; seed: number; from: string },
): Promise<ExperimentResult> {
  const summaries = results.map((result) => summarizeDrift(result, seed));
  const table: Table = {
    columns: ['method', ...hopCounts.map((hops) => `Δ_${hops}`), 'growth exponent'],
    rows: summaries.map(({ method, rows, growth }) => [method, ...rows.map(intervalCell), intervalCell(growth)]),
  };
  const [flowMap, ...rest] = results;
  const ratios = rest.map((other) => ({ method: other.method, rows: driftRatios(other, flowMap, seed) }));
  const ratioTable: Table = {
    columns: [`Δ over that of the ${flowMap.method}`, ...hopCounts.map((hops) => `k = ${hops}`)],
    rows: ratios.map(({ method, rows }) => [method, ...rows.map(intervalCell)]),
  };
  await parts.write('drift.json', json({ summaries, ratios }));
  await parts.write(
    'drift.csv',
    csv({
      columns: ['method', 'image', 'hops', 'drift'],
      rows: results.flatMap(({ method, drift }) =>
        drift.flatMap(({ hops, values }) => values.map((value, i) => [method, i, hops, value])),
      ),
    }),
  );
  await parts.write('drift.md', `${markdownTable(table)}\n\n${markdownTable(ratioTable)}\n`);
  const heading = 'II. Drift: the direct jump against k hops';
  const text =
    'Expected: hops of a flow map agree with its direct jump, and their difference grows slowly with k; hops by way of the end ' +
    `point drift an order of magnitude more. Jumps go from ${from} to 0; the known region is locked to ` +
    'one reference trajectory at every intermediate time; Δ_k is the mean squared difference in the masked region.\n\n' +
    `Seen: ${ratios
      .map(({ method, rows }, i) => {
        const by = rows.map(({ value }) => formatNumber(value, 2));
        return `${method} drifts ${by[0]} times as far as the ${flowMap.method} at k = ${hopCounts[0]}, ${by[by.length - 1]} times at k = ${hopCounts[hopCounts.length - 1]}, and grows as k^${formatNumber(summaries[i + 1].growth.value, 2)}`;
      })
      .join('; ')}; the ${flowMap.method} grows as k^${formatNumber(summaries[0].growth.value, 2)}.`;
  const boxes = await figureOr(
    async () => ({
      svg: await boxPlot({
        xLabel: 'hops k',
        yLabel: 'Δ_k',
        panels: results.map(({ method, drift }) => ({
          name: method,
          boxes: drift.map(({ hops, values }) => ({ at: hops, values })),
        })),
      }),
    }),
    'Boxes hold the middle half of the images, whiskers 5 to 95 %.',
  );
  return {
    sections: [
      { heading, text, svgs: [boxes], images },
      { heading: 'Drift, means and 95 % intervals over images', table },
      { heading: 'Drift beside the flow map', table: ratioTable },
    ],
    print: `\n${heading}\n${textTable(table)}\n\n${textTable(ratioTable)}`,
  };
}

async function grids(
  context: ExperimentContext,
  results: readonly DriftResult[],
): Promise<(ReportImage | MissingFigure)[]> {
  const { size } = context.masked;
  const [black, white] = blackAndWhite(context.teacher);
  const images = [];
  for (let i = 0; i < results[0].shown.direct.length / size; i++) {
    const columns = ['direct', `${hopCounts[hopCounts.length - 1]} hops`, 'difference'];
    const rows = results.map(({ method, shown }) => {
      const [direct, composed] = [imageAt(shown.direct, i, size), imageAt(shown.composed, i, size)];
      // Half of the range is white, so that small differences are seen.
      const difference = direct.map((value, k) => black + Math.min(white - black, 2 * Math.abs(value - composed[k])));
      return { name: method, images: [direct, composed, difference] };
    });
    images.push(await drawGrid(context, `drift-${i + 1}`, { columns, rows }));
  }
  return images;
}
