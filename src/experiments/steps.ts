import { bootstrap, slopeOf, type Bootstrapped } from '../metrics/bootstrap.js';
import { frechetDistance } from '../metrics/frechet.js';
import { momentsOf, type Moments } from '../metrics/moments.js';
import type { Extractor } from '../features/extractor.js';
import { accuracy } from '../metrics/accuracy.js';
import type { SampleFeatures } from '../metrics/metric.js';
import { boundaryOf, type Mask } from './masks.js';
import type { Operator } from './operators.js';
import { everywhere, hiddenErrors, lockKnown, type TestImages } from './test-images.js';

export const budgets = [2, 4, 8, 16, 30] as const;

/** Filled images of a method by one budget, and what is measured of each. */
export interface BudgetResult {
  budget: number;
  /** Mean squared distance in the hidden region to the same method's largest budget, an image. */
  toOwn: number[];
  /** The same to the teacher's fine solution. */
  toFine: number[];
  /**
   * Mean absolute difference across the mask's edge, over all channels and over that of the originals: 1 is as coherent as
   * these. NaN where the originals have no difference there.
   */
  coherence: number;
  /** Distance of features to those of the same method's largest budget, an image. */
  featuresToOwn: number[];
  /** Share of images that are classified as they are labelled; null without labels. */
  agreement: number | null;
  /** Features [n, dim], for distances between distributions. */
  features: number[];
}

export interface StepsResult {
  method: string;
  budgets: BudgetResult[];
  /** The first images by budget, to be drawn. */
  shown: number[][];
}

/** From noise to data in equal hops, the known region put back after each. */
export async function inpaint(test: TestImages, operator: Operator, hops: number): Promise<Float32Array> {
  let x = test.noise;
  for (let k = 0; k < hops; k++) {
    const s = everywhere(test, 1 - (k + 1) / hops);
    x = lockKnown(test, await operator.go(x, everywhere(test, 1 - k / hops), s, k), s);
  }
  return x;
}

/** One method under all budgets (Exp-I). @param fine the teacher's fine solution of the same test */
export async function stepsOf(
  test: TestImages,
  mask: Mask,
  operator: Operator,
  fine: Float32Array,
  extractor: Extractor,
  shown: number,
  progress: (budget: number) => void,
): Promise<StepsResult> {
  const filled: Float32Array[] = [];
  for (const budget of budgets) {
    progress(budget);
    filled.push(await inpaint(test, operator, budget));
  }
  const features: SampleFeatures[] = [];
  for (const images of filled) features.push(await extractor.see(images));
  const last = budgets.length - 1;
  const original = edgeDifference(test, mask, test.images);
  return {
    method: operator.name,
    budgets: budgets.map((budget, i) => ({
      budget,
      toOwn: hiddenErrors(test, filled[i], filled[last]),
      toFine: hiddenErrors(test, filled[i], fine),
      coherence: original ? edgeDifference(test, mask, filled[i]) / original : NaN,
      featuresToOwn: featureDistances(features[i], features[last]),
      agreement: test.labels ? accuracy(features[i].classes, test.labels) : null,
      features: [...features[i].values],
    })),
    shown: filled.map((images) => rounded(images.subarray(0, shown * test.size))),
  };
}

/** A method's table: means over images, and figures over the budgets with bootstrap intervals over images. */
export interface StepsSummary {
  method: string;
  rows: {
    budget: number;
    toOwn: number;
    toFine: number;
    coherence: number;
    featuresToOwn: number;
    agreement: number | null;
    frechet: number;
  }[];
  /** Fall of the RMSE to its own largest budget for each doubling of the budget. */
  sensitivity: Bootstrapped;
  /** Fréchet distance at the smallest budget over that at the largest. */
  frechetRatio: Bootstrapped;
}

/** @param real features of held-out data */
export function summarizeSteps({ method, budgets: results }: StepsResult, real: Moments, seed: number): StepsSummary {
  const dim = real.mean.length;
  const count = results[0].toOwn.length;
  const moments = (features: number[], indices?: Uint32Array) =>
    momentsOf(indices ? rowsAt(features, dim, indices) : features, dim);
  const [first, last] = [results[0], results[results.length - 1]];
  const between = results.slice(0, -1);
  const doublings = between.map(({ budget }) => Math.log2(budget));
  const meanAt = (values: readonly number[], indices: Uint32Array) =>
    indices.reduce((sum, i) => sum + values[i], 0) / indices.length;
  return {
    method,
    rows: results.map(({ budget, toOwn, toFine, coherence, featuresToOwn, agreement, features }) => ({
      budget,
      toOwn: Math.sqrt(mean(toOwn)),
      toFine: Math.sqrt(mean(toFine)),
      coherence,
      featuresToOwn: mean(featuresToOwn),
      agreement,
      frechet: frechetDistance(moments(features), real),
    })),
    sensitivity: bootstrap(
      count,
      (indices) =>
        -slopeOf(
          doublings,
          between.map(({ toOwn }) => Math.sqrt(meanAt(toOwn, indices))),
        ),
      seed,
    ),
    frechetRatio: bootstrap(
      count,
      (indices) =>
        frechetDistance(moments(first.features, indices), real) /
        frechetDistance(moments(last.features, indices), real),
      seed,
      100,
    ),
  };
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function rowsAt(values: readonly number[], dim: number, indices: Uint32Array): Float64Array {
  return Float64Array.from(
    { length: indices.length * dim },
    (_, i) => values[indices[Math.floor(i / dim)] * dim + (i % dim)],
  );
}

/** Mean absolute difference of neighbours of which one is hidden and the other known, over images and channels. */
export function edgeDifference(
  { size, count }: Pick<TestImages, 'size' | 'count'>,
  mask: Mask,
  x: Float32Array,
): number {
  const edges = boundaryOf(mask);
  const plane = mask.hidden.length;
  const planes = (count * size) / plane;
  let sum = 0;
  for (let i = 0; i < planes; i++) for (const [a, b] of edges) sum += Math.abs(x[i * plane + a] - x[i * plane + b]);
  return sum / (planes * edges.length);
}

function featureDistances(a: SampleFeatures, b: SampleFeatures): number[] {
  return Array.from({ length: a.classes.length }, (_, i) => {
    let sum = 0;
    for (let k = 0; k < a.dim; k++) sum += (a.values[i * a.dim + k] - b.values[i * a.dim + k]) ** 2;
    return Math.sqrt(sum);
  });
}

/** Values short enough for a file that only pictures are drawn from. */
export const rounded = (values: Float32Array): number[] => Array.from(values, (value) => Number(value.toFixed(3)));
