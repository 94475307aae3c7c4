import type { SampleMetric } from './metric.js';

/** Share of classes that are the labels. */
export const accuracy = (classes: Uint32Array, labels: Uint32Array): number =>
  classes.reduce((sum, value, i) => sum + Number(value === labels[i]), 0) / classes.length;

export const agreementMetric: SampleMetric = {
  name: 'agreement',
  heading: 'class agreement',
  explanation: 'share of samples that the classifier puts into the class that was asked for',
  needs: 'labels',
  least: 1,
  compute: ({ features, labels }) => accuracy(features!.classes, labels!),
};
