import type { Dataset } from '../../src/data/dataset.js';
import { disjoint, firstOf, shuffledHeldOut, type HeldOut } from '../../src/data/held-out.js';
import type { Extractor } from '../../src/features/extractor.js';
import type { Network } from '../../src/flow/network.js';
import { batchFor, guidanceOf, Runner } from '../../src/flow/runner.js';
import { drawSamplesBy } from '../../src/flow/sampling.js';
import type { Device } from '../../src/gpu/device.js';
import type { Moments } from '../../src/metrics/moments.js';
import { sampleMetrics } from '../../src/metrics/index.js';
import { pairsOn } from '../../src/metrics/pairs.js';
import type { Comparison, Reference, SampleMetric } from '../../src/metrics/metric.js';
import { isPoints } from '../../src/models/model.js';
import { hostStreams, seedFor } from '../../src/tensor/streams.js';
import { SharedFigures } from './shared.js';
import type { EvaluationTable } from './tables.js';
import { affordable } from './truth.js';
import { counted, stepOf } from './words.js';

/** How far some samples are from held-out data, by metrics' names; null where a metric could not be computed. */
export interface QualityRow {
  samples: string;
  /** Whose samples: the data's own are the floor. */
  by: 'data' | 'flow map' | 'teacher';
  /** Jumps of the student, or Euler steps of the teacher; 0 for the floor. */
  steps: number;
  slicedW2: number | null;
  mmd2: number | null;
  [metric: string]: unknown;
  /** By a classifier's features, where one was given. */
  features?: Record<string, number | null>;
}

/** Samples beside held-out data, with what has to be said of the figures. */
export interface SampleQuality {
  rows: QualityRow[];
  notes: string[];
}

/** Points, images for sliced distances alone, and images for distances of features, which the field takes over 2000 and more. */
const most = { points: 5000, images: 1000, features: 2000 };
/** Images of a large network, for sliced distances. */
const fewImages = 128;

/** Values of a sample up to which distances are faster on the host. */
const fewValues = 16;

/** A subject with data to judge by. */
export interface QualitySubject {
  device: Device;
  teacher: Network;
  student: Network;
  data: Dataset;
  /** Sees images. */
  extractor?: Extractor;
  /** Statistics of its features that samples are compared with, in place of those of the data. */
  moments?: Moments;
}

/**
 * Samples beside held-out data, after the floor: that of data against other data. All are compared with the same samples,
 * none of which is in the floor, and as many as there are of each; Fréchet distances to all that are not in the floor.
 */
