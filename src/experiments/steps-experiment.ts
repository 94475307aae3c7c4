import { frechetCaveat } from '../metrics/frechet.js';
import type { MissingFigure, ReportImage } from '../report/html.js';
import { formatNumber, markdownTable, textTable, type Table } from '../report/table.js';
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
} from './experiment.js';
import { ddim } from './operators.js';
import { stepParadigms } from './paradigms.js';
import { curvesBySteps } from './curves.js';
import { budgets, inpaint, stepsOf, summarizeSteps, type StepsResult } from './steps.js';
import { everywhere, lockKnown } from './test-images.js';

/** Euler steps of the teacher that stand for its true flow. */
const fineSteps = 100;

/** Exp-I: how the result depends on the number of steps. */
export const stepsExperiment: Experiment = {
  async run(context) {
    const { networks, masked, mask, extractor, real, parts, seed, onProgress } = context;
    const fine = await parts.part('steps fine', async () => {
      onProgress(progressLine('steps', 'the teacher', fineSteps));
      return [...(await inpaint(masked, ddim('', networks.teacher, masked.labels), fineSteps))];
    });
    const results: StepsResult[] = [];
    for (const operator of stepParadigms(networks, masked, seed)) {
      const compute = () =>
        stepsOf(masked, mask, operator, Float32Array.from(fine), extractor, shownImages, (budget) =>
          onProgress(progressLine('steps', operator.name, budget)),
        );
      results.push(await parts.part(`steps ${operator.name}`, compute));
    }
    const summaries = results.map((result) => summarizeSteps(result, real, seed));
    const table = stepsTable(summaries);
    const figures: Table = {
      columns: [
        'method',
        'step sensitivity',
        `Fréchet distance, ${budgets[0]} steps over ${budgets[budgets.length - 1]}`,
      ],
      rows: summaries.map(({ method, sensitivity, frechetRatio }) => [
        method,
        intervalCell(sensitivity),
        intervalCell(frechetRatio),
      ]),
    };
    await parts.write('steps.json', json(summaries));
    await parts.write('steps.csv', csv(table));
    await parts.write('steps.md', `${markdownTable(table)}\n\n${markdownTable(figures)}\n`);
    const heading = 'I. Steps: inpainting under a budget';
    const caveat = frechetCaveat(Math.min(masked.count, real.count), real.mean.length);
    const text = [
      'Expected: jumps depend less on the number of steps than integration does. Each method fills the masked region from the ' +
        'same noise; the known region is put back on its reference trajectory after every step.',
      `Seen: ${summaries
        .map(({ method, rows, frechetRatio }) => {
          const [first, last] = [rows[0], rows[rows.length - 1]];
          return `${method} at ${first.budget} steps reads a Fréchet distance of ${formatNumber(first.frechet)}, ${formatNumber(frechetRatio.value)} times that at ${last.budget} steps`;
        })
        .join('; ')}.`,
      ...(caveat ? [`${caveat}.`] : []),
    ].join('\n\n');
    const svgs = [
      await curvesBySteps(
        summaries,
        'RMSE to its own largest budget',
        (row) => row.toOwn,
        'What the number of steps changes: flat and low is insensitive.',
      ),
      await curvesBySteps(
        summaries,
        'Fréchet distance of features',
        (row) => row.frechet,
        'Quality of the filled images, lower is better.',
      ),
    ];
    return {
      sections: [
        { heading, text, images: await grids(context, results, fine), svgs },
        { heading: 'Steps, by method and budget', table },
        { heading: 'Steps, 95 % intervals over images', table: figures },
      ],
      print: `\n${heading}\n${textTable(table)}\n\n${textTable(figures)}${caveat ? `\n${caveat}` : ''}`,
    };
  },
};

type Summaries = ReturnType<typeof summarizeSteps>[];

const stepsTable = (summaries: Summaries): Table => ({
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
});

async function grids(
  context: ExperimentContext,
  results: readonly StepsResult[],
  fine: readonly number[],
): Promise<(ReportImage | MissingFigure)[]> {
  const { masked, teacher } = context;
  const { size, images: originals } = masked;
  const [black, white] = blackAndWhite(teacher);
  const covered = lockKnown(
    { ...masked, noise: new Float32Array(originals.length) },
    new Float32Array(originals.length).fill((black + white) / 2),
    everywhere(masked, 0),
  );
  const images = [];
  for (let i = 0; i < results[0].shown[0].length / size; i++) {
    const [original, given, best] = [originals, covered, fine].map((values) => imageAt(values, i, size));
    const rows = results.map(({ method, shown }) => ({
      name: method,
      images: [original, given, ...shown.map((values) => imageAt(values, i, size)), best],
    }));
    const columns = ['original', 'given', ...budgets.map((budget) => `${budget} steps`), 'fine'];
    images.push(await drawGrid(context, `steps-${i + 1}`, { columns, rows }));
  }
  return images;
}
