import { agreementMetric } from './accuracy.js';
import { frechetMetric } from './frechet.js';
import { kernelMetric } from './kernel-distance.js';
import type { SampleMetric } from './metric.js';
import { mmdMetric } from './mmd.js';
import { precisionMetric, recallMetric } from './precision-recall.js';
import { slicedWassersteinMetric } from './sliced-wasserstein.js';

/** What samples are judged by, in the order of the tables' columns. */
export const sampleMetrics: readonly SampleMetric[] = [
  slicedWassersteinMetric,
  mmdMetric,
  frechetMetric,
  kernelMetric,
  precisionMetric,
  recallMetric,
  agreementMetric,
];
