import { driftRatios, hopCounts, summarizeDrift, type DriftResult } from '../src/experiments/drift.js';
import { editingTime, rounds, type ChainResult } from '../src/experiments/editing.js';
import { everywhere, lockKnown, type Scene } from '../src/experiments/scene.js';
import { budgets, summarizeSteps, type StepsResult } from '../src/experiments/steps.js';
import type { Network } from '../src/flow/network.js';
import type { Bootstrapped } from '../src/metrics/bootstrap.js';
import type { Moments } from '../src/metrics/frechet.js';
import type { ViolationMap } from '../src/experiments/violation.js';
import { boxPlot } from '../src/report/box-plot.js';
import { heatMap } from '../src/report/heat-map.js';
import { renderReport, type ReportSection } from '../src/report/html.js';
import { labelledGrid } from '../src/report/labelled-grid.js';
import { linePlot } from '../src/report/plot.js';
import { formatNumber, markdownTable, textTable, type Table } from '../src/report/table.js';
import type { PartsFolder } from './parts-folder.js';

/** An experiment's part of the page, and its tables for the terminal. */
export interface Section {
  sections: ReportSection[];
  print: string;
}

/** One offline page of experiments. */
export const pageOf = (about: string, parts: readonly Section[]): string =>
  renderReport({
    title: 'Flow maps, endpoint jumps and integration',
    subtitle: about,
    sections: parts.flatMap(({ sections }) => sections),
  });

/** Exp-I: how the result depends on the number of steps. */
export async function stepsSection(
  folder: PartsFolder,
  results: readonly StepsResult[],
  real: Moments,
  scene: Scene,
  teacher: Network,
  seed: number,
  fine: Float32Array,
): Promise<Section> {
  const summaries = results.map((result) => summarizeSteps(result, real, seed));
  const table: Table = {
    columns: [
      'method',
      'steps',
      `RMSE to its own ${budgets[budgets.length - 1]} steps`,
      "RMSE to the teacher's fine solution",
      'edge, originals = 1',
      'features to its own',
      'class agreement',
      'Fréchet distance',
    ],
    rows: summaries.flatMap(({ method, rows }) =>
      rows.map((row) => [
        method,
        row.budget,
        row.toOwn,
        row.toFine,
        row.coherence,
        row.featuresToOwn,
        row.agreement ?? '–',
        row.frechet,
      ]),
    ),
  };
  const figures: Table = {
    columns: [
      'method',
      'step sensitivity',
      `Fréchet distance, ${budgets[0]} steps over ${budgets[budgets.length - 1]}`,
    ],
    rows: summaries.map(({ method, sensitivity, frechetRatio }) => [
      method,
      interval(sensitivity),
      interval(frechetRatio),
    ]),
  };
  const curves = (yLabel: string, value: (row: (typeof summaries)[0]['rows'][0]) => number) =>
    linePlot({
      xLabel: 'steps',
      yLabel,
      xLog: true,
      yLog: true,
      xTicks: [...budgets],
      series: summaries.map(({ method, rows }) => {
        const shown = rows.filter((row) => value(row) > 0);
        return { name: method, x: shown.map(({ budget }) => budget), y: shown.map(value), marked: true };
      }),
    });
  const svgs = [
    {
      svg: (await curves('RMSE to its own largest budget', (row) => row.toOwn)).svg,
      caption: 'What the number of steps changes: flat and low is insensitive.',
    },
    {
      svg: (await curves('Fréchet distance of features', (row) => row.frechet)).svg,
      caption: 'Quality of the filled images, lower is better.',
    },
  ];
  const image = (values: ArrayLike<number>, i: number) =>
    Array.prototype.slice.call(values, i * scene.size, (i + 1) * scene.size) as number[];
  const covered = lockKnown(
    { ...scene, noise: new Float32Array(scene.images.length) },
    new Float32Array(scene.images.length).fill(middleOf(teacher)),
    everywhere(scene, 0),
  );
  const count = results[0].shown[0].length / scene.size;
  const images = [];
  for (let i = 0; i < count; i++) {
    const [original, given, best] = [scene.images, covered, fine].map((values) => image(values, i));
    const grid = labelledGrid({
      columns: ['original', 'given', ...budgets.map((budget) => `${budget} steps`), 'fine'],
      rows: results.map(({ method, shown }) => ({
        name: method,
        images: [original, given, ...shown.map((values) => image(values, i)), best],
      })),
      shape: teacher.model.sampleShape as [number, number, number],
      range: teacher.description.dataRange ?? [-1, 1],
    });
    const png = grid.toPng();
    await folder.write(`steps-${i + 1}.png`, png);
    images.push({ png });
  }
  await folder.write('steps.json', json(summaries));
  await folder.write('steps.csv', csv(table));
  await folder.write('steps.md', `${markdownTable(table)}\n\n${markdownTable(figures)}\n`);
  const heading = 'I. Steps: inpainting under a budget';
  const text =
    'Expected: jumps depend less on the number of steps than integration does. Each method fills the masked region from the ' +
    'same noise; the known region is put back on its reference trajectory after every step.\n\n' +
    `Seen: ${summaries
      .map(({ method, rows, frechetRatio }) => {
        const [first, last] = [rows[0], rows[rows.length - 1]];
        return `${method} at ${first.budget} steps reads a Fréchet distance of ${formatNumber(first.frechet)}, ${formatNumber(frechetRatio.value)} times that at ${last.budget} steps`;
      })
      .join('; ')}.`;
  return {
    sections: [
      { heading, text, images, svgs },
      { heading: 'Steps, by method and budget', table },
      { heading: 'Steps, 95 % intervals over images', table: figures },
    ],
    print: `\n${heading}\n${textTable(table)}\n\n${textTable(figures)}`,
  };
}