export async function sampleQuality(
  { device, teacher, student, data, extractor, moments }: QualitySubject,
  { shared = new SharedFigures(), judged = most.images, onProgress = () => {} }: QualityOptions = {},
): Promise<SampleQuality> {
  const held = shuffledHeldOut(data);
  const images = extractor ? most.features : Math.min(judged, affordable(teacher, most.images, fewImages));
  const limit = isPoints(teacher.model.sampleShape) ? most.points : images;
  const [floor, rest] = disjoint(held, limit);
  const { count } = floor;
  if (!count)
    return {
      rows: [],
      notes: [`${data.name} holds ${held.count} held-out samples: two and more are needed to judge by`],
    };
  const metrics = sampleMetrics.filter(({ needs }) => extractor || needs === 'samples');
  const notes = new Set<string>();
  const pairs = held.size > fewValues ? pairsOn(device) : undefined;
  const rowBy =
    (reference: Reference, said: Set<string>) =>
    async (samples: string, by: QualityRow['by'], steps: number, { x, labels }: Drawn): Promise<QualityRow> => {
      onProgress(`samples beside data, ${samples}`);
      const comparison = {
        dim: held.size,
        x,
        labels,
        features: extractor && (await extractor.see(x)),
        reference,
        pairs,
      };
      const made: QualityRow = { samples, by, steps, slicedW2: null, mmd2: null, ...(extractor && { features: {} }) };
      for (const metric of metrics) {
        const value = await measure(metric, comparison, count, said);
        if (metric.needs === 'samples') made[metric.name] = value;
        else made.features![metric.name] = value;
      }
      return made;
    };
  const guidance = guidanceOf(student);
  const options = { count, seed: seedFor(0, hostStreams.qualitySamples) };
  const runner = (network: Network) =>
    new Runner(device, network, batchFor(network.model.sampleShape, count), guidance);
  const [map, field] = [runner(student), runner(teacher)];
  /** What does not depend on the student. */
  const common = async () => {
    onProgress('real samples');
    const reference = { ...(await referenceOf(rest, count, extractor)), ...(moments && { moments }) };
    const said = new Set<string>();
    const row = rowBy(reference, said);
    const real = await row('floor: other held-out data', 'data', 0, floor);
    const rows: QualityRow[] = [];
    for (const steps of extractor ? [1, 2, 4, 8, 50] : [1, 4, 50]) {
      const name = `${counted(steps, 'Euler step')} of the teacher`;
      onProgress(`drawing, ${name}`);
      rows.push(
        await row(
          name,
          'teacher',
          steps,
          await drawSamplesBy(field, { ...options, sampler: { name: 'euler' }, steps }),
        ),
      );
    }
    return { reference, real, rows, said };
  };
  try {
    const { reference, real, rows, said } = await shared.once(`quality ${guidance} ${Boolean(extractor)}`, common);
    for (const note of said) notes.add(note);
    const row = rowBy(reference, notes);
    const jumps: QualityRow[] = [];
    for (const steps of [1, 2, 4, 8])
      jumps.push(
        await row(counted(steps, stepOf(student)), 'flow map', steps, await drawSamplesBy(map, { ...options, steps })),
      );
    return { rows: [real, ...jumps, ...rows], notes: [...notes] };
  } finally {
    map.dispose();
    field.dispose();
  }
}

/** Samples, and the classes that they were asked to be of. */
type Drawn = { x: Float32Array; labels?: Uint32Array };

export interface QualityOptions {
  /** What other students of the teacher were judged by. */
  shared?: SharedFigures;
  /** Images that are judged by their pixels, at most. */
  judged?: number;
  onProgress?: (what: string) => void;
}

async function referenceOf(rest: HeldOut, count: number, extractor?: Extractor): Promise<Reference> {
  const { x } = firstOf(rest, count);
  if (!extractor) return { x };
  const allFeatures = await extractor.see(rest.x);
  const { values, dim, classes } = allFeatures;
  return {
    x,
    allFeatures,
    features: { values: values.subarray(0, count * dim), dim, classes: classes.subarray(0, count) },
  };
}

async function measure(
  metric: SampleMetric,
  comparison: Comparison,
  count: number,
  notes: Set<string>,
): Promise<number | null> {
  const { heading, least, needs } = metric;
  if (count < least) {
    notes.add(`${heading}: needs ${least} samples on either side, there are ${count}`);
    return null;
  }
  if (needs === 'labels' && !comparison.labels) return null;
  const caveat = metric.caveat?.(comparison);
  if (caveat) notes.add(caveat);
  return metric.compute(comparison);
}

/** The table of sample quality, a column a metric. */
export function qualityTable(data: Dataset, { rows, notes }: SampleQuality): EvaluationTable {
  const judged = rows.length > 0 && rows.every(({ features }) => features);
  const metrics = sampleMetrics.filter(({ needs }) => judged || needs === 'samples');
  const cell = (row: QualityRow, { name, needs }: SampleMetric) =>
    ((needs === 'samples' ? row[name] : row.features![name]) as number | null) ?? '–';
  return {
    heading: `Samples against held-out ${data.name}`,
    table: {
      columns: ['samples', ...metrics.map(({ heading }) => heading)],
      rows: rows.map((row) => [row.samples, ...metrics.map((metric) => cell(row, metric))]),
    },
    notes,
    about: metrics.map(({ heading, explanation }) => `${heading}: ${explanation}`),
  };
}
