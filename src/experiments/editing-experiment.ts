import { figureOr } from '../report/html.js';
import { linePlot } from '../report/plot.js';
import { formatNumber, markdownTable, textTable, type Table } from '../report/table.js';
import { editingTime, renoisingChain, rounds, roundTripChain, type ChainResult } from './editing.js';
import {
  csv,
  drawGrid,
  imageAt,
  json,
  progressLine,
  shownImages,
  type Experiment,
  type ExperimentContext,
} from './experiment.js';
import { editingParadigms, roundTripParadigms } from './paradigms.js';

/** Chains in which composition cannot be avoided. */
export const editingExperiment: Experiment = {
  async run(context) {
    const { networks, whole, extractor, parts, seed, teacher, onProgress } = context;
    const edits: ChainResult[] = [];
    for (const operator of editingParadigms(networks, whole)) {
      const compute = () => {
        onProgress(progressLine('editing', operator.name));
        return renoisingChain(whole, teacher, operator, extractor, seed, shownImages);
      };
      edits.push(await parts.part(`editing ${operator.name}`, compute));
    }
    const trips: ChainResult[] = [];
    for (const operator of roundTripParadigms(networks, whole)) {
      const compute = () => {
        onProgress(progressLine('round trips', operator.name));
        return roundTripChain(whole, operator, extractor, teacher.description.minimumTime, shownImages);
      };
      trips.push(await parts.part(`round trips ${operator.name}`, compute));
    }
    const [editTable, tripTable] = [chainTable(edits), chainTable(trips)];
    await parts.write('editing.json', json({ edits: edits.map(figures), trips: trips.map(figures) }));
    await parts.write('editing.csv', csv({ ...editTable, rows: [...editTable.rows, ...tripTable.rows] }));
    await parts.write('editing.md', `${markdownTable(editTable)}\n\n${markdownTable(tripTable)}\n`);
    const [editHeading, tripHeading] = [
      `III. Editing: rounds of noise to t = ${editingTime} and back`,
      'IV. Round trips: data to noise and back',
    ];
    return {
      sections: [
        {
          heading: editHeading,
          text: `Expected: errors of one round add up; the better a way back is, the longer the class is kept.\n\nSeen: ${keptLonger(edits)}`,
          svgs: [await chainPlot(edits, 'Error by rounds; some of it is the noise, which every method shares.')],
          images: [await chainGrid(context, edits, 'editing')],
          table: editTable,
        },
        {
          heading: tripHeading,
          text: `Expected: without fresh noise an exact flow returns to where it started; what is seen is the error of the method alone.\n\nSeen: ${keptLonger(trips)}`,
          svgs: [await chainPlot(trips, 'Error by round trips.')],
          images: [await chainGrid(context, trips, 'round-trips')],
          table: tripTable,
        },
      ],
      print: `\n${editHeading}\n${textTable(editTable)}\n\n${tripHeading}\n${textTable(tripTable)}`,
    };
  },
};

const figures = ({ method, error, retention }: ChainResult) => ({ method, error, retention });

function chainTable(chains: readonly ChainResult[]): Table {
  const chosen = [1, 2, 4, rounds];
  return {
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
  };
}

const chainPlot = (chains: readonly ChainResult[], caption: string) =>
  figureOr(
    () =>
      linePlot({
        xLabel: 'rounds',
        yLabel: 'RMSE to the originals',
        yLog: true,
        series: chains.map(({ method, error }) => ({
          name: method,
          x: error.map((_, i) => i + 1),
          y: error,
          marked: true,
        })),
      }),
    caption,
  );

function chainGrid(context: ExperimentContext, chains: readonly ChainResult[], name: string) {
  const { size, images } = context.whole;
  const each = Array.from({ length: chains[0].shown.length / size }, (_, i) => i);
  const rows = [
    { name: 'originals', images: each.map((i) => imageAt(images, i, size)) },
    ...chains.map(({ method, shown }) => ({ name: method, images: each.map((i) => imageAt(shown, i, size)) })),
  ];
  return drawGrid(context, name, { columns: each.map(() => ''), rows }, `After ${rounds} rounds.`);
}

const keptLonger = (chains: readonly ChainResult[]): string =>
  `${chains
    .map(
      ({ method, error, retention }) =>
        `${method}: after ${rounds} rounds RMSE ${formatNumber(error[rounds - 1])} and ${formatNumber(100 * retention[rounds - 1])} % of classes kept`,
    )
    .join('; ')}.`;