/** Exp-II: how far k hops are from the direct jump. */
export async function driftSection(
  folder: PartsFolder,
  results: readonly DriftResult[],
  scene: Scene,
  teacher: Network,
  seed: number,
): Promise<Section> {
  const summaries = results.map((result) => summarizeDrift(result, seed));
  const table: Table = {
    columns: ['method', ...hopCounts.map((hops) => `Δ_${hops}`), 'growth exponent'],
    rows: summaries.map(({ method, rows, growth }) => [method, ...rows.map(interval), interval(growth)]),
  };
  const [flowMap, ...rest] = results;
  const ratios: Table = {
    columns: [`Δ over that of the ${flowMap.method}`, ...hopCounts.map((hops) => `k = ${hops}`)],
    rows: rest.map((other) => [other.method, ...driftRatios(other, flowMap, seed).map(interval)]),
  };
  const svg = await boxPlot({
    xLabel: 'hops k',
    yLabel: 'Δ_k',
    panels: results.map(({ method, drift }) => ({
      name: method,
      boxes: drift.map(({ hops, values }) => ({ at: hops, values })),
    })),
  });
  const size = scene.size;
  const count = flowMap.shown.direct.length / size;
  const [black, white] = teacher.description.dataRange ?? [-1, 1];
  const images = [];
  for (let i = 0; i < count; i++) {
    const part = (values: readonly number[]) => values.slice(i * size, (i + 1) * size);
    const grid = labelledGrid({
      columns: ['direct', `${hopCounts[hopCounts.length - 1]} hops`, 'difference'],
      rows: results.map(({ method, shown }) => {
        const [direct, composed] = [part(shown.direct), part(shown.composed)];
        // Half of the range is white, so that small differences are seen.
        const difference = direct.map((value, k) => black + Math.min(white - black, 2 * Math.abs(value - composed[k])));
        return { name: method, images: [direct, composed, difference] };
      }),
      shape: teacher.model.sampleShape as [number, number, number],
      range: [black, white],
    });
    const png = grid.toPng();
    await folder.write(`drift-${i + 1}.png`, png);
    images.push({ png });
  }
  await folder.write(
    'drift.json',
    json({
      summaries,
      ratios: rest.map((other) => ({ method: other.method, rows: driftRatios(other, flowMap, seed) })),
    }),
  );
  await folder.write(
    'drift.csv',
    csv({
      columns: ['method', 'image', 'hops', 'drift'],
      rows: results.flatMap(({ method, drift }) =>
        drift.flatMap(({ hops, values }) => values.map((value, i) => [method, i, hops, value])),
      ),
    }),
  );
  await folder.write('drift.md', `${markdownTable(table)}\n\n${markdownTable(ratios)}\n`);
  const heading = 'II. Drift: the direct jump against k hops';
  const text =
    'Expected: hops of a flow map agree with its direct jump, and their difference grows slowly with k; hops by way of the end ' +
    'point drift an order of magnitude more. Jumps go from random times between 0.5 and 1 to 0; the known region is locked to ' +
    'one reference trajectory at every intermediate time; Δ_k is the mean squared difference in the masked region.\n\n' +
    `Seen: ${rest
      .map((other, i) => {
        const by = driftRatios(other, flowMap, seed).map(({ value }) => formatNumber(value, 2));
        return `${other.method} drifts ${by[0]} times as far as the ${flowMap.method} at k = ${hopCounts[0]}, ${by[by.length - 1]} times at k = ${hopCounts[hopCounts.length - 1]}, and grows as k^${formatNumber(summaries[i + 1].growth.value, 2)}`;
      })
      .join('; ')}; the ${flowMap.method} grows as k^${formatNumber(summaries[0].growth.value, 2)}.`;
  return {
    sections: [
      {
        heading,
        text,
        svgs: [{ svg, caption: 'Boxes hold the middle half of the images, whiskers 5 to 95 %.' }],
        images,
      },
      { heading: 'Drift, means and 95 % intervals over images', table },
      { heading: 'Drift beside the flow map', table: ratios },
    ],
    print: `\n${heading}\n${textTable(table)}\n\n${textTable(ratios)}`,
  };
}

