import { exactFlow } from '../src/data/closed-form.js';
import { decode, type Dataset } from '../src/data/dataset.js';
import { distributions, type DistributionName } from '../src/data/distributions.js';
import { loadDataset } from '../src/data/load.js';
import { UserError } from '../src/errors.js';
import { fineSteps, type EvaluationOptions, type TestSet } from '../src/flow/evaluate.js';
import type { Network } from '../src/flow/network.js';
import { guidanceOf } from '../src/flow/runner.js';
import type { Sampler } from '../src/flow/samplers.js';
import { drawSamples } from '../src/flow/sampling.js';
import type { Device } from '../src/gpu/device.js';
import { share, type Extractor } from '../src/features/extractor.js';
import { frechetDistance, momentsOf } from '../src/metrics/frechet.js';
import { checkerboardLaw, histogramKl } from '../src/metrics/histogram-kl.js';
import { kernelDistance } from '../src/metrics/kernel-distance.js';
import { mmd } from '../src/metrics/mmd.js';
import { precisionRecall } from '../src/metrics/precision-recall.js';
import { slicedWasserstein } from '../src/metrics/sliced-wasserstein.js';
import type { Table } from '../src/report/table.js';
import { sameShape, sizeOf } from '../src/tensor/shape.js';
import { hostStreams, seedFor } from '../src/tensor/streams.js';

const isPoints = (network: Network) => sizeOf(network.model.sampleShape) <= 16;

/** Test points and where paths end, by what the teacher is. */
export function evaluationDefaults(teacher: Network): Pick<EvaluationOptions, 'samples' | 'seed' | 'end'> {
  return { samples: isPoints(teacher) ? 6000 : 512, seed: 0, end: teacher.description.minimumTime > 0 ? 0.05 : 0 };
}

/** The data to judge by: what the user gave, or the named set that the teacher was trained on; null where there is none. */
export async function evaluationDataset(teacher: Network, given?: string): Promise<Dataset | null> {
  const { data: named, dataRange } = teacher.description;
  const spec = given ?? (named && named in distributions ? named : undefined);
  if (!spec) return null;
  const data = await loadDataset(spec, { range: dataRange });
  if (!sameShape(data.shape, teacher.model.sampleShape)) {
    throw new UserError(
      `${spec} holds samples of shape [${data.shape}], the teacher makes [${teacher.model.sampleShape}]`,
    );
  }
  return data;
}

/** Held-out data, or samples of the teacher where there is none. */
export function testPoints(device: Device, teacher: Network, data: Dataset | null): EvaluationOptions['data'] {
  return async (count, seed) => {
    if (!data) {
      const { x, labels } = await drawSamples(device, teacher, {
        count,
        seed: seedFor(seed, hostStreams.testData),
        randomLabels: true,
        steps: 64,
        sampler: { name: 'euler' },
      });
      return { x, labels };
    }
    const { values, labels, count: available } = data.heldOut;
    const x = values instanceof Uint8Array ? decode(values, data.range) : values;
    const size = sizeOf(data.shape);
    const rows = Array.from({ length: count }, (_, i) => i % available);
    const chosen = new Float32Array(count * size);
    rows.forEach((row, i) => chosen.set(x.subarray(row * size, (row + 1) * size), i * size));
    return { x: chosen, labels: labels && Uint32Array.from(rows, (row) => labels[row]) };
  };
}

/** The exact flow of a named distribution that has a closed form, which judges teacher and student alike. */
export function exactTruth(teacher: Network, data: Dataset | null): EvaluationOptions['truth'] {
  const { source } = teacher.description;
  const velocity = data && data.name in distributions ? distributions[data.name as DistributionName] : undefined;
  if (!velocity || !('velocity' in velocity) || source.kind !== 'normal') return undefined;
  const exact = velocity.velocity;
  return {
    name: `the exact flow of ${data!.name} (${fineSteps} Heun steps of the closed form)`,
    flow: async ({ x, t, s }: TestSet) => Float32Array.from(exactFlow(exact, x, t, s, fineSteps)),
  };
}

/** How far some samples are from held-out data. */
export interface QualityRow {
  samples: string;
  /** Jumps of the student, or Euler steps of the teacher; 0 for the floor. */
  steps: number;
  slicedW2: number;
  mmd2: number;
  /** By a classifier's features, where one was given. */
  features?: { frechet: number; kernel: number; precision: number; recall: number; agreement: number | null };
}

