import { bootstrap, slopeOf, type Bootstrapped } from '../metrics/bootstrap.js';
import { formatNumber, markdownTable, textTable, type Table } from '../report/table.js';
import { csv, imageAt, intervalCell, json, progressLine, shownImages } from './experiment.js';
import { paradigmsOf, type LatentContext, type LatentExperiment } from './latent.js';
import { curvesBySteps } from './curves.js';
import { budgets, edgeDifference } from './steps.js';
import { hiddenErrors } from './test-images.js';

/** DDIM steps that stand for the teacher's true flow. */
const fineSteps = 100;

/** What a method made of the samples by one budget, in pixels of the hidden region. */
interface Row {
  readonly budget: number;
  /** Mean squared distance to the same method's largest budget, and to the teacher's fine solution, a sample. */
  readonly toOwn: number[];
  readonly toFine: number[];
  /** Mean absolute difference across the mask's edge over that of the originals. */
  readonly coherence: number;
}

interface Summary {
  readonly method: string;
  readonly rows: readonly (Pick<Row, 'budget' | 'coherence'> & { toOwn: Bootstrapped; toFine: Bootstrapped })[];
  /** Fall of the RMSE to its own largest budget for each doubling of the budget. */
  readonly sensitivity: Bootstrapped;
}

/** Exp-I in latents: how what is painted depends on the number of steps. */
export const latentSteps: LatentExperiment = async (context) => {
  const { subject, parts, mask, originals, count, pixels } = context;
  const { pipelines, seed, onProgress } = subject;
  const methods = paradigmsOf(pipelines);
  const fineLatents = await parts.part('latent steps fine latents', () => {
    onProgress(progressLine('steps', 'the teacher', fineSteps));
    return painted(context, methods[1], [fineSteps]);
  });
  const [fine] = await decoded(context, fineLatents);
  const filled: { method: string; images: Float32Array[] }[] = [];
  for (const method of methods) {
    const latents = await parts.part(`latent steps ${method.name} latents`, () => painted(context, method, budgets));
    filled.push({ method: method.name, images: await decoded(context, latents) });
  }
  const hidden = Uint8Array.from({ length: pixels }, (_, i) => mask.hidden[i % mask.hidden.length]);
  const test = { size: pixels, count, hidden };
  const original = edgeDifference(test, mask, originals);
  const summaries = filled.map(({ method, images }): Summary => {
    const last = images[images.length - 1];
    const rows = images.map((values, i): Row => ({
      budget: budgets[i],
      toOwn: hiddenErrors(test, values, last),
      toFine: hiddenErrors(test, values, fine),
      coherence: original ? edgeDifference(test, mask, values) / original : NaN,
    }));
    return summarize(method, rows, seed);
  });
  const most = budgets[budgets.length - 1];
  const table: Table = {
    columns: [
      'method',
      'steps',
      `RMSE to its own ${most} steps`,
      "RMSE to the teacher's fine solution",
      'edge, originals = 1',
    ],
    rows: summaries.flatMap(({ method, rows }) =>
      rows.map(({ budget, toOwn, toFine, coherence }) => [
        method,
        budget,
        intervalCell(toOwn),
        intervalCell(toFine),
        coherence,
      ]),
    ),
  };
  const figures: Table = {
    columns: ['method', 'step sensitivity'],
    rows: summaries.map(({ method, sensitivity }) => [method, intervalCell(sensitivity)]),
  };
  await parts.write('steps.json', json(summaries));
  await parts.write('steps.csv', csv(table));
  await parts.write('steps.md', `${markdownTable(table)}\n\n${markdownTable(figures)}\n`);
  const heading = 'I. Steps: inpainting under a budget';
  const text =
    'Expected: jumps depend less on the number of steps than integration does. Each method paints the masked region to the ' +
    'same text, from the same noise, with the same guidance.\n\n' +
    `Seen: ${summaries
      .map(({ method, rows: [first], sensitivity }) => {
        const falls = formatNumber(sensitivity.value, 2);
        return `${method} at ${first.budget} steps is ${formatNumber(first.toOwn.value)} from its own ${most}, which falls by ${falls} a doubling`;
      })
      .join('; ')}.`;
  const given = originals.map((value, i) => (hidden[i % pixels] ? 0 : value));
  const images = [];
  for (let i = 0; i < Math.min(shownImages, count); i++)
    images.push(
      await context.grid(`steps-${i + 1}`, {
        columns: ['original', 'given', ...budgets.map((budget) => `${budget} steps`), 'fine'],
        rows: filled.map(({ method, images: made }) => ({
          name: method,
          images: [originals, given, ...made, fine].map((values) => imageAt(values, i, pixels)),
        })),
      }),
    );
  return {
    sections: [
      {
        heading,
        text,
        images,
        svgs: [
          await curvesBySteps(
            summaries,
            'RMSE to its own largest budget',
            (row) => row.toOwn.value,
            'What the number of steps changes.',
          ),
          await curvesBySteps(
            summaries,
            "RMSE to the teacher's fine solution",
            (row) => row.toFine.value,
            'How far it is from the ODE.',
          ),
        ],
      },
      { heading: 'Steps, by method and budget, with 95 % intervals over samples', table },
      { heading: 'How much it falls', table: figures },
    ],
    print: `\n${heading}\n${textTable(table)}\n\n${textTable(figures)}`,
  };
};

/** What a method paints by each budget, in latents: pictures are too much to be kept as text. */
async function painted(
  { subject, open }: LatentContext,
  { name, pipeline, sampler }: ReturnType<typeof paradigmsOf>[number],
  counts: readonly number[],
): Promise<number[][]> {
  const painter = await open(pipeline);
  const latents: number[][] = [];
  try {
    for (const steps of counts) {
      subject.onProgress(progressLine('steps', name, steps));
      latents.push([...(await painter.paint({ sampler, steps }))]);
    }
  } finally {
    painter.dispose();
  }
  return latents;
}

/** Latents by each budget as pictures. */
async function decoded({ decode }: LatentContext, latents: readonly (readonly number[])[]): Promise<Float32Array[]> {
  const images = await decode(Float32Array.from(latents.flat()));
  const each = images.length / latents.length;
  return latents.map((_, i) => images.subarray(i * each, (i + 1) * each));
}

function summarize(method: string, rows: readonly Row[], seed: number): Summary {
  const count = rows[0].toOwn.length;
  const root = (values: readonly number[], indices: Uint32Array) =>
    Math.sqrt(indices.reduce((sum, i) => sum + values[i], 0) / indices.length);
  const between = rows.slice(0, -1);
  const doublings = between.map(({ budget }) => Math.log2(budget));
  return {
    method,
    rows: rows.map(({ budget, coherence, toOwn, toFine }) => ({
      budget,
      coherence,
      toOwn: bootstrap(count, (indices) => root(toOwn, indices), seed),
      toFine: bootstrap(count, (indices) => root(toFine, indices), seed),
    })),
    sensitivity: bootstrap(
      count,
      (indices) =>
        -slopeOf(
          doublings,
          between.map(({ toOwn }) => root(toOwn, indices)),
        ),
      seed,
    ),
  };
}