/** Chains in which composition cannot be avoided. */
export async function editingSection(
  folder: PartsFolder,
  edits: readonly ChainResult[],
  trips: readonly ChainResult[],
  scene: Scene,
  teacher: Network,
): Promise<Section> {
  const chosen = [1, 2, 4, rounds];
  const tableOf = (chains: readonly ChainResult[]): Table => ({
    columns: [
      'method',
      ...chosen.map((n) => `RMSE, ${n} round${n > 1 ? 's' : ''}`),
      ...chosen.map((n) => `class kept, ${n}`),
    ],
    rows: chains.map(({ method, error, retention }) => [
      method,
      ...chosen.map((n) => error[n - 1]),
      ...chosen.map((n) => retention[n - 1]),
    ]),
  });
  const plotOf = async (chains: readonly ChainResult[], caption: string) => ({
    caption,
    svg: (
      await linePlot({
        xLabel: 'rounds',
        yLabel: 'RMSE to the originals',
        yLog: true,
        series: chains.map(({ method, error }) => ({
          name: method,
          x: error.map((_, i) => i + 1),
          y: error,
          marked: true,
        })),
      })
    ).svg,
  });
  const gridOf = async (chains: readonly ChainResult[], name: string) => {
    const count = chains[0].shown.length / scene.size;
    const part = (values: ArrayLike<number>, i: number) =>
      Array.prototype.slice.call(values, i * scene.size, (i + 1) * scene.size) as number[];
    const each = Array.from({ length: count }, (_, i) => i);
    const png = labelledGrid({
      columns: each.map(() => ''),
      rows: [
        { name: 'originals', images: each.map((i) => part(scene.images, i)) },
        ...chains.map(({ method, shown }) => ({ name: method, images: each.map((i) => part(shown, i)) })),
      ],
      shape: teacher.model.sampleShape as [number, number, number],
      range: teacher.description.dataRange ?? [-1, 1],
    }).toPng();
    await folder.write(`${name}.png`, png);
    return { png, caption: `After ${rounds} rounds.` };
  };
  const [editTable, tripTable] = [tableOf(edits), tableOf(trips)];
  await folder.write('editing.json', json({ edits: edits.map(figures), trips: trips.map(figures) }));
  await folder.write('editing.csv', csv({ ...editTable, rows: [...editTable.rows, ...tripTable.rows] }));
  await folder.write('editing.md', `${markdownTable(editTable)}\n\n${markdownTable(tripTable)}\n`);
  const [editHeading, tripHeading] = [
    `III. Editing: rounds of noise to t = ${editingTime} and back`,
    'IV. Round trips: data to noise and back',
  ];
  return {
    sections: [
      {
        heading: editHeading,
        text: `Expected: errors of one round add up; the better a way back is, the longer the class is kept.\n\nSeen: ${keptLonger(edits)}`,
        svgs: [await plotOf(edits, 'Error by rounds; some of it is the noise, which every method shares.')],
        images: [await gridOf(edits, 'editing')],
        table: editTable,
      },
      {
        heading: tripHeading,
        text: `Expected: without fresh noise an exact flow returns to where it started; what is seen is the error of the method alone.\n\nSeen: ${keptLonger(trips)}`,
        svgs: [await plotOf(trips, 'Error by round trips.')],
        images: [await gridOf(trips, 'round-trips')],
        table: tripTable,
      },
    ],
    print: `\n${editHeading}\n${textTable(editTable)}\n\n${tripHeading}\n${textTable(tripTable)}`,
  };
}