const qualityCount = (teacher: Network, data: Dataset, most: number) =>
  Math.min(isPoints(teacher) ? 5000 : most, Math.floor(data.heldOut.count / 2));

/** Images for sliced distances alone, and for distances of features, which the field takes over 2000 and more. */
const [imageCount, featureCount] = [1000, 2000];

/**
 * Samples beside held-out data, after the floor: that of data against data.
 * @param extractor sees images; Fréchet distances are to all held-out data, the others to as many as there are samples
 */
export async function sampleQuality(
  device: Device,
  teacher: Network,
  student: Network,
  data: Dataset,
  extractor?: Extractor,
): Promise<QualityRow[]> {
  const size = sizeOf(data.shape);
  const held =
    data.heldOut.values instanceof Uint8Array ? decode(data.heldOut.values, data.range) : data.heldOut.values;
  const count = qualityCount(teacher, data, extractor ? featureCount : imageCount);
  const [reference, other] = [held.subarray(0, count * size), held.subarray(count * size, 2 * count * size)];
  const real = extractor && (await extractor.see(held));
  const moments = real && momentsOf(real.values, real.dim);
  const row = async (samples: string, steps: number, x: Float32Array, labels?: Uint32Array): Promise<QualityRow> => {
    const distances = {
      samples,
      steps,
      slicedW2: slicedWasserstein(x, reference, size),
      mmd2: mmd(x, reference, size).mmd2,
    };
    if (!extractor || !real || !moments) return distances;
    const { values, dim, classes } = await extractor.see(x);
    const few = real.values.subarray(0, count * dim);
    return {
      ...distances,
      features: {
        frechet: frechetDistance(momentsOf(values, dim), moments),
        kernel: kernelDistance(values, few, dim),
        ...precisionRecall(values, few, dim),
        agreement: labels ? share(classes, labels) : null,
      },
    };
  };
  const options = { count, seed: 99, guidance: guidanceOf(student) };
  const euler = { ...options, sampler: { name: 'euler' as const } };
  const plural = (steps: number, noun: string) => `${steps} ${noun}${steps > 1 ? 's' : ''}`;
  const rows = [await row('floor: other held-out data', 0, other, data.heldOut.labels?.subarray(count, 2 * count))];
  for (const steps of [1, 2, 4, 8]) {
    const { x, labels } = await drawSamples(device, student, { ...options, steps });
    rows.push(await row(plural(steps, 'jump'), steps, x, labels));
  }
  for (const steps of extractor ? [1, 2, 4, 8, 50] : [1, 4, 50]) {
    const { x, labels } = await drawSamples(device, teacher, { ...euler, steps });
    rows.push(await row(`${plural(steps, 'Euler step')} of the teacher`, steps, x, labels));
  }
  return rows;
}

export function qualityTable(data: Dataset, rows: readonly QualityRow[]): { heading: string; table: Table } {
  const judged = rows.every(({ features }) => features);
  return {
    heading: `Samples against held-out ${data.name}`,
    table: {
      columns: [
        'samples',
        'sliced W2',
        'MMD²',
        ...(judged ? ['Fréchet', 'kernel distance', 'precision', 'recall', 'class agreement'] : []),
      ],
      rows: rows.map(({ samples, slicedW2, mmd2, features }) => [
        samples,
        slicedW2,
        mmd2,
        ...(features
          ? [features.frechet, features.kernel, features.precision, features.recall, features.agreement ?? '–']
          : []),
      ]),
    },
  };
}

const klSamples = 200_000;

export async function checkerboardKl(device: Device, teacher: Network, student: Network) {
  const law = checkerboardLaw(48);
  const kl = async (network: Network, steps: number, sampler?: Sampler) =>
    histogramKl((await drawSamples(device, network, { count: klSamples, seed: 5, steps, sampler })).x, law);
  const rows: (string | number)[][] = [];
  for (const jumps of [1, 2, 4]) {
    const { kl: value, floor, offSupport } = await kl(student, jumps);
    rows.push([`${jumps} jump${jumps > 1 ? 's' : ''}`, value, floor, offSupport]);
  }
  const { kl: value, floor, offSupport } = await kl(teacher, 50, { name: 'euler' });
  rows.push(['50 Euler steps of the teacher', value, floor, offSupport]);
  return {
    heading: `KL from the checkerboard to ${klSamples} samples in 48 × 48 aligned bins, beside what perfect samples read`,
    table: { columns: ['samples', 'KL', 'floor', 'share outside the squares'], rows },
  };
}