const keptLonger = (chains: readonly ChainResult[]): string =>
  `${chains
    .map(
      ({ method, error, retention }) =>
        `${method}: after ${rounds} rounds RMSE ${formatNumber(error[rounds - 1])} and ${formatNumber(100 * retention[rounds - 1])} % of classes kept`,
    )
    .join('; ')}.`;

/** Where in the plane of times the semigroup law is broken, and by how much. */
export async function violationSection(
  folder: PartsFolder,
  maps: readonly { method: string; map: ViolationMap }[],
): Promise<Section> {
  const table: Table = {
    columns: ['method', 'mean violation', 'worst', 'at t', 'and s'],
    rows: maps.map(({ method, map: { mean, worst } }) => [method, mean, worst.violation, worst.t, worst.s]),
  };
  const svgs = [];
  for (const { method, map } of maps) {
    const cells = map.cells.map(({ t, s, violation }) => ({ x: t, y: s, value: violation }));
    svgs.push({ svg: await heatMap({ title: method, xLabel: 't', yLabel: 's', cells }) });
  }
  await folder.write('violation.json', json(maps));
  await folder.write('violation.csv', csv(table));
  await folder.write('violation.md', `${markdownTable(table)}\n`);
  const heading = 'V. Semigroup violation over (t, s)';
  const text =
    "One jump t → s against two by the middle, mean square over the data's variance: what `semiflow check` tests.\n\n" +
    `Seen: ${maps.map(({ method, map }) => `${method} ${formatNumber(map.mean)} in the mean`).join(', ')}.`;
  return { sections: [{ heading, text, table, svgs }], print: `\n${heading}\n${textTable(table)}` };
}

const figures = ({ method, error, retention }: ChainResult) => ({ method, error, retention });

const interval = ({ value, low, high }: Bootstrapped): string =>
  `${formatNumber(value)} (${formatNumber(low)} … ${formatNumber(high)})`;

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

const csv = ({ columns, rows }: Table): string =>
  [columns.map((column) => (typeof column === 'string' ? column : column.header)), ...rows]
    .map((row) =>
      row.map((cell) => (/[",\n]/.test(String(cell)) ? `"${String(cell).replaceAll('"', '""')}"` : cell)).join(','),
    )
    .join('\n') + '\n';

const middleOf = ({ description: { dataRange: [black, white] = [-1, 1] } }: Network): number => (black + white) / 2;
